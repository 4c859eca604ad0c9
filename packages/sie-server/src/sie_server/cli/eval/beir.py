"""A dataset in BEIR's format: `corpus.jsonl`, `queries.jsonl` and judgments in TSV files."""

from array import array
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sie_server.cli.eval import bm25, corpus
from sie_server.cli.eval.dataset import Advance, Candidates, Counts, Dataset, Query, digest
from sie_server.cli.eval.trec import read_qrels, read_run
from sie_server.cli.rerank.corpus import read_queries
from sie_server.cli.streaming.lines import FaultError

_DEFAULT_SPLIT = "test"


def read_folder(
    folder: Path,
    *,
    split: str | None,
    run: Path | None,
    depth: int,
    relevance_level: int,
    language: bm25.Language,
    advance: Advance,
) -> Dataset:
    """The judged queries of a split, with the first `depth` documents of a run, or of BM25 without one.

    split: names the file in `qrels`; without one, `test`, or else the file `qrels.tsv`. relevance_level: the least
    grade of a relevant document, for the counts. Raises FaultError.
    """
    texts = read_queries(folder / "queries.jsonl")
    qrels = _qrels(folder, split)
    grades, qrels_digest = read_qrels(qrels)
    judged = {query: text for query, text in texts.items() if query in grades}
    if not judged:
        raise FaultError(f"{qrels} judges none of the queries of {folder / 'queries.jsonl'}.")
    relevant = {document for query in judged for document, grade in grades[query].items() if grade >= relevance_level}
    counts = Counts(unjudged=len(texts) - len(judged), unknown=len(grades) - len(judged))
    sources = {
        "queries.jsonl": digest(folder / "queries.jsonl"),
        str(qrels.relative_to(folder)): qrels_digest,
        "depth": str(depth),
    }
    path = folder / "corpus.jsonl"
    candidates: Mapping[str, Candidates]
    if run is None:
        found = bm25.retrieve(path, judged, relevant, depth, language, advance)
        candidates, first_stage = found.candidates, "BM25"
        sources |= {"corpus.jsonl": found.digest, "BM25": found.settings}
        counts = replace(counts, absent=len(relevant) - found.present)
    else:
        candidates, more, counts = _of_run(path, run, judged, relevant, depth, counts, advance)
        first_stage = run.name
        sources |= more
    nothing = Candidates([], array("q"), [])
    return Dataset(
        name=folder.resolve().name,
        queries=[Query(query, text, candidates.get(query, nothing), grades[query]) for query, text in judged.items()],
        counts=counts,
        first_stage=first_stage,
        sources=sources,
        texts=corpus.reader(path),
    )


def _of_run(
    path: Path,
    run: Path,
    judged: Mapping[str, str],
    relevant: set[str],
    depth: int,
    counts: Counts,
    advance: Advance,
) -> tuple[dict[str, Candidates], dict[str, str], Counts]:
    read = read_run(run, judged, depth)
    offsets, digest = corpus.locate(path, {*read.lines, *relevant}, advance)
    for document, line in read.lines.items():
        if document not in offsets:
            raise FaultError(f"{run}, line {line}: document '{document}' is not in {path}.")
    candidates = {
        query: Candidates(ids, corpus.offsets_of(ids, offsets), scores)
        for query, (ids, scores) in read.documents.items()
    }
    absent = sum(document not in offsets for document in relevant)
    counts = replace(counts, absent=absent, contradictory=read.contradictory)
    return candidates, {"corpus.jsonl": digest, "run": read.digest}, counts


def _qrels(folder: Path, split: str | None) -> Path:
    """The file of judgments. Raises FaultError."""
    splits = sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))
    wanted = split or _DEFAULT_SPLIT
    if wanted in splits:
        return folder / "qrels" / f"{wanted}.tsv"
    if splits:
        raise FaultError(f"{folder / 'qrels'} has no {wanted}.tsv. --split can be one of: {', '.join(splits)}.")
    single = folder / "qrels.tsv"
    if not single.is_file():
        raise FaultError(f"{folder} has neither qrels/{wanted}.tsv nor qrels.tsv, so there are no judgments.")
    if split is not None:
        raise FaultError(f"{single} has no splits, so --split {split} can't be chosen.")
    return single
