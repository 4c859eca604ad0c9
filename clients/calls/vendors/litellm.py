"""The calls of LiteLLM, through the providers that take a base URL."""

import litellm
from harness import Target, call, refused, refused_async, same


def rerank(t: Target, provider: str, path: str, **fields: object) -> litellm.RerankResponse:
    fields = {"query": t.query, "documents": t.documents, **fields}
    return litellm.rerank(model=f"{provider}/{t.reranker}", api_base=t.url + path, api_key=t.key, **fields)


def ranked(t: Target, answer: litellm.RerankResponse, top: int | None = None, scale: str = "unit") -> None:
    t.ranking(((r["index"], r["relevance_score"]) for r in answer.results), top=top, scale=scale)


def texts(t: Target, answer: litellm.RerankResponse) -> None:
    found = [r["document"]["text"] for r in answer.results]
    same(found, [t.documents[r["index"]] for r in answer.results], "the documents")


def counted(t: Target, answer: litellm.RerankResponse) -> None:
    found = answer.meta["tokens"]["input_tokens"]
    same(found, t.tokens, "the input tokens that LiteLLM meters")


def embed(t: Target, provider: str, path: str, read_as: str = "document", **fields: object) -> None:
    answer = litellm.embedding(
        model=f"{provider}/{t.embedder}", input=t.documents, api_base=t.url + path, api_key=t.key, **fields
    )
    t.embeddings([each["embedding"] for each in answer.data], read_as)
    same(answer.usage.total_tokens > 0, True, "tokens that LiteLLM meters")


VLLM = "LiteLLM hosted_vllm"


@call(VLLM, "rerank")
def vllm(t: Target) -> None:
    answer = rerank(t, "hosted_vllm", "", return_documents=True)
    ranked(t, answer)
    texts(t, answer)
    counted(t, answer)


@call(VLLM, "rerank, api_base with the prefix /vllm, top_n, max_tokens_per_doc")
def vllm_prefix(t: Target) -> None:
    ranked(t, rerank(t, "hosted_vllm", "/vllm", top_n=2, max_tokens_per_doc=200), top=2)


@call(VLLM, "arerank, api_base that ends in /v1/rerank")
async def vllm_async(t: Target) -> None:
    answer = await litellm.arerank(
        model=f"hosted_vllm/{t.reranker}",
        query=t.query,
        documents=t.documents,
        api_base=t.url + "/v1/rerank",
        api_key=t.key,
    )
    ranked(t, answer)


@call(VLLM, "rerank, unknown model")
def vllm_unknown(t: Target) -> None:
    refused(
        lambda: litellm.rerank(
            model="hosted_vllm/nobody/nothing", query="a", documents=["b"], api_base=t.url, api_key=t.key
        ),
        "nobody/nothing",
    )


@call(VLLM, "rerank, no documents")
def vllm_no_documents(t: Target) -> None:
    refused(lambda: rerank(t, "hosted_vllm", "", documents=[]), "'documents'")


@call(VLLM, "embedding")
def vllm_embedding(t: Target) -> None:
    embed(t, "hosted_vllm", "/v1")


@call(VLLM, "embedding, dimensions")
def vllm_dimensions(t: Target) -> None:
    answer = litellm.embedding(
        model=f"hosted_vllm/{t.embedder}", input=t.documents, api_base=t.url + "/v1", api_key=t.key, dimensions=t.half
    )
    t.front_embeddings([each["embedding"] for each in answer.data])


TEI = "LiteLLM huggingface (TEI)"


@call(TEI, "rerank")
def tei(t: Target) -> None:
    answer = rerank(t, "huggingface", "", return_documents=True)
    ranked(t, answer)
    texts(t, answer)


@call(TEI, "rerank, api_base with the prefix /tei, top_n")
def tei_prefix(t: Target) -> None:
    ranked(t, rerank(t, "huggingface", "/tei", top_n=2), top=2)


@call(TEI, "arerank")
async def tei_async(t: Target) -> None:
    answer = await litellm.arerank(
        model=f"huggingface/{t.reranker}", query=t.query, documents=t.documents, api_base=t.url, api_key=t.key
    )
    ranked(t, answer)


@call(TEI, "rerank, wrong key")
def tei_wrong_key(t: Target) -> None:
    refused(
        lambda: litellm.rerank(
            model=f"huggingface/{t.reranker}", query="a", documents=["b"], api_base=t.url, api_key="wrong"
        ),
        "API key",
    )


INFINITY = "LiteLLM infinity"


@call(INFINITY, "rerank")
def infinity(t: Target) -> None:
    answer = rerank(t, "infinity", "/infinity", return_documents=True)
    ranked(t, answer)
    texts(t, answer)
    counted(t, answer)


@call(INFINITY, "arerank, top_n")
async def infinity_async(t: Target) -> None:
    answer = await litellm.arerank(
        model=f"infinity/{t.reranker}",
        query=t.query,
        documents=t.documents,
        top_n=2,
        api_base=t.url + "/infinity",
        api_key=t.key,
    )
    ranked(t, answer, top=2)


