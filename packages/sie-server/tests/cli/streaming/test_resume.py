"""A file that is not complete: whenever the command ended, a later one makes the bytes of an uninterrupted one."""

import asyncio
import json
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sie_server.cli.streaming.destination import ResumableFile
from sie_server.cli.streaming.in_order import Window, in_order
from sie_server.cli.streaming.lines import FaultError
from sie_testing.command_line import CommandLine, end_when, start

WORDS = ["python", "is", "a", "programming", "language", "snakes", "are", "reptiles", "what", "who", "made", "it"]


@pytest.fixture
def sie(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return CommandLine(tmp_path, capfd, monkeypatch)


def texts(count: int) -> list[str]:
    generator = random.Random(count)
    return [" ".join(generator.choices(WORDS, k=12)) for _ in range(count)]


def command(kind: str, models: Path) -> tuple[list[str | Path], list[str]]:
    """A command that reads standard input, and its lines."""
    query = ["what is python"] if kind == "documents" else []
    lines = texts(300)
    if kind == "requests":
        lines = [json.dumps({"id": i, "query": text, "documents": texts(3)}) for i, text in enumerate(lines)]
    return ["rerank", *query, "--model", models / "bert", "--precision", "float32"], lines


def lines_done(output: Path) -> int:
    note = output.with_name(output.name + ".resume")
    try:
        return int(json.loads(note.read_bytes())["lines"])
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize(
    ("kind", "number", "status"),
    [("requests", signal.SIGKILL, -9), ("documents", signal.SIGKILL, -9), ("requests", signal.SIGTERM, 130)],
)
def test_a_run_that_was_ended_is_completed_to_the_same_bytes(
    sie: CommandLine, models: Path, tmp_path: Path, kind: str, number: signal.Signals, status: int
) -> None:
    arguments, lines = command(kind, models)
    whole, output = tmp_path / "whole", tmp_path / "output"
    process = start(*arguments, "--output", output, stdin=subprocess.PIPE)
    assert process.stdin is not None
    for line in lines[:-100]:  # it waits for the others until it is ended
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        time.sleep(0 if lines_done(output) else 0.01)
    assert end_when(process, lambda: lines_done(output) > 0, number) == status
    _, error = process.communicate()
    done = lines_done(output)
    assert 0 < done <= 200
    said = f"Interrupted.\n{output} has {done:,} lines of the input; --resume goes on with it.\n"
    assert error.decode() == ("" if number == signal.SIGKILL else said)
    if kind == "requests":
        with output.open("ab") as file:
            file.write(b'{"half":')
    else:
        assert not output.exists(), "a ranking is not begun before all scores are there"
    given = "\n".join(lines)
    assert sie(*arguments, "--output", output, given=given).status == 2
    assert sie(*arguments, "--output", output, "--resume", given=given).status == 0
    assert sie(*arguments, "--output", whole, given=given).status == 0
    assert output.read_bytes() == whole.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"standard-input", "whole", "output", "output.resume"}
    again = sie(*arguments, "--output", output, "--resume", given=given)
    assert (again.status, again.error) == (0, f"{output} is complete\n")
    assert output.read_bytes() == whole.read_bytes()


def test_only_the_same_input_and_settings_are_resumed(sie: CommandLine, models: Path, tmp_path: Path) -> None:
    path, output = tmp_path / "hits.jsonl", tmp_path / "output"
    good = [json.dumps({"query": "q", "documents": [text]}) for text in texts(3)]
    path.write_text("\n".join([*good, "{"]))
    command: list[str | Path] = ["rerank", path, "--output", output]
    bert: list[str | Path] = ["--model", models / "bert"]
    stopped = sie(*command, *bert)
    assert stopped.status == 2
    assert stopped.error.endswith(f"{output} has 3 lines of the input; --resume goes on with it.\n")
    before = output.read_bytes()
    again = sie(*command, *bert)
    assert (again.status, again.error) == (
        2,
        f"{output} exists already. To go on with it, give --resume. To replace it, give --overwrite.\n",
    )
    for others, words in [
        (["--model", f"mine={models / 'bert'}"], "was begun with another model: bert, and now mine."),
        ([*bert, "--top", "1"], "was begun with another top: none, and now 1."),
        ([*bert, "--format", "tsv"], "was begun with another format: jsonl, and now tsv."),
        ([*bert, "--long-documents", "error"], "was begun with another long-documents: none, and now error."),
    ]:
        refused = sie(*command, "--resume", *others)
        assert refused.status == 2
        assert words in refused.error
    for lines, words in [
        ([good[1], good[0], good[2]], "was begun with another input: its first 3 lines differ"),
        (good[:2], "was begun with another input: 3 lines of that are done, and this one has 2."),
    ]:
        path.write_text("\n".join(lines))
        refused = sie(*command, *bert, "--resume")
        assert refused.status == 2
        assert words in refused.error
    assert output.read_bytes() == before
    path.write_text("\n".join([*good, good[0]]))
    assert sie(*command, *bert, "--resume").status == 0
    assert len(output.read_bytes().splitlines()) == 4
    whole = output.read_bytes()
    again = sie(*command, *bert, "--resume")
    assert (again.status, again.output, again.error) == (0, "", f"{output} is complete\n")
    assert sie(*command, *bert).error == f"{output} exists already. To replace it, give --overwrite.\n"
    for lines, words in [
        ([*good, good[0], good[1]], "is the complete result of the first 4 lines of this input, which has more now."),
        (good, "was begun with another input: 4 lines of that are done, and this one has 3."),
        ([good[0]] * 4, "was begun with another input: its first 4 lines differ"),
    ]:
        path.write_text("\n".join(lines))
        refused = sie(*command, *bert, "--resume")
        assert refused.status == 2
        assert words in refused.error
        assert "goes on with it" not in refused.error
    path.write_text("\n".join([*good, good[0]]))
    assert "another top" in sie(*command, *bert, "--resume", "--top", "1").error
    assert output.read_bytes() == whole
    output.write_bytes(whole + b"\n")
    changed = sie(*command, *bert, "--resume")
    assert (changed.status, changed.error) == (
        2,
        f"{output} has changed since it was completed. To replace it, give --overwrite.\n",
    )
    output.unlink()
    assert sie(*command, *bert, "--resume").status == 0, "what is not there is begun"
    assert output.read_bytes() == whole
    assert sie(*command, *bert, "--overwrite").status == 0
    assert output.read_bytes() == whole
    without = sie(*command, *bert, "--resume")
    assert without.status == 2
    assert "it was completed by a run without --resume, which keeps no record" in without.error


