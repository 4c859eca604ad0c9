"""The server that the clients reach: small models under the names of well-known ones, and what it must answer."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from sie_server.catalog.catalog import Entry
from sie_testing.checkpoints import build, text
from sie_testing.late_interaction_checkpoints import pylate
from sie_testing.serving import in_process

KEY = "sie-key-of-the-tests"
RERANKER, EMBEDDER, LATE = "BAAI/bge-reranker-v2-m3", "BAAI/bge-m3", "lightonai/GTE-ModernColBERT-v1"
# Names of vendors' models that clients fill in by themselves, or accept alone.
ALIASES = {
    "rerank-v3.5": RERANKER,
    "rerank-2.5": RERANKER,
    "embed-v4.0": EMBEDDER,
    "text-embedding-3-small": EMBEDDER,
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


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[str]:
    """Serve the small models at a URL of the loopback interface."""
    flags: dict[str, Any] = {
        "precision": "float32",
        "workers": 1,
        "catalogue": f"{RERANKER},{EMBEDDER},{LATE}",
        "preload": (RERANKER, EMBEDDER, LATE),
        "default_model": RERANKER,
        "alias": tuple(f"{name}={model}" for name, model in ALIASES.items()),
        "api_keys": (KEY,),
        **settings,
    }
    with in_process(entries=entries(folder), **flags) as running:
        yield running.url


def target(url: str) -> str:
    """What the clients are told, as JSON: the address, and the answers of SIE's own routes."""
    with httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}", "Accept": "application/json"}) as api:

        def post(path: str, body: Any) -> Any:
            answer = api.post(path, json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        items = [{"text": document} for document in DOCUMENTS]
        ranked = post(f"/v1/score/{RERANKER}", {"query": {"text": QUERY}, "items": items})
        unit = {entry["item_id"]: entry["score"] for entry in ranked["scores"]}
        raw = post("/vllm/rerank", {"query": QUERY, "documents": DOCUMENTS, "raw_scores": True})["results"]
        vectors = {
            kind: post(f"/v1/encode/{EMBEDDER}", {"items": items, "params": {"options": {"is_query": kind == "query"}}})
            for kind in ("document", "query")
        }
        front = post("/v1/embeddings", {"model": EMBEDDER, "input": DOCUMENTS, "dimensions": 32})
        return json.dumps(
            {
                "url": url,
                "key": KEY,
                "reranker": RERANKER,
                "embedder": EMBEDDER,
                "late": LATE,
                "query": QUERY,
                "documents": DOCUMENTS,
                "scores": {
                    "unit": [unit[f"item-{index}"] for index in range(len(DOCUMENTS))],
                    "raw": [r["relevance_score"] for r in sorted(raw, key=lambda r: r["index"])],
                },
                "tokens": ranked["usage"]["input_tokens"],
                "vectors": {
                    kind: [item["dense"]["values"] for item in answer["items"]] for kind, answer in vectors.items()
                },
                "front": [item["embedding"] for item in front["data"]],
                "embedded": front["usage"]["prompt_tokens"],
            }
        )
