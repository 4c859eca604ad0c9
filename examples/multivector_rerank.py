"""Late interaction on your side: token vectors are computed once, stored, and compared without the server.

    python examples/multivector_rerank.py [http://localhost:8080]

A late-interaction model encodes the query and the passages apart, one vector per token. So the passages' vectors can
be kept in LanceDB, and reranking costs one short call for the query; `client.score` encodes every candidate again.
The price is the storage: one vector for each token instead of one for each passage.
"""

import json
import sys
import tempfile
from pathlib import Path

import lancedb
import numpy as np

from sie_sdk import SIEClient
from sie_sdk.scoring import maxsim
from sie_sdk.types import Item

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
CANDIDATES = 20
SHOWN = 3
QUERIES = [
    "hut that stays open all year",
    "where is music played in the evening",
    "what happens to male bees in autumn",
]


def main(url: str) -> None:
    with SIEClient(url) as client, tempfile.TemporaryDirectory() as folder:
        passages = index(client, lancedb.connect(folder))
        for query in QUERIES:
            search(client, passages, query)


def index(client: SIEClient, database: lancedb.DBConnection) -> lancedb.table.Table:
    """Store each passage with one vector (`vector`, to retrieve) and one per token (`tokens`, to rerank)."""
    lines = Path(__file__).with_name("passages.jsonl").read_text(encoding="utf-8").splitlines()
    passages = [json.loads(line) for line in lines]
    items = [Item(text=passage["text"]) for passage in passages]
    encoded = client.encode(MODEL, items, output_types=["dense", "multivector"])
    rows = [
        {**passage, "vector": result["dense"], "tokens": list(result["multivector"])}
        for passage, result in zip(passages, encoded, strict=True)
    ]
    print(f"{len(rows)} passages in LanceDB, {sum(len(row['tokens']) for row in rows)} token vectors")
    return database.create_table("passages", rows)


def search(client: SIEClient, passages: lancedb.table.Table, query: str) -> None:
    """Retrieve by the dense vector, rerank by the stored token vectors, and compare with the server's ranking."""
    encoded = client.encode(MODEL, Item(text=query), output_types=["dense", "multivector"], is_query=True)
    found = passages.search(encoded["dense"]).limit(CANDIDATES).to_list()

    scores = maxsim(encoded["multivector"], [np.array(row["tokens"], np.float32) for row in found])
    ranking = sorted(zip(scores, found, strict=True), key=lambda pair: -pair[0])

    print(f"\n{query}")
    print("  retrieved  " + ", ".join(row["id"] for row in found[:SHOWN]))
    print("  reranked   " + ", ".join(f"{row['id']} {score:.3f}" for score, row in ranking[:SHOWN]))

    theirs = client.score(MODEL, Item(text=query), [Item(id=row["id"], text=row["text"]) for row in found])["scores"]
    same = "the same" if [entry["item_id"] for entry in theirs] == [row["id"] for _, row in ranking] else "ANOTHER"
    difference = max(abs(entry["score"] - score) for entry, (score, _) in zip(theirs, ranking, strict=True))
    print(f"  client.score gives {same} ranking; scores differ by {difference:.0e} at most")


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["http://localhost:8080"])