@call(INFINITY, "rerank, unknown model")
def infinity_unknown(t: Target) -> None:
    refused(
        lambda: litellm.rerank(
            model="infinity/nobody/nothing", query="a", documents=["b"], api_base=t.url + "/infinity", api_key=t.key
        ),
        "nobody/nothing",
    )


@call(INFINITY, "embedding")
def infinity_embedding(t: Target) -> None:
    embed(t, "infinity", "/infinity")


JINA = "LiteLLM jina_ai"


@call(JINA, "rerank")
def jina(t: Target) -> None:
    answer = rerank(t, "jina_ai", "", return_documents=True)
    ranked(t, answer)
    texts(t, answer)
    counted(t, answer)


@call(JINA, "arerank, top_n")
async def jina_async(t: Target) -> None:
    answer = await litellm.arerank(
        model=f"jina_ai/{t.reranker}",
        query=t.query,
        documents=t.documents,
        top_n=3,
        api_base=t.url + "/jina",
        api_key=t.key,
    )
    ranked(t, answer, top=3)


@call(JINA, "embedding")
def jina_embedding(t: Target) -> None:
    embed(t, "jina_ai", "/jina/v1")


COHERE = "LiteLLM cohere"


@call(COHERE, "rerank")
def cohere(t: Target) -> None:
    answer = rerank(t, "cohere", "")
    ranked(t, answer)
    same(answer.meta["billed_units"]["search_units"], 1, "search_units")


@call(COHERE, "rerank, api_base with the prefix /cohere, return_documents")
def cohere_prefix(t: Target) -> None:
    answer = rerank(t, "cohere", "/cohere", return_documents=True, top_n=2)
    ranked(t, answer, top=2)
    texts(t, answer)


@call(COHERE, "arerank, unknown model")
async def cohere_unknown(t: Target) -> None:
    await refused_async(
        litellm.arerank(model="cohere/nobody/nothing", query="a", documents=["b"], api_base=t.url, api_key=t.key),
        "nobody/nothing",
    )


VOYAGE = "LiteLLM voyage"


@call(VOYAGE, "rerank")
def voyage(t: Target) -> None:
    answer = rerank(t, "voyage", "/voyage", return_documents=True)
    ranked(t, answer)
    texts(t, answer)


@call(VOYAGE, "arerank, top_n")
async def voyage_async(t: Target) -> None:
    answer = await litellm.arerank(
        model=f"voyage/{t.reranker}",
        query=t.query,
        documents=t.documents,
        top_n=2,
        api_base=t.url + "/voyage/v1",
        api_key=t.key,
    )
    ranked(t, answer, top=2)


@call(VOYAGE, "embedding, input_type query")
def voyage_embedding(t: Target) -> None:
    embed(t, "voyage", "/voyage/v1", "query", input_type="query")


@call(VOYAGE, "embedding, dimensions")
def voyage_dimensions(t: Target) -> None:
    answer = litellm.embedding(
        model=f"voyage/{t.embedder}", input=t.documents, api_base=t.url + "/voyage/v1", api_key=t.key, dimensions=t.half
    )
    t.front_embeddings([each["embedding"] for each in answer.data])


TOGETHER = "LiteLLM together_ai"


@call(TOGETHER, "rerank")
def together(t: Target) -> None:
    answer = rerank(t, "together_ai", "/together/v1", return_documents=True, top_n=2)
    ranked(t, answer, top=2)


OPENAI = "LiteLLM openai"


@call(OPENAI, "embedding")
def openai_embedding(t: Target) -> None:
    embed(t, "openai", "/v1")


@call(OPENAI, "aembedding, wrong key")
async def openai_wrong_key(t: Target) -> None:
    await refused_async(
        litellm.aembedding(model=f"openai/{t.embedder}", input=["a"], api_base=t.url + "/v1", api_key="wrong"),
        "API key",
        litellm.AuthenticationError,
    )


NIM = "LiteLLM nvidia_nim"


@call(NIM, "rerank, ranking/ before the model")
def nim(t: Target) -> None:
    answer = rerank(t, "nvidia_nim/ranking", "")
    ranked(t, answer, scale="raw")


@call(NIM, "embedding, input_type query")
def nim_embedding(t: Target) -> None:
    embed(t, "nvidia_nim", "/nim/v1", "query", input_type="query")


FIREWORKS = "LiteLLM fireworks_ai"


@call(FIREWORKS, "rerank")
def fireworks(t: Target) -> None:
    answer = rerank(t, "fireworks_ai", "/fireworks", return_documents=True)
    ranked(t, answer)


DEEPINFRA = "LiteLLM deepinfra"


@call(DEEPINFRA, "rerank")
def deepinfra(t: Target) -> None:
    answer = rerank(t, "deepinfra", "/deepinfra/v1")
    t.ranking(((r["index"], r["relevance_score"]) for r in answer.results), order="sent")
