"""The table of rerank routes: which API a path, and a body under it, belong to."""

from collections.abc import Mapping

from msgspec import Raw

from sie_server.api.dialects.cohere import COHERE_V1, COHERE_V2, JINA, SIE, TOGETHER, VLLM, XINFERENCE
from sie_server.api.dialects.data import MIXEDBREAD, PINECONE, SCORES, VOYAGE
from sie_server.api.dialects.dialect import Dialect
from sie_server.api.dialects.lists import SGLANG, TEI
from sie_server.api.dialects.others import INFINITY, NIM, WEAVIATE, ZEROENTROPY

# Paths of clients whose base URL cannot have a prefix, or has none. The body may tell another API than the path.
ROOTS: Mapping[str, Dialect] = {
    "/v1/rerank": SIE,
    "/rerank": COHERE_V1,
    "/v2/rerank": COHERE_V2,
    "/reranking": COHERE_V1,
    "/v1/reranking": COHERE_V1,
    "/score": SCORES,
    "/v1/score": SCORES,
    "/v1/ranking": NIM,
    "/v1/rerankings": TEI,
    "/v1/models/rerank": ZEROENTROPY,
}
# Paths under the prefix of an API, where it alone is spoken.
PREFIXED: Mapping[str, Dialect] = {
    **{f"/cohere{path}": dialect for path, dialect in (("/v1/rerank", COHERE_V1), ("/v2/rerank", COHERE_V2))},
    **dict.fromkeys(("/jina/v1/rerank", "/jina/rerank"), JINA),
    **dict.fromkeys(("/voyage/v1/rerank", "/voyage/rerank"), VOYAGE),
    "/mixedbread/v1/reranking": MIXEDBREAD,
    **dict.fromkeys(("/zeroentropy/models/rerank", "/zeroentropy/v1/models/rerank"), ZEROENTROPY),
    "/pinecone/rerank": PINECONE,
    **dict.fromkeys(("/together/v1/rerank", "/together/rerank"), TOGETHER),
    "/tei/rerank": TEI,
    **dict.fromkeys(("/vllm/rerank", "/vllm/v1/rerank", "/vllm/v2/rerank"), VLLM),
    **dict.fromkeys(("/vllm/score", "/vllm/v1/score"), SCORES),
    **dict.fromkeys(("/sglang/v1/rerank", "/sglang/rerank"), SGLANG),
    **dict.fromkeys(("/infinity/rerank", "/infinity/v1/rerank"), INFINITY),
    **dict.fromkeys(("/xinference/v1/rerank", "/xinference/rerank"), XINFERENCE),
    **dict.fromkeys(("/nim/v1/ranking", "/nim/ranking"), NIM),
    "/weaviate/rerank": WEAVIATE,
}
# OpenAI's embeddings under the prefixes whose clients embed at the same base URL. Errors have the form of the prefix.
EMBEDDINGS = (
    "/voyage/v1/embeddings",
    "/jina/v1/embeddings",
    "/vllm/v1/embeddings",
    "/nim/v1/embeddings",
    "/mixedbread/v1/embeddings",
    "/together/v1/embeddings",
    "/together/embeddings",
    "/infinity/embeddings",
    "/xinference/v1/embeddings",
)
# Prefixes under which the models are listed, for clients that ask for them at their base URL.
LISTED = ("", "/nim", "/vllm", "/xinference")
ROUTES: Mapping[str, Dialect] = {**ROOTS, **PREFIXED}
# The first field that a body has tells its API, where the path does not.
_BY_FIELD: tuple[tuple[str, Dialect], ...] = (("input", MIXEDBREAD), ("passages", NIM), ("property", WEAVIATE))


def spoken(path: str, fields: Mapping[str, Raw]) -> Dialect:
    """The API of a request, by its path and the fields of its body."""
    if path in PREFIXED or ROUTES[path] in (SCORES, ZEROENTROPY):
        return ROUTES[path]
    if "texts" in fields and bytes(fields["texts"])[:1] == b"[":
        return TEI
    for field, dialect in _BY_FIELD:
        if field in fields:
            return dialect
    if ("top_k" in fields or "truncation" in fields) and "top_n" not in fields:
        return VOYAGE
    return ROUTES[path]