def test_skipped_lines_are_counted_over_all_runs(sie: CommandLine, models: Path, tmp_path: Path) -> None:
    path, output = tmp_path / "hits.jsonl", tmp_path / "output"
    good = json.dumps({"query": "q", "documents": ["d"]})
    path.write_text("\n".join(["{", good]))
    command: list[str | Path] = ["rerank", path, "-o", output, "--model", models / "bert", "--on-error", "skip"]
    with ResumableFile(output, {}, resume=False, overwrite=False, work=None) as begun:
        begun.add(b"{", b"", failed=True)
    (tmp_path / "output.resume").write_bytes((tmp_path / "output.resume").read_bytes())
    assert sie(*command, "--resume").status == 2, "it is of no settings"
    assert sie(*command, "--overwrite").error.endswith("1 of 2 lines were skipped.\n")


def test_an_output_is_not_an_input_and_not_a_folder(sie: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "hits.jsonl"
    path.write_text("{}")
    ran = sie("rerank", path, "--output", path, "--overwrite")
    assert (ran.status, ran.error) == (2, f"{path} is an input, and can't be the output.\n")
    assert path.read_text() == "{}"
    assert "it is a folder" in sie("rerank", path, "--output", tmp_path).error
    assert "exclude each other" in sie("rerank", path, "--output", "x", "--resume", "--overwrite").error


def test_a_device_takes_the_results(sie: CommandLine, models: Path) -> None:
    given = json.dumps({"query": "q", "documents": ["d"]})
    ran = sie("rerank", "--model", models / "bert", "--output", "/dev/null", given=given)
    assert (ran.status, ran.output, ran.error) == (0, "", "")


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    how: dict[str, Any] = {"resume": True, "overwrite": False, "work": None}
    with (
        ResumableFile(tmp_path / "x", {}, **how),
        pytest.raises(FaultError, match="is being written by another process"),
    ):
        ResumableFile(tmp_path / "x", {}, **how)


def test_a_file_that_lost_its_end_is_not_resumed(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with ResumableFile(path, {}, resume=False, overwrite=False, work=None) as file:
        file.add(b"a", b"result\n")
    path.write_bytes(b"res")
    with pytest.raises(FaultError, match="is shorter than"):
        ResumableFile(path, {}, resume=True, overwrite=False, work=None)


def test_results_keep_the_order_and_the_window_is_kept() -> None:
    at_once = most = 0

    async def numbers() -> AsyncIterator[int]:
        for number in range(60):
            yield number

    async def work(number: int) -> int:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01 + 0.002 * (number % 4))
        at_once -= 1
        return number * number

    async def all_of(window: Window) -> list[tuple[int, int]]:
        return [pair async for pair in in_order(numbers(), work, lambda _: 10, window)]

    for window, limit in ((Window(8, 1000), 8), (Window(8, 35), 4), (Window(8, 1), 1)):
        most = 0
        assert asyncio.run(all_of(window)) == [(number, number * number) for number in range(60)]
        assert most == limit


def test_an_error_comes_in_the_place_of_its_result() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 0
        yield 1
        raise FaultError("the third")

    async def work(number: int) -> int:
        await asyncio.sleep(0.01)
        return number

    seen = []

    async def read() -> None:
        async for number, _ in in_order(numbers(), work, lambda _: 1, Window(9, 9)):
            seen.append(number)

    with pytest.raises(FaultError, match="the third"):
        asyncio.run(read())
    assert seen == [0, 1]
