"""The wire formats of other rerank APIs, as their clients see them: where to send what, and where the scores are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Body = Callable[[str, Sequence[str]], dict[str, Any]]


def plain(query: str = "query", documents: str = "documents", **fields: Any) -> Body:
    """A body with the query and the documents as strings, in fields of these names, and other fields as given."""
    return lambda asked, texts: {query: asked, documents: [*texts], **fields}


def _nim(query: str, texts: Sequence[str]) -> dict[str, Any]:
    return {"query": {"text": query}, "passages": [{"text": text} for text in texts], "truncate": "END"}


def _pinecone(query: str, texts: Sequence[str]) -> dict[str, Any]:
    return {"query": query, "documents": [{"text": text} for text in texts], "return_documents": False}


def _deepinfra(query: str, texts: Sequence[str]) -> dict[str, Any]:
    return {"queries": [query] * len(texts), "documents": [*texts]}


@dataclass(frozen=True, slots=True)
class Dialect:
    """A rerank API of other servers.

    path: of the route, below the base URL; `{model}` in it stands for the model. body: of a request, without the model.
    results: field of the answer that has the results; "": the answer is their list. score: field of a result with the
    score; "": a result is a score, and they are in the order of the documents. keys: environment variables that may
    have the API key, as the API's own clients and servers name them. tokens: path of the number of tokens in the
    answer. model: an example, if the API needs one; "": it serves one model. instruction: field for an instruction; "":
    the API has none. most: documents in a request. header: of the key. headers: other ones.
    """

    path: str
    body: Body = plain()  # noqa: RUF009 # it makes a function
    results: str = "results"
    score: str = "relevance_score"
    keys: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ("usage", "total_tokens")
    model: str = ""
    instruction: str = ""
    most: int = 1000
    header: str = "Authorization"
    headers: Mapping[str, str] = field(default_factory=dict)


_META_TOKENS = ("meta", "tokens", "input_tokens")
_COHERE_KEYS = ("CO_API_KEY", "COHERE_API_KEY")
DIALECTS: Mapping[str, Dialect] = {
    "cohere": Dialect("/v2/rerank", keys=_COHERE_KEYS, tokens=_META_TOKENS, model="rerank-v3.5"),
    "cohere-v1": Dialect("/v1/rerank", keys=_COHERE_KEYS, tokens=_META_TOKENS, model="rerank-v3.5"),
    "jina": Dialect(
        "/v1/rerank", plain(return_documents=False), keys=("JINA_API_KEY",), model="jina-reranker-v2-base-multilingual"
    ),
    "voyage": Dialect("/v1/rerank", results="data", keys=("VOYAGE_API_KEY",), model="rerank-2.5"),
    "mixedbread": Dialect(
        "/v1/reranking",
        plain(documents="input", return_input=False),
        "data",
        "score",
        keys=("MXBAI_API_KEY", "MIXEDBREAD_API_KEY"),
        model="mixedbread-ai/mxbai-rerank-large-v2",
    ),
    "zeroentropy": Dialect(
        "/v1/models/rerank", keys=("ZEROENTROPY_API_KEY",), tokens=("total_tokens",), model="zerank-2"
    ),
    "pinecone": Dialect(
        "/rerank",
        _pinecone,
        "data",
        "score",
        keys=("PINECONE_API_KEY",),
        model="bge-reranker-v2-m3",
        most=100,
        header="Api-Key",
        headers={"X-Pinecone-Api-Version": "2025-04"},
    ),
    "together": Dialect("/v1/rerank", keys=("TOGETHER_API_KEY",), model="Salesforce/Llama-Rank-V1"),
    "tei": Dialect("/rerank", plain(documents="texts"), "", "score", keys=("HF_TOKEN",), most=32),
    "vllm": Dialect("/v1/rerank", keys=("VLLM_API_KEY",), instruction="instruction"),
    "vllm-score": Dialect(
        "/v1/score", plain("text_1", "text_2"), "data", "score", keys=("VLLM_API_KEY",), instruction="instruction"
    ),
    "sglang": Dialect(
        "/v1/rerank", plain(return_documents=False), "", "score", keys=("SGLANG_API_KEY",), instruction="instruct"
    ),
    "llamacpp": Dialect("/v1/rerank", keys=("LLAMA_API_KEY",)),
    "infinity": Dialect("/rerank", keys=("INFINITY_API_KEY",)),
    "xinference": Dialect("/v1/rerank", keys=("XINFERENCE_API_KEY",), tokens=_META_TOKENS, model="bge-reranker-base"),
    "nim": Dialect(
        "/v1/ranking",
        _nim,
        "rankings",
        "logit",
        keys=("NVIDIA_API_KEY",),
        model="nvidia/llama-3.2-nv-rerankqa-1b-v2",
        most=512,
    ),
    "siliconflow": Dialect(
        "/v1/rerank", keys=("SILICONFLOW_API_KEY",), model="BAAI/bge-reranker-v2-m3", instruction="instruction"
    ),
    "dashscope": Dialect(
        "/compatible-api/v1/reranks", keys=("DASHSCOPE_API_KEY",), model="qwen3-rerank", instruction="instruct"
    ),
    "fireworks": Dialect(
        "/inference/v1/rerank",
        plain(return_documents=False),
        "data",
        keys=("FIREWORKS_API_KEY",),
        model="fireworks/qwen3-reranker-8b",
    ),
    "deepinfra": Dialect(
        "/v1/inference/{model}",
        _deepinfra,
        "scores",
        "",
        keys=("DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"),
        tokens=("input_tokens",),
        model="Qwen/Qwen3-Reranker-0.6B",
        instruction="instruction",
    ),
    "isaacus": Dialect(
        "/v1/rerankings",
        plain(documents="texts"),
        score="score",
        keys=("ISAACUS_API_KEY",),
        tokens=("usage", "input_tokens"),
        model="kanon-2-reranker",
    ),
}
