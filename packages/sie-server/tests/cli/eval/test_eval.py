"""`sie-server eval`: tables, journals, refusals."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from judged_dataset import write_lines, write_run
from rich.console import Console

from sie_server.cli.eval.journal import Scored
from sie_server.cli.eval.results import speed
from sie_server.cli.rankers.ranker import RankerError, UnavailableError

if TYPE_CHECKING:
    from sie_testing.serving import Server

URL = ("--url", "http://127.0.0.1:9")
Evaluate = Callable[..., tuple[int, str, str]]


def results(folder: Path) -> Any:
    return json.loads((folder / "results.json").read_text())


def row(found: Any, name: str) -> Any:
    return next(each for each in found["rows"] if each["name"] == name)


def test_the_table_has_the_first_stage_the_models_and_the_best_order(
    evaluate: Evaluate, words: Any, beir: Path
) -> None:
    status, shown, _ = evaluate(beir, "--run", beir / "run.trec", "--model", "words", *URL)
    assert status == 0
    assert "tiny: 2 queries, 5 candidates from run.trec" in shown
    lines = {line.split()[0]: line.split() for line in shown.splitlines() if line.strip()}
    assert lines["a"][1:6] == ["run.trec", "0.8348", "0.7500", "1.0000", "0.7917"]
    assert lines["b"][1:6] == ["words@http://127.0.0.1:9", "1.0000", "1.0000", "1.0000", "1.0000"]
    assert [*lines["b"][6:8], *lines["b"][9:]] == ["20.0", "30.0", "35", "40.0%"]
    assert lines["perfect"][2:] == ["1.0000"] * 4
    assert "3 of the 3 relevant documents (100%) are candidates" in shown
    assert "1 query without judgments: left out, as trec_eval does." in shown
    assert "Nothing was saved." in shown
    assert len(words.asked) == 3  # one more than there are queries, before the first


def test_a_narrow_terminal_has_all_names_and_values(
    evaluate: Evaluate, words: Any, beir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sie_server.cli.output.console", lambda: Console(width=80))
    status, shown, _ = evaluate(beir, "--run", beir / "run.trec", "--model", "words", *URL)
    assert (status, len(words.asked)) == (0, 3)
    assert "…" not in shown
    assert shown.count("run.trec") == 4  # in two titles and two rows
    for value in ("0.8348", "1.0000", "20.0", "40.0%"):
        assert value in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.usefixtures("words")
def test_results_are_there_for_machines(evaluate: Evaluate, beir: Path, tmp_path: Path) -> None:
    options = ["--run", beir / "run.trec", "-m", "words", *URL, "--metrics", "P@1,AP", "--relevance-level", 2]
    status, shown, _ = evaluate(beir, *options, "--json")
    found = json.loads(shown)
    assert (status, found["measures"]) == (0, ["P(rel=2)@1", "AP(rel=2)"])
    assert found["queries"] == [["q1", "why do bees dance"], ["q2", "how a bicycle stays upright"]]
    assert row(found, "run.trec")["values"] == {"P(rel=2)@1": [0, 0], "AP(rel=2)": [0.5, 0]}
    assert row(found, "words@http://127.0.0.1:9")["values"]["P(rel=2)@1"] == [1, 0]
    assert found["dataset"] | {"sources": 0} == {
        "name": "tiny",
        "first_stage": "run.trec",
        "sources": 0,
        "queries": 2,
        "candidates": 5,
        "relevant": 1,
        "found": 1,
        "empty": 0,
        "counts": {"unjudged": 1, "unknown": 0, "absent": 0, "contradictory": 0},
        "relevance_level": 2,
    }
    assert list(tmp_path.iterdir()) == [beir]


@pytest.mark.usefixtures("words")
def test_gains_name_the_document_that_moved(evaluate: Evaluate, beir: Path, tmp_path: Path) -> None:
    evaluate(beir, "--run", beir / "run.trec", "-m", "words", *URL, "-o", tmp_path / "out")
    [changes] = results(tmp_path / "out")["changes"]
    assert (changes["before"], changes["after"], changes["gained"], changes["lost"]) == ("a", "b", 1, 0)
    [best] = changes["best"]
    assert (best["query"], best["text"], best["after"]) == ("q1", "why do bees dance", 1)
    assert best["movements"][0] == {
        "document": "d2",
        "grade": 2,
        "before": 2,
        "after": 1,
        "text": "Bees Bees dance to tell where flowers are.",
    }


def test_documents_per_second_count_the_time_in_which_a_request_was_under_way() -> None:
    queries = [
        Scored("1", [0.0] * 30, 100.0, 2.0),
        Scored("2", [0.0] * 30, 101.0, 2.0),
        Scored("3", [0.0] * 30, 200.0, 1.0),
    ]
    found = speed(queries)
    assert found is not None
    assert (found.documents, found.documents_per_s) == (90, pytest.approx(90 / 4))
    assert (found.p50_ms, found.p95_ms, found.tokens) == (2000, 2000, None)


def test_two_models_in_this_process(evaluate: Evaluate, models: Path, beir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ["-m", f"one={models / 'bert'}", "-m", f"other={models / 'xlm-roberta'}", "--precision", "float32"]
    status, shown, _ = evaluate(beir, *flags, "-o", out)
    assert status == 0
    found = results(out)
    assert [each["name"] for each in found["rows"]] == ["BM25", "one", "other", "perfect order"]
    assert {(each["one"], each["other"]) for each in found["comparisons"]} == {("b", "a"), ("c", "a"), ("c", "b")}
    assert [(each["before"], each["after"]) for each in found["changes"]] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert str(out / "report.html") in shown
    assert row(found, "one")["settings"]["precision"] == "float32"


def test_lists_and_other_apis_against_our_own_server(evaluate: Evaluate, server: "Server", tmp_path: Path) -> None:
    dataset = write_lines(
        tmp_path / "lists.jsonl",
        [
            {"query": "why do bees dance", "documents": ["a lighthouse", "bees dance", "a hive"], "relevant": [1]},
            {"query": "what is python", "documents": ["snakes", "a language", "x"], "relevant": {"1": 2, "0": 1}},
        ],
    )
    bare = server.url.removeprefix("http://")
    names = [f"bert@http://{bare}", *(f"bert@{api}:http://{bare}" for api in ("cohere", "jina", "mixedbread"))]
    flags = [part for name in names for part in ("-m", name)]
    status, shown, _ = evaluate(dataset, *flags, "--json")
    found = json.loads(shown)
    assert status == 0, [each["failures"] for each in found["rows"]]
    assert found["dataset"]["first_stage"] == "the order given"
    values = [row(found, name)["values"] for name in names]
    assert values[1:] == values[:1] * 3
    assert row(found, names[0])["speed"]["tokens"] > 0


def test_a_run_that_was_stopped_goes_on(evaluate: Evaluate, words: Any, beir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [beir, "--run", beir / "run.trec", "-m", "words", *URL, "-o", out]

    def stop(query: str) -> None:
        if query == "how a bicycle stays upright":
            os.kill(os.getpid(), signal.SIGINT)

    words.before = stop
    status, shown, said = evaluate(*command)
    assert (status, shown) == (130, "")
    assert f"Interrupted. The scores so far are in {out}, and the same command continues from there." in said
    assert [path.suffix for path in out.iterdir()] == [".jsonl"]
    [journal] = out.iterdir()
    assert [json.loads(line).get("query") for line in journal.read_text().splitlines()] == [None, "q1"]
    # As if the process had ended in the middle of a line.
    journal.write_text(journal.read_text() + '{"query": "q2", "sco')
    words.before = lambda _: None
    words.asked.clear()
    assert evaluate(*command)[0] == 0
    assert words.asked == ["how a bicycle stays upright"] * 2
    assert len(journal.read_text().splitlines()) == 3
    first = results(out)
    words.asked.clear()
    assert evaluate(*command)[0] == 0
    assert words.asked == []
    assert results(out) | {"finished": 0} == first | {"finished": 0}


def test_ctrl_c_without_a_folder_says_that_nothing_is_saved(evaluate: Evaluate, words: Any, beir: Path) -> None:
    words.before = lambda _: os.kill(os.getpid(), signal.SIGINT)
    status, _, said = evaluate(beir, "-m", "words", *URL)
    assert status == 130
    assert "Nothing was saved" in said


@pytest.mark.usefixtures("words")
def test_scores_of_other_data_models_and_settings_are_not_mixed(evaluate: Evaluate, beir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [beir, "--run", beir / "run.trec", *URL, "-o", out]
    assert evaluate(*command, "-m", "words")[0] == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def refused(*flags: object) -> str:
        status, shown, said = evaluate(*command, *flags)
        assert (status, shown) == (2, "")
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        assert "Choose another --output, or delete that file." in said
        return said

    assert "'words@http://127.0.0.1:9' changed: instruction was not set and is find bees now." in refused(
        "-m", "words", "--instruction", "find bees"
    )
    assert "concurrency was 1 and is 2 now" in refused("-m", "words", "--concurrency", "2")
    assert "before the dataset changed: depth was 100 and is 1 now" in refused("-m", "new", "--depth", "1")
    write_run(beir / "run.trec", {"q1": ["d2"]})
    assert "before the dataset changed: run has changed" in refused("-m", "new")
    assert "before the dataset changed: run is gone and BM25 is new" in refused_without_run(evaluate, beir, out)


def refused_without_run(evaluate: Evaluate, beir: Path, out: Path) -> str:
    status, _, said = evaluate(beir, "-m", "new", *URL, "-o", out)
    assert status == 2
    return said


def test_a_model_whose_files_changed_is_noticed(evaluate: Evaluate, beir: Path, tmp_path: Path, models: Path) -> None:
    import shutil

    folder = tmp_path / "mine"
    shutil.copytree(models / "bert", folder)
    command = [beir, "--run", beir / "run.trec", "-m", f"m={folder}", "-o", tmp_path / "out"]
    assert evaluate(*command)[0] == 0
    os.utime(folder / "model.safetensors", (1, 1))
    status, _, said = evaluate(*command)
    assert status == 2
    assert "before 'm' changed: state of the model's files has changed" in said


def test_a_new_model_joins_those_that_were_scored(evaluate: Evaluate, words: Any, beir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert evaluate(beir, "-m", "one", *URL, "-o", out)[0] == 0
    words.asked.clear()
    assert evaluate(beir, "-m", "one", "-m", "two", *URL, "-o", out)[0] == 0
    assert len(words.asked) == 3
    assert len(results(out)["rows"]) == 4


def test_queries_that_a_model_refuses_keep_their_order_and_are_said(
    evaluate: Evaluate, words: Any, beir: Path, tmp_path: Path
) -> None:
    def refuse(query: str) -> None:
        if "bees" in query:
            raise RankerError("This query is too long.")

    words.before = refuse
    command = [beir, "--run", beir / "run.trec", "-m", "words", *URL, "-o", tmp_path / "out"]
    status, shown, _ = evaluate(*command)
    assert status == 1
    assert "'words@http://127.0.0.1:9' refused 1 of the queries" in shown
    assert "The first of them is 'q1': This query is too long." in " ".join(shown.split())
    found = results(tmp_path / "out")
    assert row(found, "words@http://127.0.0.1:9")["values"] == row(found, "run.trec")["values"]
    words.before = lambda _: None
    assert evaluate(*command)[0] == 0


def test_a_model_that_refuses_everything_is_an_error(evaluate: Evaluate, words: Any, beir: Path) -> None:
    def refuse(query: str) -> None:
        raise RankerError(f"Not '{query}'.")

    words.before = refuse
    status, shown, said = evaluate(beir, "-m", "words", *URL)
    assert (status, shown) == (1, "")
    assert "refused every query. The first error is: Not 'why do bees dance'." in said


def test_a_server_that_goes_away_ends_the_run_but_not_what_was_scored(
    evaluate: Evaluate, words: Any, beir: Path, tmp_path: Path
) -> None:
    def leave(query: str) -> None:
        if "bicycle" in query:
            raise UnavailableError("The server is gone.")

    words.before = leave
    status, shown, said = evaluate(beir, "-m", "words", *URL, "-o", tmp_path / "out", "--concurrency", "2")
    assert (status, shown) == (3, "")
    assert said.splitlines()[-2:] == [
        "The server is gone.",
        f"The scores so far are in {tmp_path / 'out'}, and the same command continues from there.",
    ]


@pytest.mark.parametrize(
    ("flags", "status", "sentence"),
    [
        (["-m", "x", "-m", "x"], 2, "--model x is there twice."),
        (["--metrics", "nDCG@ten"], 2, "ir-measures has no measure 'nDCG@ten'"),
        (["--split", "dev"], 2, "has no dev.tsv. --split can be one of: test."),
        (["--run", "nowhere.trec"], 2, "nowhere.trec can't be read: No such file or directory."),
        (["--run", "RUN", "--bm25-language", "german"], 2, "--bm25-language is of no use with --run"),
        (["-m", "./nowhere"], 2, "no such folder: nowhere"),
        (["--depth", "0"], 2, "--depth"),
        (["--url", "http://127.0.0.1:9", "--precision", "float32"], 2, "precision"),
        (["--url", "smoke:http://127.0.0.1:9"], 2, "smoke"),
        (["--url", "http://127.0.0.1:9", "-m", "x"], 3, "no server at http://127.0.0.1:9"),
        (["-m", "BAAI/bge-reranker-base"], 3, "BAAI/bge-reranker-base"),
        (["-o", "corpus.jsonl"], 2, "can't be a folder"),
    ],
)
def test_what_can_not_be_done_is_said_and_nothing_is_written(
    evaluate: Evaluate,
    beir: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    status: int,
    sentence: str,
) -> None:
    monkeypatch.chdir(beir)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = sorted(beir.rglob("*"))
    found, shown, said = evaluate(beir, *(beir / "run.trec" if flag == "RUN" else flag for flag in flags))
    assert found == status
    assert sentence in " ".join((said + shown).replace("│", " ").split())
    assert sorted(beir.rglob("*")) == before


def test_a_missing_dataset_and_flags_that_are_for_folders(evaluate: Evaluate, tmp_path: Path) -> None:
    assert "nowhere can't be read: No such file or directory." in evaluate(tmp_path / "nowhere")[2]
    path = write_lines(tmp_path / "l.jsonl", [{"query": "a", "documents": ["x"], "relevant": [0]}])
    status, _, said = evaluate(path, "--split", "dev")
    assert status == 2
    assert "--split is for a folder" in said
    assert "has neither qrels/test.tsv nor qrels.tsv" in evaluate(_with_queries(tmp_path / "empty"))[2]


def _with_queries(folder: Path) -> Path:
    folder.mkdir()
    write_lines(folder / "queries.jsonl", [{"_id": "1", "text": "x"}])
    return folder


def test_what_is_not_installed_is_named_with_the_line_that_installs_it(
    evaluate: Evaluate, beir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sie_server.cli.eval.command.find_spec", lambda name: None if name in ("Stemmer", "scipy") else name
    )
    status, _, said = evaluate(beir)
    assert status == 2
    assert said == "`sie-server eval` needs more packages. Install them with: pip install PyStemmer scipy\n"


@pytest.mark.usefixtures("words")
def test_what_only_bm25_needs_is_not_asked_for_where_there_are_candidates(
    evaluate: Evaluate, beir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "sie_server.cli.eval.command.find_spec", lambda name: None if name in ("Stemmer", "bm25s") else name
    )
    lists = write_lines(tmp_path / "l.jsonl", [{"query": "a", "documents": ["x", "a"], "relevant": [1]}])
    assert evaluate(lists, "-m", "words", *URL)[0] == 0
    assert evaluate(beir, "-m", "words", *URL, "--run", beir / "run.trec")[0] == 0
    assert evaluate(beir, "-m", "words", *URL)[2].endswith("pip install bm25s PyStemmer\n")


@pytest.mark.usefixtures("words")
def test_a_list_of_measures_takes_one_argument(evaluate: Evaluate, tmp_path: Path) -> None:
    lists = write_lines(tmp_path / "l.jsonl", [{"query": "a", "documents": ["x", "a"], "relevant": [1]}])
    status, shown, _ = evaluate("--metrics", "P(rel=1)@5, nDCG@20", "--metrics", "AP", lists, "-m", "words", *URL)
    assert status == 0
    said = " ".join(shown.split())
    assert said.startswith("l: 1 query, 2 candidates in the order given")
    assert "ranking P@5 nDCG@20 MAP" in said


@pytest.mark.usefixtures("words")
def test_the_password_of_a_url_is_not_written_anywhere(evaluate: Evaluate, beir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ["-m", "a@https://me:secret@example.com/x", "-m", "b@cohere:https://me:secret@example.com"]
    status, shown, _ = evaluate(beir, *flags, "-o", out)
    assert status == 0
    assert "a@https://example.com/x" in shown
    assert "b@cohere:https://example.com" in shown
    assert all("secret" not in path.read_text() and "secret" not in path.name for path in out.iterdir())


@pytest.mark.usefixtures("words")
def test_bm25_on_trec_dl_2019(evaluate: Evaluate, data: Path) -> None:
    """The figures that trec_eval gives for the run; those of the model take a minute, and are a benchmark."""
    folder = data / "ir" / "dl19"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    flags = ["--run", folder / "run.bm25.top100.trec", "-m", "words", *URL, "--relevance-level", 2, "--json"]
    status, shown, _ = evaluate(folder, *flags)
    assert status == 0
    means = row(json.loads(shown), "run.bm25.top100.trec")["means"]
    assert round(means["nDCG@10"]["value"], 4) == 0.5058
    assert round(means["RR(rel=2)@10"]["value"], 4) == 0.7024
