"""Two-stage search: LanceDB retrieves candidates by their embeddings, SIE reranks them.

    python examples/two_stage_search.py [http://localhost:8080]

One vector per passage can be searched in a large collection, but blurs a passage of many facts. The reranker looks at
every token of a passage, which is too much work for a whole collection and little for 20 candidates.
"""

import json
import sys
import tempfile
from pathlib import Path
from textwrap import shorten

import lancedb

from sie_sdk import SIEClient
from sie_sdk.types import Item

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
# The model every server has. Where a hub can be reached, name a cross-encoder here: "BAAI/bge-reranker-v2-m3", say.
RERANKER = ENCODER
CANDIDATES = 20
SHOWN = 3
QUERIES = [
    "hut that stays open all year",
    "who can mend my bicycle in the mountains",
    "where can my donkey sleep",
    "what happens to male bees in autumn",
]


def main(url: str) -> None:
    with SIEClient(url) as client, tempfile.TemporaryDirectory() as folder:
        passages = index(client, lancedb.connect(folder))
        for query in QUERIES:
            search(client, passages, query)


def index(client: SIEClient, database: lancedb.DBConnection) -> lancedb.table.Table:
    """Encode the passages and store them: columns `id`, `text` and `vector`."""
    lines = Path(__file__).with_name("passages.jsonl").read_text(encoding="utf-8").splitlines()
    passages = [json.loads(line) for line in lines]
    encoded = client.encode(ENCODER, [Item(text=passage["text"]) for passage in passages])
    rows = [{**passage, "vector": result["dense"]} for passage, result in zip(passages, encoded, strict=True)]
    print(f"{len(rows)} passages in LanceDB")
    return database.create_table("passages", rows)


def search(client: SIEClient, passages: lancedb.table.Table, query: str) -> None:
    """Retrieve candidates for the query, rerank them, and print the best of both stages."""
    vector = client.encode(ENCODER, Item(text=query), is_query=True)["dense"]
    found = passages.search(vector).limit(CANDIDATES).to_list()

    candidates = [Item(id=row["id"], text=row["text"]) for row in found]
    ranking = client.score(RERANKER, Item(text=query), candidates)["scores"]

    print(f"\n{query}\n  retrieved")
    for place, row in enumerate(found[:SHOWN], start=1):
        # LanceDB gives the squared distance, and the vectors have length 1.
        cosine = 1 - row["_distance"] / 2
        print(f"    {place}. {row['id']:9}{cosine:6.3f}           {opening(row['text'])}")
    print("  reranked")
    before = {row["id"]: (place, row["text"]) for place, row in enumerate(found, start=1)}
    for place, entry in enumerate(ranking[:SHOWN], start=1):
        was, text = before[entry["item_id"]]
        print(f"    {place}. {entry['item_id']:9}{entry['score']:6.3f}  (was {was:2})  {opening(text)}")


def opening(text: str) -> str:
    return shorten(text, 70, placeholder=" …")


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["http://localhost:8080"])
