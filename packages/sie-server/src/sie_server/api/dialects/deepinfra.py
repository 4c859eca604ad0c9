"""DeepInfra's answer: the scores of pairs, in the order of the request."""

from typing import Literal

from msgspec import Struct

from sie_server.api.dialects.dialect import Dialect, Ranked, Written


class InferenceStatus(Struct):
    tokens_input: int
    runtime_ms: int
    status: Literal["succeeded"] = "succeeded"


class DeepInfraScores(Struct):
    scores: list[float]
    input_tokens: int
    request_id: str
    inference_status: InferenceStatus


def _deepinfra(ranked: Ranked) -> Written:
    status = InferenceStatus(ranked.tokens, round(ranked.seconds * 1000))
    return Written(DeepInfraScores([], ranked.tokens, ranked.id, status), "scores", iter(ranked.scores))


DEEPINFRA = Dialect("deepinfra", _deepinfra, DeepInfraScores, in_order=True)
