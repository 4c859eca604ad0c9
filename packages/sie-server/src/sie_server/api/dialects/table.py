"""The table of rerank routes: which API a path, and a body under it, belong to."""

from collections.abc import Mapping

from msgspec import Raw

from sie_server.api.dialects.cohere import COHERE_V1, COHERE_V2, JINA, SIE, TOGETHER, VLLM
from sie_server.api.dialects.deepinfra import DEEPINFRA
from sie_server.api.dialects.dialect import Dialect
from sie_server.api.dialects.infinity import INFINITY
from sie_server.api.dialects.isaacus import ISAACUS
from sie_server.api.dialects.mixedbread import MIXEDBREAD
from sie_server.api.dialects.nim import NIM
from sie_server.api.dialects.pinecone import PINECONE
from sie_server.api.dialects.sglang import SGLANG
from sie_server.api.dialects.tei import TEI
from sie_server.api.dialects.vllm_score import SCORES
from sie_server.api.dialects.voyage import FIREWORKS, VOYAGE
from sie_server.api.dialects.weaviate import WEAVIATE
from sie_server.api.dialects.xinference import XINFERENCE
from sie_server.api.dialects.zeroentropy import ZEROENTROPY

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
    "/v1/rerankings": ISAACUS,
    "/v1/models/rerank": ZEROENTROPY,
    "/v1/inference/{model:path}": DEEPINFRA,
    "/compatible-api/v1/reranks": COHERE_V1,
    "/inference/v1/rerank": FIREWORKS,
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
    "/isaacus/v1/rerankings": ISAACUS,
    "/deepinfra/v1/inference/{model:path}": DEEPINFRA,
    "/dashscope/compatible-api/v1/reranks": COHERE_V1,
    "/fireworks/inference/v1/rerank": FIREWORKS,
}
# Prefixes under which the models are listed, for clients that ask for them at their base URL.
LISTED = ("", "/nim", "/vllm", "/xinference")
ROUTES: Mapping[str, Dialect] = {**ROOTS, **PREFIXED}
# Spoken at their paths by nobody else.
_ALONE = (SCORES, ZEROENTROPY, ISAACUS, DEEPINFRA, FIREWORKS)
# The first field that a body has tells its API, where the path does not.
_BY_FIELD: tuple[tuple[str, Dialect], ...] = (("input", MIXEDBREAD), ("passages", NIM), ("property", WEAVIATE))


def spoken(path: str, fields: Mapping[str, Raw]) -> Dialect:
    """The API of a request, by its path and the fields of its body."""
    if path in PREFIXED or ROUTES[path] in _ALONE:
        return ROUTES[path]
    if "texts" in fields and bytes(fields["texts"])[:1] == b"[":
        return TEI
    for field, dialect in _BY_FIELD:
        if field in fields:
            return dialect
    if ("top_k" in fields or "truncation" in fields) and "top_n" not in fields:
        return VOYAGE
    return ROUTES[path]
