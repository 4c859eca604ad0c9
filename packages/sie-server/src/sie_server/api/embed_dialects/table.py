"""The table of embedding routes: which API a path belongs to."""

from collections.abc import Mapping

from sie_server.api.embed_dialects.cohere import COHERE_V1, COHERE_V2
from sie_server.api.embed_dialects.dialect import EmbedDialect
from sie_server.api.embed_dialects.mixedbread import MIXEDBREAD
from sie_server.api.embed_dialects.openai import LIKE_OPENAI, OPENAI, TEI_OPENAI, VLLM, VOYAGE
from sie_server.api.embed_dialects.pinecone import PINECONE
from sie_server.api.embed_dialects.tei import EMBED, EMBED_ALL, EMBED_SPARSE
from sie_server.api.embed_dialects.vllm_pooling import POOLING
from sie_server.api.embed_dialects.zeroentropy import ZEROENTROPY

EMBED_ROUTES: Mapping[str, EmbedDialect] = {
    "/v1/embeddings": OPENAI,
    **{f"{prefix}/embed": EMBED for prefix in ("", "/tei")},
    **{f"{prefix}/embed_sparse": EMBED_SPARSE for prefix in ("", "/tei")},
    **{f"{prefix}/embed_all": EMBED_ALL for prefix in ("", "/tei")},
    "/tei/v1/embeddings": TEI_OPENAI,
    **{f"{prefix}/v1/embed": COHERE_V1 for prefix in ("", "/cohere")},
    **{f"{prefix}/v2/embed": COHERE_V2 for prefix in ("", "/cohere")},
    **{f"{prefix}/pooling": POOLING for prefix in ("", "/vllm")},
    "/vllm/v1/embeddings": VLLM,
    **dict.fromkeys(("/voyage/v1/embeddings", "/voyage/embeddings"), VOYAGE),
    **{
        f"/{name}{path}": LIKE_OPENAI
        for name in ("jina", "nim", "together", "infinity", "xinference")
        for path in ("/v1/embeddings", "/embeddings")
    },
    "/mixedbread/v1/embeddings": MIXEDBREAD,
    **dict.fromkeys(("/v1/models/embed", "/zeroentropy/v1/models/embed", "/zeroentropy/models/embed"), ZEROENTROPY),
    "/pinecone/embed": PINECONE,
}
