"""A tiny dataset with judgments, in BEIR's format."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# By id: title and text.
CORPUS = {
    "d1": ("", "The lighthouse was built on a rock."),
    "d2": ("Bees", "Bees dance to tell where flowers are."),
    "d3": ("", "A bicycle stays up while it rolls."),
    "d4": ("Drones", "Male bees leave the hive in autumn."),
}
QUERIES = {"q1": "why do bees dance", "q2": "how a bicycle stays upright", "q3": "an unjudged query"}
# q1's relevant documents are d2 and, less, d4.
QRELS = [("q1", "d2", 2), ("q1", "d4", 1), ("q1", "d3", 0), ("q2", "d3", 1)]
RUN = {"q1": ["d1", "d2", "d4"], "q2": ["d3", "d1"]}


def write_lines(path: Path, lines: Sequence[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def write_beir(folder: Path, corpus: Mapping[str, tuple[str, str]] = CORPUS) -> Path:
    (folder / "qrels").mkdir(parents=True)
    write_lines(folder / "corpus.jsonl", [{"_id": k, "title": t, "text": x} for k, (t, x) in corpus.items()])
    write_lines(folder / "queries.jsonl", [{"_id": k, "text": text, "metadata": {}} for k, text in QUERIES.items()])
    rows = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in QRELS)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(rows) + "\n")
    write_run(folder / "run.trec")
    return folder


def write_run(path: Path, run: Mapping[str, Sequence[str]] = RUN) -> Path:
    lines = [
        f"{query} Q0 {document} {rank} {10 - rank} first"
        for query, documents in run.items()
        for rank, document in enumerate(documents, 1)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path
