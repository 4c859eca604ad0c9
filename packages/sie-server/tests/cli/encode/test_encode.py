"""`sie-server encode`: the vectors of a server in every kind of file, resumable, and its exit status."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sie_testing.command_line import CommandLine, end_when, start
from sie_testing.late_interaction_checkpoints import bge_m3
from sie_testing.serving import EMBEDDED, InProcess, connect, in_process

TEXTS = ["snakes are reptiles", "python is a programming language", "who made it", "python " * 40]


@pytest.fixture
def sie(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    return CommandLine(tmp_path, capfd, monkeypatch)


@pytest.fixture(scope="module")
def m3(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with every kind of vectors, as NAME=FOLDER."""
    bge_m3(folder := tmp_path_factory.mktemp("m3"))
    return f"m3={folder}"


@pytest.fixture(scope="module")
def serving(m3: str) -> Iterator[InProcess]:
    with in_process(model=(m3,), preload=("m3",), precision="float32", load_wait=60) as running:
        yield running


@pytest.fixture
def here(m3: str) -> tuple[str, ...]:
    return ("--model", m3, "--precision", "float32")


def served(running: InProcess, **params: Any) -> list[dict[str, Any]]:
    body = {"items": [{"text": text} for text in TEXTS], "params": params}
    with connect(running.url) as client:
        answer = client.post("/v1/encode/m3", json=body)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


@pytest.fixture
def dense(serving: InProcess) -> Any:
    """The vectors of a server `[texts, dims]`."""
    return np.array([item["dense"]["values"] for item in served(serving)], np.float32)


def test_an_array_has_the_vectors_of_a_server_to_the_bit(
    sie: CommandLine, here: tuple[str, ...], serving: InProcess, dense: Any, tmp_path: Path
) -> None:
    ran = sie("encode", "texts.txt", "--output", "here.npy", *here)
    assert (ran.status, ran.output, ran.error) == (0, "", "")
    found = np.load("here.npy")
    assert (found.dtype, found.shape) == (np.float32, dense.shape)
    assert np.array_equal(found, dense)
    assert sie("encode", "texts.txt", "--output", "there.npy", "--url", serving.url).status == 0
    assert Path("there.npy").read_bytes() == Path("here.npy").read_bytes()
    assert sie("encode", "-", "-o", "half.npy", "--dtype", "float16", *here, given="\n".join(TEXTS)).status == 0
    halves = np.load("half.npy")
    assert halves.dtype == np.float16
    assert np.array_equal(halves, dense.astype(np.float16))
    assert {path.suffix for path in tmp_path.iterdir()} == {"", ".txt", ".npy"}


def test_lines_of_json_keep_their_fields(
    sie: CommandLine, here: tuple[str, ...], serving: InProcess, dense: Any
) -> None:
    given = "\n".join(json.dumps({"id": f"d{i}", "text": text, "kept": i}) for i, text in enumerate(TEXTS))
    kinds = tuple(f"--output-type={name}" for name in ("dense", "sparse", "multivector"))
    ran = sie("encode", *here, *kinds, given=given)
    rows = [json.loads(line) for line in ran.output.splitlines()]
    assert [(row["id"], row["text"], row["kept"]) for row in rows] == [(f"d{i}", t, i) for i, t in enumerate(TEXTS)]
    assert np.array_equal(np.array([row["dense"] for row in rows], np.float32), dense)
    expected = served(serving, output_types=["multivector", "sparse"])
    for row, item in zip(rows, expected, strict=True):
        assert row["sparse"]["indices"] == item["sparse"]["indices"]
        assert row["sparse"]["values"] == item["sparse"]["values"]
        assert np.array_equal(np.float32(row["multivector"]), np.float32(item["multivector"]["values"]))
    assert sie("encode", *kinds, "--url", serving.url, given=given).output == ran.output
    plain = sie("encode", "texts.txt", *here).output.splitlines()
    assert [json.loads(line)["index"] for line in plain] == [0, 1, 2, 3]


def test_a_table_has_the_same_vectors(sie: CommandLine, here: tuple[str, ...], dense: Any) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    kinds = tuple(f"--output-type={name}" for name in ("dense", "sparse", "multivector"))
    assert sie("encode", "texts.txt", "-o", "all.parquet", *here, *kinds).status == 0
    table = parquet.read_table("all.parquet")
    assert table["id"].to_pylist() == ["0", "1", "2", "3"]
    assert table["text"].to_pylist() == TEXTS
    assert np.array_equal(np.array(table["dense"].to_pylist(), np.float32), dense)
    rows = [json.loads(line) for line in sie("encode", "texts.txt", *here, *kinds).output.splitlines()]
    for name in ("sparse", "multivector"):
        assert table[name].to_pylist() == [row[name] for row in rows]
    assert sie("encode", "-o", "none.parquet", *here).status == 0
    assert parquet.read_table("none.parquet").num_rows == 0


