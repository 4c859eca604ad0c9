"""`sie-server rerank`: every form of input and output, bad input, and its exit status."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sie_server.cli.rerank.corpus import Corpus
from sie_server.cli.rerank.trec_run import TrecRun
from sie_server.cli.streaming.lines import FaultError
from sie_server.cli.streaming.model_flags import ModelFlags
from sie_testing.command_line import CommandLine, start
from sie_testing.serving import EMBEDDED, InProcess, connect, in_process, scores

QUERY = "what is python"
DOCUMENTS = ["snakes are reptiles", "python is a programming language", "who made it"]
LINES = [
    {"id": 7, "query": QUERY, "documents": DOCUMENTS, "price": 1.50},
    {"query": {"text": "snakes", "id": "q"}, "documents": [{"id": "a", "text": "who"}, {"text": "snakes", "x": 1}]},
    {"query": "nothing", "documents": []},
]


@pytest.fixture
def sie(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return CommandLine(tmp_path, capfd, monkeypatch)


@pytest.fixture(scope="module")
def serving(models: Path) -> Iterator[InProcess]:
    with in_process(model=(str(models / "bert"),), preload=("bert",), precision="float32") as running:
        yield running


@pytest.fixture
def bert(models: Path) -> tuple[str, ...]:
    return ("--model", str(models / "bert"), "--precision", "float32")


@pytest.fixture
def expected(api_of: Any) -> list[float]:
    return scores(api_of, "bert", QUERY, DOCUMENTS)


@pytest.fixture(scope="module")
def api_of(serving: InProcess) -> Iterator[Any]:
    with connect(serving.url) as client:
        yield client


def by_score(expected: list[float]) -> list[int]:
    return sorted(range(len(expected)), key=lambda index: -expected[index])


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    path = tmp_path / "docs.txt"
    path.write_text("\n".join([DOCUMENTS[0], "", DOCUMENTS[1] + "\r", DOCUMENTS[2]]))
    return path


def test_the_lines_of_a_file_are_ranked(
    sie: CommandLine, bert: tuple[str, ...], docs: Path, expected: list[float]
) -> None:
    ran = sie("rerank", QUERY, docs, *bert)
    rows = [line.split("\t") for line in ran.output.splitlines()]
    assert rows == [
        [str(rank), repr(expected[index]), DOCUMENTS[index]] for rank, index in enumerate(by_score(expected), 1)
    ]
    assert (ran.status, ran.error) == (0, "")


@pytest.mark.parametrize("where", [(), ("-",)])
def test_standard_input_is_read_without_a_file(
    sie: CommandLine, bert: tuple[str, ...], docs: Path, where: tuple[str, ...]
) -> None:
    from_file = sie("rerank", QUERY, docs, *bert)
    assert sie("rerank", QUERY, *where, *bert, given=docs.read_bytes()) == from_file


def test_a_server_gives_the_same_as_this_process(
    sie: CommandLine, bert: tuple[str, ...], docs: Path, serving: InProcess
) -> None:
    here = sie("rerank", QUERY, docs, *bert)
    assert sie("rerank", QUERY, docs, "--model", "bert", "--url", serving.url) == here
    assert sie("rerank", QUERY, docs, "--url", serving.url) == here, "its only model"
    assert sie("rerank", QUERY, docs, "-m", "bert", "--url", f"cohere:{serving.url}/cohere") == here


def test_one_query_has_every_form(sie: CommandLine, bert: tuple[str, ...], docs: Path, expected: list[float]) -> None:
    best = by_score(expected)[0]
    [line] = json_lines(sie("rerank", QUERY, docs, *bert, "--top", "1", "--format", "jsonl").output)
    assert line == {"rank": 1, "score": expected[best], "index": best, "text": DOCUMENTS[best]}
    number = [1, 3, 4][best]
    assert sie("rerank", QUERY, docs, *bert, "-n", "1", "--format", "trec").output == (
        f"1 Q0 {number} 1 {expected[best]!r} bert\n"
    )
    text = sie("rerank", QUERY, docs, *bert, "--format", "text").output.splitlines()
    assert text[0] == QUERY
    assert text[1] == f"   1 {expected[best]:>10.4f}  {DOCUMENTS[best]}"
    assert len(text) == 4
    docs.write_text("word " * 200)
    assert sie("rerank", QUERY, docs, *bert, "--format", "text").output.count("word") == 200, "not a terminal"


def test_documents_may_be_lines_of_json(sie: CommandLine, bert: tuple[str, ...], expected: list[float]) -> None:
    given = "\n".join(json.dumps({"id": f"d{i}", "text": text, "kept": [i]}) for i, text in enumerate(DOCUMENTS))
    ran = sie("rerank", QUERY, *bert, "--format", "jsonl", given=given)
    assert json_lines(ran.output) == [
        {"rank": rank, "score": expected[i], "index": i, "id": f"d{i}", "text": DOCUMENTS[i], "kept": [i]}
        for rank, i in enumerate(by_score(expected), 1)
    ]
    trec = sie("rerank", QUERY, *bert, "--format", "trec", given=given).output.splitlines()
    assert [line.split()[2] for line in trec] == [f"d{i}" for i in by_score(expected)]
    as_text = sie("rerank", QUERY, *bert, "--input", "text", given=given).output
    assert as_text.count('{"id"') == 3


def test_lines_with_queries_keep_all_that_they_have(
    sie: CommandLine, bert: tuple[str, ...], expected: list[float]
) -> None:
    given = "\n".join(map(json.dumps, LINES)).replace("1.5,", "1.50,").replace('"price": 1.5}', '"price": 1.50}')
    ran = sie("rerank", *bert, given=given)
    assert (ran.status, ran.error) == (0, "")
    assert '"price":1.50' in ran.output
    rows = json_lines(ran.output)
    assert [{key: value for key, value in row.items() if key != "ranking"} for row in rows] == LINES
    assert rows[0]["ranking"] == [{"index": i, "score": expected[i]} for i in by_score(expected)]
    assert {entry["index"]: entry.get("id") for entry in rows[1]["ranking"]} == {0: "a", 1: None}
    assert rows[2]["ranking"] == []
    again = sie("rerank", *bert, "--top", "1", given=ran.output)
    assert [len(row["ranking"]) for row in json_lines(again.output)] == [1, 1, 0], "a ranking is replaced"


def test_lines_with_queries_have_every_form(sie: CommandLine, bert: tuple[str, ...], expected: list[float]) -> None:
    given = "\n".join(map(json.dumps, LINES))
    best = by_score(expected)[0]
    tsv = sie("rerank", *bert, "--format", "tsv", given=given).output.splitlines()
    assert tsv[0] == f"7\t1\t{expected[best]!r}\t{DOCUMENTS[best]}"
    assert [line.split("\t")[0] for line in tsv] == ["7", "7", "7", "q", "q"]
    trec = sie("rerank", *bert, "--format", "trec", given=given).output.splitlines()
    assert trec[0] == f"7 Q0 {best} 1 {expected[best]!r} bert"
    assert {line.split()[2] for line in trec[3:]} == {"a", "1"}
    assert sie("rerank", *bert, "--format", "text", given=given).output.startswith(f"{QUERY}\n   1 ")


def test_a_single_argument_that_names_a_file_is_the_file(
    sie: CommandLine, bert: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "hits.jsonl"
    path.write_text("\n".join(map(json.dumps, LINES)))
    assert sie("rerank", path, *bert) == sie("rerank", *bert, given=path.read_bytes())


@pytest.fixture
def beir(tmp_path: Path) -> dict[str, Path]:
    corpus = [{"_id": str(i), "title": "", "text": text} for i, text in enumerate(DOCUMENTS)]
    corpus[1]["title"], corpus[1]["text"] = "python", "is a programming language"
    files = {
        "corpus": "\n".join(map(json.dumps, corpus)) + "\n",
        "queries": json.dumps({"_id": "a", "text": QUERY}) + "\n" + json.dumps({"_id": "b", "text": "snakes"}),
        "run": "a Q0 0 1 9.5 bm25\nb Q0 2 1 3 bm25\na Q0 1 2 9 bm25\na\tQ0\t2\t3\t1.5\tbm25\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    return {name: tmp_path / name for name in files}


def flags(files: dict[str, Path]) -> list[str | Path]:
    return [part for name, path in files.items() for part in (f"--{name}", path)]


def test_the_documents_of_a_run_are_ranked(
    sie: CommandLine, bert: tuple[str, ...], beir: dict[str, Path], expected: list[float]
) -> None:
    ran = sie("rerank", *flags(beir), *bert)
    assert (ran.status, ran.error) == (0, "")
    rows = [line.split() for line in ran.output.splitlines()]
    assert rows[:3] == [
        ["a", "Q0", str(i), str(rank), repr(expected[i]), "bert"] for rank, i in enumerate(by_score(expected), 1)
    ]
    assert [row[:4] for row in rows[3:]] == [["b", "Q0", "2", "1"]]
    deep = sie("rerank", *flags(beir), *bert, "--depth", "2").output.splitlines()
    assert {line.split()[2] for line in deep[:2]} == {"0", "1"}, "by the scores of the run"
    columns = "".join(f"{i}\t{text}\n" for i, text in enumerate(DOCUMENTS))
    beir["corpus"].write_text(columns)
    assert sie("rerank", *flags(beir), *bert).output == ran.output


def test_scores_of_the_judged_collection_do_not_depend_on_the_depth(
    sie: CommandLine, data: Path, models: Path, tmp_path: Path
) -> None:
    folder = data / "ir" / "dl19"
    files = {"corpus": folder / "corpus.jsonl", "queries": folder / "queries.jsonl"}
    run = tmp_path / "run.trec"
    run.write_text("".join((folder / "run.bm25.top100.trec").read_text().splitlines(keepends=True)[:200]))
    found = {}
    for depth in (3, 10):
        ran = sie("rerank", *flags({**files, "run": run}), "--depth", str(depth), "--model", models / "bert")
        rows = [line.split() for line in ran.output.splitlines()]
        assert len(rows) == 2 * depth
        found[depth] = {(row[0], row[2]): row[4] for row in rows}
    assert found[3].items() <= found[10].items()


GOOD = json.dumps({"query": "q", "documents": ["d"]})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: it is not a JSON object: "),
        ("[1]", "line 2: it is not a JSON object: "),
        ('{"documents": []}', "line 2: field 'query' is missing."),
        ('{"query": "q"}', "line 2: field 'documents' is missing."),
        ('{"query": " ", "documents": ["d"]}', "line 2: field 'query' is empty."),
        (
            '{"query": 1, "documents": []}',
            "line 2: field 'query' must be a string, or an object with a string in 'text'.",
        ),
        ('{"query": "q", "documents": "d"}', "line 2: field 'documents' must be a list."),
        ('{"query": "q", "documents": ["a", {"txt": "b"}]}', "line 2: field 'documents[1]' must be a string"),
        (
            '{"query": "q", "documents": [], "instruction": "x"}',
            "field 'instruction' has no effect here; use --instruct",
        ),
        (b'{"query": "\xff", "documents": []}', "line 2: "),
    ],
)
def test_a_bad_line_is_named_and_what_came_before_it_is_written(
    sie: CommandLine, bert: tuple[str, ...], line: str | bytes, words: str
) -> None:
    bad = line if isinstance(line, bytes) else line.encode()
    given = b"\n".join([GOOD.encode(), bad, GOOD.encode()])
    stopped = sie("rerank", *bert, given=given)
    assert stopped.status == 2
    assert words in stopped.error
    assert stopped.error.startswith("standard input, line 2: ")
    assert len(stopped.error.splitlines()) == 1
    assert len(json_lines(stopped.output)) == 1
    skipped = sie("rerank", *bert, "--on-error", "skip", given=given)
    assert skipped.status == 1
    assert skipped.error.splitlines()[1:] == ["1 of 3 lines were skipped."]
    assert skipped.error.splitlines()[0].endswith(". Skipped.")
    assert len(json_lines(skipped.output)) == 2


def test_a_document_that_the_model_refuses_is_named(
    sie: CommandLine, bert: tuple[str, ...], expected: list[float]
) -> None:
    given = "\n".join([*DOCUMENTS, "python " * 600])
    refused = sie("rerank", QUERY, *bert, "--long-documents", "error", given=given)
    assert (refused.status, refused.output) == (1, "")
    assert "standard input, line 4: " in refused.error
    assert "tokens" in refused.error
    skipped = sie("rerank", QUERY, *bert, "--long-documents", "error", "--on-error", "skip", given=given)
    assert (skipped.status, len(skipped.output.splitlines())) == (1, 3)
    assert skipped.error.endswith("1 of 4 lines were skipped.\n")
    assert skipped.output.splitlines()[0].split("\t")[1] == repr(max(expected))


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["q", "nowhere.txt"], 2, "nowhere.txt can't be read: No such file or directory."),
        (["q", "."], 2, ". can't be read: it is a folder."),
        (["--depth", "3"], 2, "--depth is for a run"),
        (["--run", "x"], 2, "--corpus is missing"),
        (["--input", "text"], 2, "--input text needs a query"),
        (["q", "--resume"], 2, "--resume needs --output"),
        (["q", "--output", "no/folder"], 2, "no/folder can't be written: its folder is missing."),
        (["q", "--url", "acme:http://x"], 2, "DIALECT is one of cohere, "),
        (["q", "--url", "http://127.0.0.1:1", "--precision", "int8"], 2, "can't be chosen here."),
        (["q", "--model", "./nowhere"], 2, "no such folder: nowhere"),
        (["q", "--model", "someone/nothing"], 3, "someone/nothing"),
        (["q", "--url", "http://127.0.0.1:1"], 3, "no server at http://127.0.0.1:1\n"),
        ([""], 2, "The query is empty.\n"),
        ([" \t"], 2, "The query is empty.\n"),
        (["q", "--url", "tei:http://127.0.0.1:1"], 3, "tei at http://127.0.0.1:1: "),
    ],
)
def test_a_wrong_flag_is_reported_in_a_sentence(
    sie: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    monkeypatch.setattr("sie_server.checkpoints.hub.is_offline_mode", lambda: True)
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    monkeypatch.setattr("sie_server.cli.rankers.other_server._UNREACHED_S", 0.1)
    monkeypatch.setenv("SIE_PRECISION", "auto")
    monkeypatch.chdir(tmp_path)
    ran = sie("rerank", *arguments, given="d\n")
    assert (ran.status, ran.output) == (status, "")
    assert words in ran.error
    assert "Traceback" not in ran.error
    if status != 2 or words.endswith("\n"):
        assert len(ran.error.splitlines()) == 1


def test_a_file_of_documents_without_a_query_is_explained(sie: CommandLine, docs: Path, bert: tuple[str, ...]) -> None:
    ran = sie("rerank", docs, *bert)
    assert ran.status == 2
    assert ran.error.endswith("To rank the lines of a file, give a query: sie-server rerank QUERY FILE.\n")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "run",
            "a Q0 0 1 9.5\n",
            "run, line 1: it has 5 columns in place of query, Q0, document, rank, score and name.",
        ),
        ("run", "a Q0 0 1 x bm25\n", "run, line 1: the score 'x' is not a number."),
        ("run", "a Q0 0 1 2 x\na Q0 0 2 1 x\n", "run, line 2: document '0' is there twice for query 'a'."),
        ("run", "c Q0 0 1 9.5 x\n", "run, line 1: there is no query 'c' in the file of --queries."),
        ("run", "a Q0 9 1 9.5 x\n", "run, line 1: there is no document '9' in the file of --corpus."),
        ("corpus", '{"_id": "0", "text": "a"}\n{"_id": "0", "text": "b"}\n', "corpus: the id '0' is there twice."),
        ("corpus", '{"_id": "0"}\n', "corpus, line 1: Object missing required field `text`."),
        ("corpus", '{"text": "a"}\n', "corpus, line 1: field '_id' is missing."),
        ("corpus", "0 a\n", "corpus, line 1: it is neither a JSON object, nor an id and a text parted by a tab."),
        ("queries", "a\tb\na\tc\n", "queries, line 2: the id 'a' is there twice."),
    ],
)
def test_a_fault_in_a_file_of_a_run_is_named(
    sie: CommandLine, bert: tuple[str, ...], beir: dict[str, Path], name: str, content: str, words: str
) -> None:
    beir[name].write_text(content)
    ran = sie("rerank", *flags(beir), *bert)
    assert (ran.status, ran.output) == (2, "")
    assert ran.error == f"{beir[name].parent}/{words}\n"


def test_ids_with_the_same_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sie_server.cli.rerank.corpus._hash", lambda name: len(name))
    path = tmp_path / "corpus.tsv"
    path.write_text("a\tone\nbb\ttwo\nc\tthree\n")
    with Corpus(path, lambda *_: None) as corpus:
        assert [corpus.text(name) for name in ("a", "bb", "c", "d", "eee")] == ["one", "two", "three", None, None]
    path.write_text("a\tone\nb\ttwo\na\tthree\n")
    with pytest.raises(FaultError, match="'a' is there twice"):
        Corpus(path, lambda *_: None)


def test_a_run_in_any_order_has_each_query_once(tmp_path: Path) -> None:
    path = tmp_path / "run"
    order = np.random.default_rng(0).permutation(60)
    lines = [f"q{i % 6} Q0 d{i} 1 {-(i // 6)} x\n" for i in order.tolist()]
    path.write_text("".join(lines))
    with TrecRun(path, lambda *_: None) as run:
        found = {each.query: each.documents for each in run.candidates(4)}
    assert found == {f"q{i}": [f"d{i + 6 * j}" for j in range(4)] for i in range(6)}


def test_whoever_reads_only_the_first_lines_ends_it_quietly(bert: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "hits.jsonl"
    path.write_text((GOOD + "\n") * 3000)
    process = start("rerank", path, *bert)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["query"] == "q"
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_slow_writer_gets_each_answer_at_once(bert: tuple[str, ...]) -> None:
    process = start("rerank", *bert, stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for _ in range(2):
        process.stdin.write(GOOD.encode() + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["ranking"][0]["index"] == 0
    output, error = process.communicate(timeout=60)
    assert (process.returncode, output, error) == (0, b"", b"")


def test_the_default_model_needs_no_hub(sie: CommandLine, docs: Path) -> None:
    ran = sie("rerank", QUERY, docs)
    assert ran.status == 0
    assert ran.output.splitlines()[0].split("\t")[2] == DOCUMENTS[1]
    assert sie("rerank", QUERY, docs, "--model", EMBEDDED) == ran


MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("query", "given"),
    [
        ([QUERY], "\n".join(json.dumps({"text": text}) for text in DOCUMENTS)),
        ([QUERY], "\n".join(DOCUMENTS)),
        ([QUERY], DOCUMENTS[0]),
        ([], json.dumps(LINES[0])),
    ],
)
def test_a_byte_order_mark_is_no_part_of_a_text(
    sie: CommandLine, bert: tuple[str, ...], tmp_path: Path, query: list[str], given: str
) -> None:
    without = sie("rerank", *query, *bert, "--format", "jsonl", given=given)
    assert without.status == 0
    assert sie("rerank", *query, *bert, "--format", "jsonl", given=MARK + given.encode()) == without
    (tmp_path / "marked").write_bytes(MARK + given.encode())
    assert sie("rerank", *query, tmp_path / "marked", *bert, "--format", "jsonl") == without


def test_a_byte_order_mark_is_no_part_of_a_file_of_a_run(
    sie: CommandLine, bert: tuple[str, ...], beir: dict[str, Path]
) -> None:
    without = sie("rerank", *flags(beir), *bert)
    assert without.status == 0
    for path in beir.values():
        path.write_bytes(MARK + path.read_bytes())
    assert sie("rerank", *flags(beir), *bert) == without


def test_json_after_a_first_line_of_text_is_refused_unless_all_is_text(sie: CommandLine, bert: tuple[str, ...]) -> None:
    given = 'plain\n{brace}\n{"text": "a"}\n'
    refused = sie("rerank", QUERY, *bert, given=given)
    assert (refused.status, refused.output) == (2, "")
    assert refused.error.startswith("standard input, line 3: it is a JSON object, and the first line is text.")
    assert "--input text" in refused.error
    ranked = sie("rerank", QUERY, *bert, "--input", "text", given=given)
    assert sorted(line.split("\t")[2] for line in ranked.output.splitlines()) == ["plain", '{"text": "a"}', "{brace}"]


def test_a_title_is_in_front_of_the_text_in_every_kind_of_input(
    sie: CommandLine, bert: tuple[str, ...], tmp_path: Path
) -> None:
    document = {"_id": "1", "title": "python", "text": "is a language"}
    run = {
        "run": "a Q0 1 1 1 x\n",
        "corpus": json.dumps(document) + "\n",
        "queries": json.dumps({"_id": "a", "text": QUERY}) + "\n",
    }
    for name, content in run.items():
        (tmp_path / name).write_text(content)
    [expected] = json_lines(sie("rerank", QUERY, *bert, "--format", "jsonl", given="python is a language").output)
    [alone] = json_lines(sie("rerank", QUERY, *bert, "--format", "jsonl", given=json.dumps(document)).output)
    assert alone == {"rank": 1, "score": expected["score"], "index": 0, **document}
    [line] = json_lines(sie("rerank", *bert, given=json.dumps({"query": QUERY, "documents": [document]})).output)
    of_run = sie("rerank", *flags({name: tmp_path / name for name in run}), *bert).output
    assert [line["ranking"][0]["score"], float(of_run.split()[4])] == [expected["score"]] * 2


def test_a_title_is_a_string(sie: CommandLine, bert: tuple[str, ...]) -> None:
    ran = sie("rerank", QUERY, *bert, given='{"text": "a", "title": 1}')
    assert (ran.status, ran.error) == (2, "standard input, line 1: field 'title' must be a string.\n")
    ran = sie("rerank", *bert, given='{"query": "q", "documents": [{"text": "a", "title": 1}]}')
    assert (ran.status, ran.error) == (2, "standard input, line 1: field 'documents[0].title' must be a string.\n")


@pytest.mark.parametrize("query", [[QUERY], []])
def test_an_empty_input_is_said(sie: CommandLine, bert: tuple[str, ...], tmp_path: Path, query: list[str]) -> None:
    (tmp_path / "empty").write_bytes(b"\n")
    assert sie("rerank", *query, tmp_path / "empty", *bert) == (0, "", f"no documents in {tmp_path / 'empty'}\n")
    assert sie("rerank", *query, *bert, given=MARK) == (0, "", "no documents in standard input\n")


def test_what_is_shown_first_is_what_happens() -> None:
    here = ModelFlags(None, None, None, None, "auto", "auto", None)
    assert here.opening == "loading the model"
    assert replace(here, url="http://me:secret@host:1").opening == "asking http://host:1"
