"""What `sie-server eval` reads: BEIR's folders, runs, BM25's candidates, and lists with their judgments."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from judged_dataset import CORPUS, write_beir, write_lines, write_run

from sie_server.cli.eval.beir import read_folder
from sie_server.cli.eval.dataset import Dataset
from sie_server.cli.eval.judged_lists import read_lists
from sie_server.cli.streaming.lines import FaultError


def folder(path: Path, **options: Any) -> Dataset:
    given = {"split": None, "run": None, "depth": 100, "relevance_level": 1, "language": "english"} | options
    return read_folder(path, advance=lambda *_: None, **given)


def lists(path: Path, depth: int = 100) -> Dataset:
    return read_lists(path, depth=depth, advance=lambda *_: None)


def test_a_run_gives_the_candidates_of_judged_queries(beir: Path) -> None:
    dataset = folder(beir, run=beir / "run.trec")
    assert [(query.id, list(query.candidates.ids)) for query in dataset.queries] == [
        ("q1", ["d1", "d2", "d4"]),
        ("q2", ["d3", "d1"]),
    ]
    assert dataset.queries[0].grades == {"d2": 2, "d4": 1, "d3": 0}
    # The title belongs to the text, as in BEIR.
    assert dataset.texts(dataset.queries[0])[1] == "Bees Bees dance to tell where flowers are."
    assert (dataset.counts.unjudged, dataset.counts.unknown, dataset.counts.absent) == (1, 0, 0)


def test_a_run_is_ordered_as_by_trec_eval(beir: Path) -> None:
    lines = ["q1 Q0 d2 1 0.5 x", "q1 Q0 d4 2 0.5 x", "q1 Q0 d1 3 0.9 x", "q2 Q0 d3 1 2 x", "q9 Q0 d3 1 2 x"]
    (beir / "other.trec").write_text("\n".join(lines))
    dataset = folder(beir, run=beir / "other.trec", depth=2)
    # By score, which the ranks contradict in one query; equal scores by descending id; cut to the depth.
    assert [list(query.candidates.ids) for query in dataset.queries] == [["d1", "d4"], ["d3"]]
    assert dataset.counts.contradictory == 1


def test_bm25_finds_stems_and_no_stop_words(beir: Path) -> None:
    dataset = folder(beir)
    by_id = {query.id: query.candidates for query in dataset.queries}
    assert by_id["q1"].ids == ["d2", "d4"]  # "bees", "dance"; and "bees" is the stem of "Bees" and "bee"
    assert by_id["q2"].ids == ["d3"]
    assert by_id["q1"].scores is not None
    assert by_id["q1"].scores[0] > by_id["q1"].scores[1] > 0
    assert folder(beir, depth=1).queries[0].candidates.ids == ["d2"]
    # Without the stemmer and the stop words, "a" is still no word: it has one letter.
    assert folder(beir, language="none").queries[0].candidates.ids == ["d2", "d4"]


def test_a_query_without_a_known_word_has_no_candidates(beir: Path) -> None:
    write_lines(beir / "queries.jsonl", [{"_id": "q1", "text": "xyzzy"}, {"_id": "q2", "text": "bicycle"}])
    assert [len(query.candidates) for query in folder(beir).queries] == [0, 1]


def test_splits_and_a_single_file_of_judgments(beir: Path) -> None:
    (beir / "qrels" / "train.tsv").write_text("q3\td1\t1\n")  # the header may be missing
    assert [query.id for query in folder(beir, split="train").queries] == ["q3"]
    (beir / "qrels" / "test.tsv").rename(beir / "qrels.tsv")
    with pytest.raises(FaultError, match=r"has no test.tsv. --split can be one of: train"):
        folder(beir)
    (beir / "qrels" / "train.tsv").unlink()
    assert [query.id for query in folder(beir).queries] == ["q1", "q2"]
    with pytest.raises(FaultError, match=r"qrels.tsv has no splits, so --split train can't be chosen"):
        folder(beir, split="train")


def test_the_sources_change_with_whatever_changes_the_texts(beir: Path) -> None:
    first = folder(beir, run=beir / "run.trec").sources
    assert folder(beir, run=beir / "run.trec").sources == first
    write_run(beir / "run.trec", {"q1": ["d2", "d1"], "q2": ["d3"]})
    changed = folder(beir, run=beir / "run.trec").sources
    assert [name for name in first if first[name] != changed[name]] == ["run"]
    assert folder(beir).sources["BM25"] != folder(beir, language="german").sources["BM25"]


def test_a_corpus_that_changed_since_is_noticed(beir: Path) -> None:
    dataset = folder(beir, run=beir / "run.trec")
    write_lines(beir / "corpus.jsonl", [{"_id": "other", "text": "shorter"}])
    with pytest.raises(FaultError, match="has changed meanwhile"):
        dataset.texts(dataset.queries[0])


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("corpus.jsonl", '{"_id": "d1"}', r"corpus.jsonl, line 1: Object missing required field `text`"),
        ("corpus.jsonl", '{"_id": 1.5, "text": ""}', r"corpus.jsonl, line 1: .* got `float` - at `\$._id`"),
        ("corpus.jsonl", "\n[]", r"corpus.jsonl, line 2: it is neither a JSON object, nor an id and a text"),
        ("corpus.jsonl", '{"_id": "d1", "text": "x"}\n' * 2, r"corpus.jsonl, line 2: the id 'd1' is there twice"),
        ("corpus.jsonl", '{"_id": "d1", "text": "x"}', r"run.trec, line 2: document 'd2' is not in .*corpus.jsonl"),
        ("queries.jsonl", '{"_id": "q1"}', r"queries.jsonl, line 1: .*`text`"),
        ("queries.jsonl", '{"_id": "q", "text": ""}\n' * 2, r"queries.jsonl, line 2: the id 'q' is there twice"),
        ("queries.jsonl", '{"_id": "q9", "text": ""}', r"test.tsv judges none of the queries of .*queries.jsonl"),
        ("corpus.jsonl", '{"_id": "d1"', r"corpus.jsonl, line 1: it is not valid JSON: Input data was truncated"),
        ("run.trec", "q1\n", r"run.trec, line 1: it has 1 column in place of "),
        ("qrels/test.tsv", "q1\td1\n", r"test.tsv, line 1: it has 2 columns in place of query-id, corpus-id and score"),
        ("qrels/test.tsv", "q1\td1\thigh\n", r"test.tsv, line 1: the score 'high' is not a whole number"),
        ("qrels/test.tsv", "q1\td1\t1\nq1\td1\t2\n", r"test.tsv, line 2: document 'd1' has two different scores"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n", r"test.tsv has no judgments"),
        ("run.trec", "q1 Q0 d1 1 0.5\n", r"run.trec, line 1: it has 5 columns in place of query, Q0, document, rank, "),
        ("run.trec", "q1 Q0 d1 1 nan x\n", r"run.trec, line 1: the score 'nan' is not a number"),
        ("run.trec", "q1 Q0 d1 1 1 x\nq1 Q0 d1 2 1 x\n", r"run.trec, line 2: document 'd1' is there twice"),
        ("run.trec", "q9 Q0 d1 1 1 x\n", r"run.trec has none of the judged queries"),
    ],
)
def test_bad_files_are_named_with_their_line(beir: Path, file: str, content: str, sentence: str) -> None:
    (beir / file).write_text(content)
    with pytest.raises(FaultError, match=sentence):
        folder(beir, run=beir / "run.trec")


@pytest.mark.parametrize("file", ["corpus.jsonl", "queries.jsonl", "run.trec"])
def test_missing_files_are_named(beir: Path, file: str) -> None:
    (beir / file).unlink()
    with pytest.raises(FaultError, match=rf"{file} can't be read: No such file"):
        folder(beir, run=beir / "run.trec")


def test_bm25_refuses_an_empty_corpus_and_an_id_that_is_there_twice(beir: Path) -> None:
    (beir / "corpus.jsonl").write_text('{"_id": "d2", "text": "bees"}\n{"_id": "d2", "text": "bees dance"}\n')
    with pytest.raises(FaultError, match="has the id 'd2' twice"):
        folder(beir)
    (beir / "corpus.jsonl").write_text("")
    with pytest.raises(FaultError, match=r"corpus.jsonl has no documents"):
        folder(beir)


def test_lists_name_relevant_documents_by_index_by_id_or_by_grade(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "lists.jsonl",
        [
            {"query": "a", "documents": ["x", "y", "z"], "relevant": [2, 0]},
            {"id": "mine", "query": "b", "documents": [{"id": "n", "text": "x", "title": "T"}], "relevant": ["n"]},
            {"query": "c", "documents": ["x", {"id": "n", "text": "y"}], "relevant": {"n": 3, "0": 0}},
            {"query": "not judged", "documents": ["x"]},
            {"query": "nothing is relevant", "documents": ["x"], "relevant": []},
        ],
    )
    dataset = lists(path)
    assert [(query.id, query.text, query.grades) for query in dataset.queries] == [
        ("1", "a", {"2": 1, "0": 1}),
        ("mine", "b", {"n": 1}),
        ("3", "c", {"n": 3, "0": 0}),
    ]
    assert [dataset.texts(query) for query in dataset.queries] == [["x", "y", "z"], ["T x"], ["x", "y"]]
    assert dataset.counts.unjudged == 2
    assert lists(path, depth=2).texts(dataset.queries[0])[:2] == ["x", "y"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ({"documents": ["x"]}, r"line 2: Object missing required field `query`"),
        ({"query": "a", "documents": ["x"], "positives": [0]}, r"line 2: Object contains unknown field `positives`"),
        ({"query": "a", "documents": [7]}, r"line 2: Expected `str \| object`, got `int` - at `\$.documents\[0\]`"),
        ({"query": "a", "documents": [{"body": "x"}]}, r"line 2: .* at `\$.documents\[0\]`"),
        ({"query": "a", "documents": []}, r"line 2: there are no documents - at `\$.documents`"),
        (
            {"query": "a", "documents": ["x"], "relevant": [1]},
            r"line 2: there is no document 1, only 0 to 0 - at `\$.re",
        ),
        ({"query": "a", "documents": ["x"], "relevant": [-1]}, r"line 2: there is no document -1, only 0 to 0"),
        ({"query": "a", "documents": ["x"], "relevant": [True]}, r"line 2: .* at `\$.relevant\[0\]`"),
        (
            {"query": "a", "documents": ["x"], "relevant": ["y"]},
            r"line 2: no document has the id 'y' - at `\$.relevant",
        ),
        ({"query": "a", "documents": ["x"], "relevant": {"y": 1}}, r"line 2: no document has the id 'y'"),
        ({"query": "a", "documents": ["x"], "relevant": {"0": 0.5}}, r"line 2: Expected `int`, got `float`"),
        ({"query": "a", "documents": ["x"], "relevant": [0, "0"]}, r"line 2: the document '0' is there already"),
        ({"id": "1", "query": "a", "documents": ["x"]}, r"line 2: the id '1' is that of line 1"),
        (
            {"query": "a", "documents": [{"id": "n", "text": "x"}, {"id": "n", "text": "y"}]},
            r"line 2: the id 'n' is there already - at `\$.documents\[1\]`",
        ),
    ],
)
def test_bad_lists_are_named_by_line_and_field(tmp_path: Path, line: object, sentence: str) -> None:
    path = write_lines(tmp_path / "l.jsonl", [{"query": "a", "documents": ["x"], "relevant": [0]}, line])
    with pytest.raises(FaultError, match=sentence):
        lists(path)


def test_other_bytes_than_json_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    for content in (b"\xff\xfe", b'{"query": "\xff", "documents": ["x"]}', b"query: a"):
        path.write_bytes(content)
        with pytest.raises(FaultError, match=r"l.jsonl, line 1: "):
            lists(path)
    path.write_text(json.dumps({"query": "a", "documents": ["x"]}))
    with pytest.raises(FaultError, match="has no line with a judgment"):
        lists(path)


def test_only_what_is_needed_is_in_memory(tmp_path: Path) -> None:
    corpus = {**CORPUS, **{f"x{at}": ("", "many words " * 50) for at in range(200)}}
    dataset = folder(write_beir(tmp_path / "large", corpus), run=tmp_path / "large" / "run.trec")
    held = json.dumps([[query.text, list(query.candidates.ids)] for query in dataset.queries])
    assert "many words" not in held
    reads: Callable[..., list[str]] = dataset.texts
    assert "rock" in reads(dataset.queries[0])[0]


def test_a_byte_order_mark_is_no_part_of_a_file(beir: Path, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "lists.jsonl", [{"query": "q", "documents": ["a", "b"], "relevant": [1]}])

    def found() -> list[Any]:
        datasets = [folder(beir), folder(beir, run=beir / "run.trec"), lists(path)]
        return [
            (query.id, query.text, query.candidates.ids, query.grades, dataset.texts(query), dataset.sources)
            for dataset in datasets
            for query in dataset.queries
        ]

    without = found()
    for each in (path, *beir.glob("*.*"), *beir.glob("qrels/*")):
        each.write_bytes(b"\xef\xbb\xbf" + each.read_bytes())
    assert found() == without