def test_queries_and_cut_vectors(sie: CommandLine, here: tuple[str, ...]) -> None:
    widths = "384"
    refused = sie("encode", "texts.txt", "--dimensions", "7")
    assert (refused.status, widths in refused.error) == (2, True)
    assert sie("encode", "texts.txt", "--dimensions", widths).status == 0
    query = sie("encode", "texts.txt", "--query", *here)
    assert [json.loads(line)["index"] for line in query.output.splitlines()] == [0, 1, 2, 3]


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
def test_a_run_that_was_killed_is_completed_to_the_same_bytes(
    sie: CommandLine, here: tuple[str, ...], tmp_path: Path, suffix: str
) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    lines = [f"{TEXTS[i % 3]} {i}" for i in range(400)]
    output, note = tmp_path / f"x.{suffix}", tmp_path / f"x.{suffix}.resume"

    def done() -> int:
        try:
            return int(json.loads(note.read_bytes())["lines"])
        except FileNotFoundError:
            return 0

    process = start("encode", "--output", output, *here, stdin=subprocess.PIPE)
    assert process.stdin is not None
    for line in lines[:200]:  # it waits for the others until it is killed
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        time.sleep(0.01)
    assert end_when(process, lambda: done() > 0, signal.SIGKILL) == -9
    process.communicate()
    assert 0 < done() <= 200
    if suffix == "npy":
        with pytest.raises(ValueError, match=r"magic|pickled"):
            np.load(output)
    else:
        assert not output.exists()
    given = "\n".join(lines)
    assert sie("encode", "-o", output, "--resume", *here, "--dtype", "float16", given=given).status == 2
    assert sie("encode", "-o", output, "--resume", *here, given=given).status == 0
    assert sie("encode", "-o", f"whole.{suffix}", *here, given=given).status == 0
    assert output.read_bytes() == Path(f"whole.{suffix}").read_bytes()
    assert not tmp_path.joinpath(f"whole.{suffix}.resume").exists()
    again = sie("encode", "-o", output, "--resume", *here, given=given)
    assert (again.status, again.error) == (0, f"{output} is complete\n")
    assert output.read_bytes() == Path(f"whole.{suffix}").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["nowhere.txt"], 2, "nowhere.txt can't be read: No such file or directory."),
        (
            ["texts.txt", "-o", "x.bin"],
            2,
            "x.bin ends in none of .npy, .jsonl, .parquet; choose its form with --format.",
        ),
        (["texts.txt", "--format", "npy"], 2, "--format npy needs --output."),
        (["texts.txt", "--resume"], 2, "--resume needs --output."),
        (["texts.txt", "-o", "x.npy", "--output-type", "sparse"], 2, "An .npy file has dense vectors only"),
        (["texts.txt", "-o", "x.npy", "--on-error", "skip"], 2, "would shift the rows"),
        (["texts.txt", "-o", "texts.txt", "--format", "jsonl", "--overwrite"], 2, "is an input"),
        (["texts.txt", "--model", EMBEDDED, "--output-type", "sparse"], 3, "sparse"),
        (["texts.txt", "--url", "tei:http://127.0.0.1:1"], 2, "is not the URL of a server of SIE"),
        (["texts.txt", "--url", "http://127.0.0.1:1", "--dimensions", "9"], 2, "--dimensions is for a model in this"),
        (["texts.txt", "--input", "jsonl"], 2, "texts.txt, line 1: it is not JSON: "),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    sie: CommandLine, tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    before = {path.name for path in tmp_path.iterdir()} | {"standard-input"}
    ran = sie("encode", *arguments)
    assert (ran.status, ran.output) == (status, "")
    assert words in ran.error
    assert len(ran.error.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_missing_library_is_named(sie: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sie_server.cli.encode.job.find_spec", lambda _: None)
    ran = sie("encode", "texts.txt", "-o", "x.parquet")
    assert ran.status == 2
    assert ran.error == "A Parquet file needs pyarrow, which is not installed: pip install pyarrow.\n"


def test_a_bad_line_is_skipped_and_counted(sie: CommandLine, here: tuple[str, ...]) -> None:
    given = '{"text": "a"}\n{"txt": "b"}\n{"text": "c", "id": 3}\n'
    stopped = sie("encode", *here, given=given)
    assert stopped.status == 2
    assert stopped.error == "standard input, line 2: field 'text' is missing.\n"
    skipped = sie("encode", *here, "--on-error", "skip", given=given)
    assert (skipped.status, len(skipped.output.splitlines())) == (1, 2)
    assert skipped.error.splitlines()[-1] == "1 of 3 lines were skipped."


def test_a_byte_order_mark_is_no_part_of_a_text(sie: CommandLine, here: tuple[str, ...]) -> None:
    without = sie("encode", *here, given='{"text": "snakes"}\n')
    assert without.status == 0
    assert sie("encode", *here, given=b'\xef\xbb\xbf{"text": "snakes"}\n') == without


def test_a_title_is_in_front_of_the_text(sie: CommandLine, here: tuple[str, ...]) -> None:
    plain = sie("encode", *here, given="python is a language")
    line = {"title": "python", "text": "is a language"}
    found = json.loads(sie("encode", *here, given=json.dumps(line)).output)
    assert found == {**line, "dense": json.loads(plain.output)["dense"]}


def test_json_after_a_first_line_of_text_is_refused(sie: CommandLine, here: tuple[str, ...]) -> None:
    given = 'plain\n{"text": "a"}\n'
    refused = sie("encode", *here, given=given)
    assert refused.status == 2
    assert "line 2: it is a JSON object, and the first line is text." in refused.error
    assert len(sie("encode", *here, "--input", "text", given=given).output.splitlines()) == 2


def test_an_empty_input_is_said(sie: CommandLine, here: tuple[str, ...]) -> None:
    assert sie("encode", *here) == (0, "", "no texts in standard input\n")
