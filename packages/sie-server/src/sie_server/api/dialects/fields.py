"""The fields of rerank requests in any API, and what each of them means."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from sie_server import wire
from sie_server.api.dialects.spans import RelevantSpans

Flag = bool | Literal["true", "false", "True", "False"]
Text = str | dict[str, Any]
Texts = list[Text]
_Count = Annotated[int, Meta(ge=0)]


class RerankFields(Struct):
    """Body of a rerank request, in the fields of any API. One of `query` and the texts is required.

    Texts to rank: `documents`, `texts`, `input`, or `passages`. Of a score request: `text_1` and `text_2`, `data_1` and
    `data_2`, `queries` and `documents`, or `queries` and `items`. `top_n`, `top_k`: number of results.
    `return_documents`, `return_text`, `return_input`: repeat the texts. `rank_fields`: fields of documents that are
    objects. `instruction`, `instruct`: of a model that takes one. `raw_scores`, `use_activation`, `activation`,
    `softmax`: the score before its activation. `max_tokens_per_doc`, `max_doc_length`, `max_tokens_per_query`,
    `truncate_prompt_tokens`: limits on tokens. `truncation`, `truncate`: refuse a document over the limit if false or
    "NONE". `truncation_direction`, `truncation_side`, `truncate`: cut documents at the left if "left" or "START".
    `max_chunks_per_doc`: if over 1, score a long document in windows. `priority`: above 0, it can wait. `parameters`:
    any of the other fields. `relevant_spans`: the parts of a document that its score is due to. `scoring_method`: the
    model's own, which is "auto".
    """

    model: str | None = None
    query: Text | None = None
    documents: Text | Texts | None = None
    texts: Texts | None = None
    input: Texts | None = None
    passages: Texts | None = None
    text_1: Text | Texts | None = None
    text_2: Text | Texts | None = None
    data_1: Text | Texts | None = None
    data_2: Text | Texts | None = None
    queries: Text | Texts | None = None
    items: Text | Texts | None = None
    top_n: _Count | None = None
    top_k: _Count | None = None
    return_documents: Flag | None = None
    return_text: Flag | None = None
    return_input: Flag | None = None
    rank_fields: list[str] | None = None
    instruction: str | None = None
    instruct: str | None = None
    raw_scores: Flag | None = None
    use_activation: Flag | None = None
    activation: Flag | None = None
    softmax: Flag | None = None
    max_tokens_per_doc: _Count | None = None
    max_doc_length: _Count | None = None
    max_tokens_per_query: _Count | None = None
    truncate_prompt_tokens: Annotated[int, Meta(ge=-1)] | None = None
    truncation: Flag | None = None
    truncate: bool | str | None = None
    truncation_direction: str | None = None
    truncation_side: str | None = None
    max_chunks_per_doc: Annotated[int, Meta(ge=1)] | None = None
    priority: int | None = None
    parameters: dict[str, Any] | None = None
    relevant_spans: RelevantSpans | None = None
    latency: str | None = None
    scoring_method: Literal["auto"] | None = None
    options: wire.ScoreOptions | None = None


# Fields of clients that change nothing here. They are named in the answer.
IGNORED = frozenset(
    {
        *("cache_salt", "chat_template_kwargs", "encoding_format", "kwargs", "mm_processor_kwargs", "overlap_tokens"),
        *("property", "request_id", "return_len", "score_threshold", "service_tier", "user"),
        *("return_embeddings", "rewrite_query", "is_iql", "chunking_options"),
    }
)
# Of these, the ones that ask for another answer unless they are false or empty.
MEANINGFUL = frozenset({"return_embeddings", "rewrite_query", "chat_template_kwargs", "is_iql", "chunking_options"})
MUST = {
    "model": "must be a non-empty string",
    "query": "must be a non-empty string",
    "documents": "must be a non-empty array of strings",
    "scoring_method": "must be 'auto': a model has one way to score",
    **dict.fromkeys(("top_n", "top_k"), "must be a positive integer"),
    **dict.fromkeys(("return_documents", "return_text", "return_input", "truncation"), "must be a boolean"),
}
