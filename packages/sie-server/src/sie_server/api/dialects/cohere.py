"""Answers of Cohere's API, and of those that have its `results`: Jina, Together, vLLM, LocalAI, Xinference, SIE."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from sie_server.api.dialects.dialect import Dialect, Ranked, Written
from sie_server.api.dialects.spans import RelevantSpan


class Document(Struct, gc=False):
    text: str


class Result(Struct, gc=False):
    """`index`: position of the document in the request. `document`, `relevant_spans`: if the request asks for them."""

    index: int
    relevance_score: float
    document: Annotated[Any, Meta(extra_json_schema={"type": "object"})] = UNSET
    relevant_spans: list[RelevantSpan] | UnsetType = UNSET


class RankingUsage(Struct):
    prompt_tokens: int
    total_tokens: int
    input_tokens: int
    completion_tokens: int = 0


class ApiVersion(Struct):
    version: str


class BilledUnits(Struct):
    search_units: int


class Tokens(Struct):
    input_tokens: int
    output_tokens: int = 0


class RankingMeta(Struct):
    """`search_units`: of a hundred documents each. `warnings`: of fields that changed nothing, and cut documents."""

    api_version: ApiVersion
    billed_units: BilledUnits
    tokens: Tokens
    warnings: list[str] | UnsetType = UNSET


class Results(Struct):
    """`results` by descending score; equal scores keep the order of the request."""

    id: str
    model: str
    results: list[Result]
    usage: RankingUsage
    meta: RankingMeta
    object: Literal["list", "rerank"] = "list"


def usage(ranked: Ranked) -> RankingUsage:
    """The tokens, in the words of every API."""
    return RankingUsage(ranked.tokens, ranked.tokens, ranked.tokens)


def _document(text: str, given: Any) -> Document | dict[str, Any]:
    return Document(text) if isinstance(given, str) else {"text": text, **given}


def _results(ranked: Ranked) -> Iterator[Result]:
    for index, score, text, given in ranked.results():
        spans = ranked.spans(index) if ranked.spans is not None else None
        yield Result(index, score, _document(text, given) if ranked.give_back else UNSET, spans or UNSET)


def _written(ranked: Ranked, version: str, kind: Literal["list", "rerank"] = "list") -> Written:
    meta = RankingMeta(
        ApiVersion(version),
        BilledUnits(-(-len(ranked.scores) // 100)),
        Tokens(ranked.tokens),
        ranked.warnings or UNSET,
    )
    body = Results(ranked.id, ranked.model, [], usage(ranked), meta, kind)
    return Written(body, "results", _results(ranked))


class VllmDocument(Struct, gc=False):
    text: str
    multi_modal: None = None


class VllmResult(Struct, gc=False):
    index: int
    relevance_score: float
    document: VllmDocument | UnsetType = UNSET


class VllmResults(Struct):
    id: str
    model: str
    usage: RankingUsage
    results: list[VllmResult] = field(default_factory=list)


def _vllm(ranked: Ranked) -> Written:
    results = (
        VllmResult(index, score, VllmDocument(text) if ranked.give_back else UNSET)
        for index, score, text, _ in ranked.results()
    )
    return Written(VllmResults(f"rerank-{ranked.id}", ranked.model, usage(ranked)), "results", results)


SIE = Dialect("", lambda ranked: _written(ranked, "1"), Results, scores="own", spans=True)
COHERE_V1 = Dialect("cohere", lambda ranked: _written(ranked, "1"), Results, spans=True)
COHERE_V2 = Dialect("cohere", lambda ranked: _written(ranked, "2"), Results, spans=True)
JINA = Dialect("jina", lambda ranked: _written(ranked, "1"), Results, give_back=True)
TOGETHER = Dialect("together", lambda ranked: _written(ranked, "1", "rerank"), Results)
VLLM = Dialect("vllm", _vllm, VllmResults, give_back=True, busy=429, none_is_all=True)
