"""The calls of cohere, Cohere's Python client, that embed, and that ask for spans."""

import cohere
from cohere.types import RerankRelevantSpans
from harness import Target, bits, call, refused, same

CLIENT = "cohere (Python)"


def v2(t: Target, path: str = "") -> cohere.ClientV2:
    return cohere.ClientV2(t.key, base_url=t.url + path, max_retries=0)


def v1(t: Target, path: str = "") -> cohere.Client:
    return cohere.Client(t.key, base_url=t.url + path, max_retries=0)


@call(CLIENT, "ClientV2.rerank, relevant_spans")
def spans(t: Target) -> None:
    answer = v2(t).rerank(
        model=t.late,
        query=t.query,
        documents=t.documents,
        relevant_spans=RerankRelevantSpans(mode="enabled", threshold=0.0, max_spans=2),
    )
    same(any(result.relevant_spans for result in answer.results), True, "whether there are spans")
    for result in answer.results:
        found = result.relevant_spans or []
        same(len(found) <= 2, True, f"whether document {result.index} has two spans at most")
        scores = [span.score for span in found]
        same(scores, sorted(scores, reverse=True), "the order of the spans")
        for span in found:
            same(0 <= span.start < span.end <= len(t.documents[result.index]), True, "a span within its document")
            same(0 <= span.score <= 1, True, "a score of a span between 0 and 1")


@call(CLIENT, "ClientV2.embed, search_document and search_query")
def embed_v2(t: Target) -> None:
    for kind, read_as in (("search_document", "document"), ("search_query", "query")):
        answer = v2(t).embed(model=t.embedder, input_type=kind, texts=t.documents, embedding_types=["float"])
        t.embeddings(answer.embeddings.float_, read_as)
    same(answer.meta.billed_units.input_tokens > 0, True, "billed input tokens")


@call(CLIENT, "ClientV2.embed, several embedding_types")
def embed_types(t: Target) -> None:
    answer = v2(t).embed(
        model=t.embedder,
        input_type="search_document",
        texts=t.documents,
        embedding_types=["float", "int8", "binary", "ubinary"],
    )
    t.embeddings(answer.embeddings.float_)
    t.embeddings(answer.embeddings.int8, least=0.99)
    signs = [[1.0 if value > 0 else -1.0 for value in vector] for vector in answer.embeddings.float_]
    same([bits(vector, signed=True) for vector in answer.embeddings.binary], signs, "the bits of `binary`")
    same([bits(vector, signed=False) for vector in answer.embeddings.ubinary], signs, "the bits of `ubinary`")


@call(CLIENT, "ClientV2.embed, output_dimension")
def embed_dimension(t: Target) -> None:
    answer = v2(t).embed(
        model=t.embedder,
        input_type="search_document",
        texts=t.documents,
        embedding_types=["float"],
        output_dimension=t.half,
    )
    t.front_embeddings(answer.embeddings.float_)


@call(CLIENT, "AsyncClientV2.embed")
async def embed_v2_async(t: Target) -> None:
    async with cohere.AsyncClientV2(t.key, base_url=t.url) as client:
        answer = await client.embed(
            model="embed-v4.0", input_type="search_query", texts=t.documents, embedding_types=["float"]
        )
    t.embeddings(answer.embeddings.float_, "query")


@call(CLIENT, "Client.embed")
def embed_v1(t: Target) -> None:
    answer = v1(t).embed(model=t.embedder, input_type="search_document", texts=t.documents)
    t.embeddings(answer.embeddings)


@call(CLIENT, "ClientV2.embed, unknown model")
def embed_unknown(t: Target) -> None:
    refused(
        lambda: v2(t).embed(model="nobody/nothing", input_type="search_query", texts=["a"], embedding_types=["float"]),
        "'nobody/nothing'",
        cohere.errors.NotFoundError,
    )
