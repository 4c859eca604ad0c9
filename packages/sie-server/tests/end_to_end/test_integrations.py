"""The components for LangChain, LlamaIndex and Haystack: what they give is what the SDK gives."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from haystack import Document as HaystackDocument
from haystack import Pipeline
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import NodeWithScore, TextNode

from sie_sdk import SIEAsyncClient, SIEClient
from sie_sdk.haystack import SIEDocumentEmbedder, SIERanker, SIETextEmbedder
from sie_sdk.langchain import SIEEmbeddings, SIEReranker
from sie_sdk.llamaindex import SIEEmbedding, SIENodePostprocessor
from sie_sdk.types import Item
from sie_testing.serving import EMBEDDED, Server

QUERY = "What is Python?"
TEXTS = ["Snakes are reptiles.", "Python is a programming language.", "Python was created by Guido van Rossum."]


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[SIEClient]:
    """A client of the server that the environment names."""
    monkeypatch.setenv("SIE_BASE_URL", server.url)
    with SIEClient() as client:
        yield client


@pytest.fixture
def ranked(client: SIEClient) -> list[tuple[str, float]]:
    """The texts with their scores, best first."""
    items = [Item(id=text, text=text) for text in TEXTS]
    return [(e["item_id"], e["score"]) for e in client.score(EMBEDDED, Item(text=QUERY), items)["scores"]]


@pytest.fixture
def vectors(client: SIEClient) -> list[list[float]]:
    """Those of the query and of the texts."""
    results = [client.encode(EMBEDDED, Item(text=QUERY), is_query=True)]
    results += client.encode(EMBEDDED, [Item(text=text) for text in TEXTS], is_query=False)
    return [result["dense"].tolist() for result in results]


def langchain_order(documents: Any) -> list[tuple[str, float]]:
    return [(document.page_content, document.metadata["relevance_score"]) for document in documents]


def test_langchain_reranker(client: SIEClient, ranked: list[tuple[str, float]]) -> None:
    documents = [Document(page_content=text, metadata={"n": i}, id=str(i)) for i, text in enumerate(TEXTS)]
    reranker = SIEReranker(model=EMBEDDED, client=client)
    order = reranker.compress_documents(documents, QUERY)
    assert langchain_order(order) == ranked
    assert langchain_order(asyncio.run(reranker.acompress_documents(documents, QUERY))) == ranked
    assert [(d.id, d.metadata["n"]) for d in order] == [(str(i), i) for i in (1, 2, 0)]
    assert documents[0].metadata == {"n": 0}
    assert reranker.compress_documents([], QUERY) == asyncio.run(reranker.acompress_documents([], QUERY)) == []
    reranker.top_k = 2
    assert langchain_order(reranker.compress_documents(documents, QUERY)) == ranked[:2]


def test_langchain_embeddings(client: SIEClient, vectors: list[list[float]]) -> None:
    embeddings = SIEEmbeddings(EMBEDDED, client=client)
    assert [embeddings.embed_query(QUERY), *embeddings.embed_documents(TEXTS)] == vectors
    assert asyncio.run(embeddings.aembed_query(QUERY)) == vectors[0]
    assert asyncio.run(embeddings.aembed_documents(TEXTS)) == vectors[1:]
    assert embeddings.embed_documents([]) == asyncio.run(embeddings.aembed_documents([])) == []


def test_langchain_chain(client: SIEClient, ranked: list[tuple[str, float]]) -> None:
    store = InMemoryVectorStore.from_texts(TEXTS, SIEEmbeddings(EMBEDDED, client=client))
    retriever, reranker = store.as_retriever(search_kwargs={"k": 3}), SIEReranker(model=EMBEDDED, client=client)
    found = retriever | (lambda documents: reranker.compress_documents(documents, QUERY))
    assert langchain_order(found.invoke(QUERY)) == ranked


def llamaindex_order(nodes: list[NodeWithScore]) -> list[tuple[str, float | None]]:
    return [(node.node.get_content(), node.score) for node in nodes]


def test_llamaindex_postprocessor(client: SIEClient, ranked: list[tuple[str, float]]) -> None:
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in TEXTS]
    postprocessor = SIENodePostprocessor(model=EMBEDDED, client=client)
    assert llamaindex_order(postprocessor.postprocess_nodes(nodes, query_str=QUERY)) == ranked
    assert llamaindex_order(asyncio.run(postprocessor.apostprocess_nodes(nodes, query_str=QUERY))) == ranked
    best = SIENodePostprocessor(model=EMBEDDED, top_n=1, client=client).postprocess_nodes(nodes, query_str=QUERY)
    assert llamaindex_order(best) == ranked[:1]
    with pytest.raises(ValueError, match="query_bundle"):
        postprocessor.postprocess_nodes(nodes)
    assert postprocessor.to_dict()["model"] == EMBEDDED
    assert "client" not in postprocessor.to_dict()


def test_llamaindex_reranks_the_text_it_embeds(client: SIEClient) -> None:
    nodes = [NodeWithScore(node=TextNode(text="It is one.", metadata={"title": title})) for title in TEXTS]
    best, *_ = SIENodePostprocessor(model=EMBEDDED, client=client).postprocess_nodes(nodes, query_str=QUERY)
    assert best.node.metadata["title"] == TEXTS[1]


def test_llamaindex_embedding(client: SIEClient, vectors: list[list[float]]) -> None:
    embedding = SIEEmbedding(model_name=EMBEDDED, client=client)
    assert embedding.get_query_embedding(QUERY) == asyncio.run(embedding.aget_query_embedding(QUERY)) == vectors[0]
    assert embedding.get_text_embedding(TEXTS[0]) == vectors[1]
    assert asyncio.run(embedding.aget_text_embedding(TEXTS[0])) == vectors[1]
    assert embedding.get_text_embedding_batch(TEXTS) == vectors[1:]
    assert asyncio.run(embedding.aget_text_embedding_batch(TEXTS)) == vectors[1:]
    assert embedding.to_dict()["model_name"] == EMBEDDED


def test_llamaindex_index(client: SIEClient, ranked: list[tuple[str, float]]) -> None:
    nodes = [TextNode(text=text) for text in TEXTS]
    index = VectorStoreIndex(nodes, embed_model=SIEEmbedding(model_name=EMBEDDED, client=client))
    found = index.as_retriever(similarity_top_k=3).retrieve(QUERY)
    postprocessor = SIENodePostprocessor(model=EMBEDDED, client=client)
    assert llamaindex_order(postprocessor.postprocess_nodes(found, query_str=QUERY)) == ranked


def haystack_order(documents: list[HaystackDocument]) -> list[tuple[str | None, float | None]]:
    return [(document.content, document.score) for document in documents]


@pytest.mark.usefixtures("client")
def test_haystack_ranker(ranked: list[tuple[str, float]]) -> None:
    documents = [HaystackDocument(content=text, meta={"n": i}) for i, text in enumerate(TEXTS)]
    with closing(SIERanker(EMBEDDED, top_k=2)) as ranker:
        assert haystack_order(ranker.run(QUERY, documents)["documents"]) == ranked[:2]
        assert haystack_order(asyncio.run(ranker.run_async(QUERY, documents, top_k=3))["documents"]) == ranked
        assert ranker.run(QUERY, documents, top_k=1)["documents"][0].meta == {"n": 1}
        assert ranker.run(QUERY, [])["documents"] == []
        with pytest.raises(ValueError, match=r"documents\[1\] has no text"):
            ranker.run(QUERY, [documents[0], HaystackDocument(content=None)])
    assert documents[1].score is None


@pytest.mark.usefixtures("client")
def test_haystack_embedders(vectors: list[list[float]]) -> None:
    given = [HaystackDocument(content=text) for text in TEXTS]
    with closing(SIETextEmbedder(EMBEDDED)) as text, closing(SIEDocumentEmbedder(EMBEDDED)) as documents:
        assert text.run(QUERY) == asyncio.run(text.run_async(QUERY)) == {"embedding": vectors[0]}
        assert [d.embedding for d in documents.run(given)["documents"]] == vectors[1:]
        assert [d.embedding for d in asyncio.run(documents.run_async(given))["documents"]] == vectors[1:]
    assert given[0].embedding is None


def test_haystack_pipeline_survives_being_saved(server: Server, ranked: list[tuple[str, float]]) -> None:
    pipeline = Pipeline()
    pipeline.add_component("embedder", SIEDocumentEmbedder(EMBEDDED, base_url=server.url))
    pipeline.add_component("ranker", SIERanker(EMBEDDED, base_url=server.url, top_k=2, options={"profile": "default"}))
    pipeline.connect("embedder.documents", "ranker.documents")
    loaded = Pipeline.loads(pipeline.dumps(), allowed_modules=["sie_sdk.haystack"])
    assert loaded.to_dict() == pipeline.to_dict()
    given = {"embedder": {"documents": [HaystackDocument(content=t) for t in TEXTS]}, "ranker": {"query": QUERY}}
    for run in (pipeline.run, loaded.run, lambda data: asyncio.run(loaded.run_async(data))):
        [*documents] = run(given)["ranker"]["documents"]
        assert haystack_order(documents) == ranked[:2]
        assert all(document.embedding for document in documents)
    pipeline.close()
    loaded.close()


def test_a_client_of_ones_own_is_used_and_stays_open(server: Server, vectors: list[list[float]]) -> None:
    async def twice() -> list[list[float]]:
        async with SIEAsyncClient(server.url) as client:
            embeddings = SIEEmbeddings(EMBEDDED, base_url="http://sie.invalid", async_client=client)
            return [await embeddings.aembed_query(QUERY), await embeddings.aembed_query(QUERY)]

    assert asyncio.run(twice()) == [vectors[0]] * 2
