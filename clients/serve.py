"""The server that the clients reach: small models under the names of well-known ones, and what it must answer."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from typing import Any

from sie_server.catalog.catalog import Entry
from sie_testing.checkpoints import build, text
from sie_testing.late_interaction_checkpoints import pylate
from sie_testing.serving import connect, in_process

KEY = "sie-key-of-the-tests"
RERANKER, EMBEDDER, LATE = "BAAI/bge-reranker-v2-m3", "BAAI/bge-m3", "lightonai/GTE-ModernColBERT-v1"
# Names of vendors' models that clients fill in by themselves, or accept alone.
ALIASES = {
    "rerank-v3.5": RERANKER,
    "rerank-2.5": RERANKER,
    "embed-v4.0": EMBEDDER,
    "text-embedding-3-small": EMBEDDER,
    "voyage-3.5": EMBEDDER,
    "bge-reranker-v2-m3": RERANKER,
    "mixedbread-ai/mxbai-rerank-large-v1": RERANKER,
    f"fireworks/{RERANKER}": RERANKER,
}
QUERY = "what is python"
DOCUMENTS = [
    "snakes are reptiles",
    "python is a programming language",
    "it",
    text(60, seed=1),
    "who made python? it is a language – «über» 🐍",
    "Python and snakes are not it.",
]


def entries(folder: Path) -> list[Entry]:
    """Save the small models, and describe them."""
    build(folder / "reranker", "bert")
    build(folder / "embedder", "bert-encoder")
    _cache_tokenizer(folder / "embedder" / "tokenizer.json", folder / "hub" / "models--voyageai--voyage-3.5")
    pylate(folder / "late")
    return [
        Entry(RERANKER, folder=folder / "reranker"),
        Entry(
            EMBEDDER,
            folder=folder / "embedder",
            pooling="mean",
            matryoshka=True,
            query_template="what is {text}",
            doc_template="it is {text}",
        ),
        Entry(LATE, folder=folder / "late"),
    ]


def _cache_tokenizer(file: Path, repository: Path) -> None:
    """Put a tokenizer where Hugging Face's client has files from the hub; Voyage's client counts tokens with it."""
    snapshot = repository / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0")
    shutil.copy(file, snapshot)


@dataclass(frozen=True)
class Servers:
    """Two running servers, at URLs of the loopback interface, and a folder with their models.

    The one at `url` needs a key. The one at `open_url` does not; its default model is the embedding model, and it reads
    token ids as those of cl100k.
    """

    url: str
    open_url: str
    folder: Path

    def target(self) -> str:
        """What the clients are told, as JSON: the addresses, and the answers of SIE's own routes."""
        with connect(self.url) as api:
            api.headers["Authorization"] = f"Bearer {KEY}"

            def post(path: str, **body: Any) -> Any:
                answer = api.post(path, json=body)
                assert answer.status_code == 200, answer.text
                return answer.json()

            items = [{"text": document} for document in DOCUMENTS]
            ranked = post(f"/v1/score/{RERANKER}", query={"text": QUERY}, items=items)
            unit = {entry["item_id"]: entry["score"] for entry in ranked["scores"]}
            raw = post("/vllm/rerank", query=QUERY, documents=DOCUMENTS, raw_scores=True)["results"]
            vectors = {
                kind: post(f"/v1/encode/{EMBEDDER}", items=items, params={"options": {"is_query": kind == "query"}})
                for kind in ("document", "query")
            }
            front = post("/v1/embeddings", model=EMBEDDER, input=DOCUMENTS, dimensions=32)
        told = {
            "url": self.url,
            "open_url": self.open_url,
            "key": KEY,
            "reranker": RERANKER,
            "embedder": EMBEDDER,
            "late": LATE,
            "query": QUERY,
            "documents": DOCUMENTS,
            "scores": {
                "unit": [unit[f"item-{index}"] for index in range(len(DOCUMENTS))],
                "raw": [result["relevance_score"] for result in sorted(raw, key=itemgetter("index"))],
            },
            "tokens": ranked["usage"]["input_tokens"],
            "vectors": {kind: [i["dense"]["values"] for i in answer["items"]] for kind, answer in vectors.items()},
            "front": [item["embedding"] for item in front["data"]],
            "embedded": front["usage"]["prompt_tokens"],
        }
        return json.dumps(told)


@contextmanager
def serving(folder: Path) -> Iterator[Servers]:
    """Save the small models in a folder, and serve them."""
    models = entries(folder)
    flags: dict[str, Any] = {
        "precision": "float32",
        "workers": 1,
        "catalogue": f"{RERANKER},{EMBEDDER},{LATE}",
        "preload": (RERANKER, EMBEDDER, LATE),
        "alias": tuple(f"{name}={model}" for name, model in ALIASES.items()),
    }
    # LlamaIndex has tiktoken's file of cl100k with it.
    llama_index = find_spec("llama_index.core")
    assert llama_index is not None
    assert llama_index.origin is not None
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(llama_index.origin).parent / "_static" / "tiktoken_cache")
    keyed: dict[str, Any] = {"default_model": RERANKER, "api_keys": (KEY,)}
    unkeyed: dict[str, Any] = {"default_model": EMBEDDER, "token_ids": "cl100k"}
    with in_process(entries=models, **flags, **keyed) as one, in_process(entries=models, **flags, **unkeyed) as other:
        yield Servers(one.url, other.url, folder)
