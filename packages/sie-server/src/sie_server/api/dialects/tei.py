"""Answers of TEI (text-embeddings-inference): a bare list of ranks, and the description of a model."""

from msgspec import UNSET, Struct, UnsetType, field

from sie_server.api.dialects.dialect import Dialect, Ranked, Written


class Rank(Struct, gc=False):
    index: int
    score: float
    text: str | UnsetType = UNSET


class Ranks(Struct):
    results: list[Rank] = field(default_factory=list)


def _tei(ranked: Ranked) -> Written:
    return Written(
        Ranks(),
        "results",
        (Rank(index, score, text if ranked.give_back else UNSET) for index, score, text, _ in ranked.results()),
    )


class Labels(Struct):
    id2label: dict[str, str]
    label2id: dict[str, int]


class PoolingType(Struct):
    pooling: str


class ModelType(Struct):
    reranker: Labels | UnsetType = UNSET
    embedding: PoolingType | UnsetType = UNSET


class Info(Struct):
    """Answer of TEI's `GET /info`, for the model of requests that name none."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    model_type: ModelType
    max_input_length: int | None
    max_client_batch_size: int
    tokenization_workers: int
    version: str
    auto_truncate: bool = True


TEI = Dialect("tei", _tei, Ranks, bare=True, plain_errors=True, busy=429)
