"""The calls of openai, OpenAI's Python client."""

import openai
from harness import Target, call, refused, refused_async, same

CLIENT = "openai (Python)"


def client(t: Target, key: str = "") -> openai.OpenAI:
    return openai.OpenAI(api_key=key or t.key, base_url=t.url + "/v1", max_retries=0)


@call(CLIENT, "embeddings.create")
def embed(t: Target) -> None:
    answer = client(t).embeddings.create(model=t.embedder, input=t.documents)
    t.embeddings([each.embedding for each in answer.data])
    same(answer.usage.total_tokens, t.embedded, "total_tokens")


@call(CLIENT, "embeddings.create, one text, encoding_format float, vendor's name of the model")
def embed_one(t: Target) -> None:
    vectors = [
        client(t).embeddings.create(model="text-embedding-3-small", input=text, encoding_format="float").data[0]
        for text in t.documents
    ]
    t.embeddings([each.embedding for each in vectors])


@call(CLIENT, "embeddings.create, dimensions")
def embed_dimensions(t: Target) -> None:
    answer = client(t).embeddings.create(model=t.embedder, input=t.documents, dimensions=t.half)
    t.front_embeddings([each.embedding for each in answer.data])


@call(CLIENT, "embeddings.create, input_type in extra_body")
def embed_query(t: Target) -> None:
    answer = client(t).embeddings.create(model=t.embedder, input=t.documents, extra_body={"input_type": "query"})
    t.embeddings([each.embedding for each in answer.data], "query")


@call(CLIENT, "AsyncOpenAI.embeddings.create")
async def embed_async(t: Target) -> None:
    async with openai.AsyncOpenAI(api_key=t.key, base_url=t.url + "/v1") as asynchronous:
        answer = await asynchronous.embeddings.create(model=t.embedder, input=t.documents, user="someone")
    t.embeddings([each.embedding for each in answer.data])


@call(CLIENT, "embeddings.create, token ids")
def token_ids(t: Target) -> None:
    refused(
        lambda: client(t).embeddings.create(model=t.embedder, input=[[12840, 374, 10344]]),
        "check_embedding_ctx_length=False",
        openai.BadRequestError,
    )


@call(CLIENT, "embeddings.create, wrong key")
def wrong_key(t: Target) -> None:
    refused(
        lambda: client(t, "wrong").embeddings.create(model=t.embedder, input="a"), "API key", openai.AuthenticationError
    )


@call(CLIENT, "AsyncOpenAI.embeddings.create, unknown model")
async def unknown_model(t: Target) -> None:
    async with openai.AsyncOpenAI(api_key=t.key, base_url=t.url + "/v1") as asynchronous:
        await refused_async(
            asynchronous.embeddings.create(model="nobody/nothing", input="a"), "nobody/nothing", openai.NotFoundError
        )


@call(CLIENT, "models.list")
def models(t: Target) -> None:
    names = {model.id for model in client(t).models.list()}
    same({t.reranker, t.embedder} <= names, True, "the models listed")


@call(CLIENT, "models.retrieve")
def model(t: Target) -> None:
    same(client(t).models.retrieve(t.embedder).id, t.embedder, "the model's id")
