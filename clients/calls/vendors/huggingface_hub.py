"""The calls of huggingface_hub's InferenceClient, at the URL of a server that speaks TEI's API."""

from harness import Target, call, refused
from huggingface_hub import AsyncInferenceClient, InferenceClient

CLIENT = "huggingface_hub InferenceClient (TEI)"


@call(CLIENT, "feature_extraction, the URL of /embed")
def embed(t: Target) -> None:
    client = InferenceClient(t.open_url + "/embed", token=t.key)
    t.embeddings(client.feature_extraction(t.documents).tolist())


@call(CLIENT, "feature_extraction, the server's URL")
def embed_root(t: Target) -> None:
    client = InferenceClient(t.open_url, token=t.key)
    t.embeddings([client.feature_extraction(text)[0].tolist() for text in t.documents])


@call(CLIENT, "AsyncInferenceClient.feature_extraction, normalize, truncate, dimensions")
async def embed_async(t: Target) -> None:
    client = AsyncInferenceClient(t.open_url + "/tei/embed", token=t.key)
    found = await client.feature_extraction(t.documents, normalize=True, truncate=True, dimensions=t.half)
    t.front_embeddings(found.tolist())


@call(CLIENT, "feature_extraction, wrong key")
def wrong_key(t: Target) -> None:
    refused(lambda: InferenceClient(t.url + "/embed", token="wrong").feature_extraction("a"), "API key")
