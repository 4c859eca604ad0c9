"""The walk of a score request through the server's files, as docs/architecture.md tells it.

Traced is the task of one small request, to a model in memory, on the event loop. Batches belong to no request: what the
device threads compute, and what they post to the loop, is not traced. Nor is the connection, whose callbacks surround
the request.

- A file is *entered* when one of its functions is called while none of them is running, awaiting or holding a `with`
  block open. Calls up to a function that waits, such as a callback, are therefore no entries, and neither is resuming
  a coroutine. Making or freeing an object, reading a property or the length of one are no entries either.
- It is entered *again* when another file was entered after it was left. A function that one file calls repeatedly, for
  the query and then for the documents, say, counts once.
- Modules beside the folders, such as `errors.py`, `codec.py` and `request_context.py`, are vocabulary of every folder,
  and not part of the walk.
"""

import dis
import inspect
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import CodeType, FrameType
from typing import Any

import pytest

import sie_server
from sie_server.http.request_log import RequestLogMiddleware
from sie_testing.serving import connect, in_process

SERVER = Path(sie_server.__file__).parent
MOST_HOPS = 8
# Files that are entered again after they were left, and why that is so.
AGAIN = {
    "engine/backlog.py": "a count of tokens; one is of the texts to be tokenized, and one of the scheduler's queue",
    "engine/documents.py": "a value: equal texts are found before admission, and get equal scores after computing",
    "tokenization/truncation.py": "the budget of a document depends on the query alone, its cut does not",
    "tokenization/special_tokens.py": "`int32` makes arrays of ids, for words and for special tokens alike",
    "engine/results.py": "scores each text, and then, with one score for each document, ranks them",
}
_GENERATOR = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_READS = {"__init__", "__del__", "__len__", "__bool__", "__get__", "__iter__"}


@dataclass(frozen=True)
class Entry:
    """An entry into a file by a call of `function` from another file; the walk's first entry has no caller."""

    file: str
    function: str
    from_file: str
    caller: str

    def __str__(self) -> str:
        return f"{self.caller} -> {self.function}"

    @property
    def is_hop(self) -> bool:
        """Whether it crosses from one folder into another."""
        return self.from_file != "" and PurePath(self.file).parts[0] != PurePath(self.from_file).parts[0]


class Walk:
    """Entries into the server's files, in order, by a task that begins in `root`."""

    def __init__(self, root: CodeType) -> None:
        self.entries: list[Entry] = []
        self._root = root
        self._open: dict[FrameType, str] = {}

    def profile(self, frame: FrameType, event: str, _: Any) -> None:
        """For `sys.setprofile`."""
        if (file := _file(frame)) is None:
            return
        if event == "return" and not _is_suspended(frame):
            self._open.pop(frame, None)
        elif event == "call" and frame not in self._open:
            stack = list(_stack(frame))
            if all(each.f_code is not self._root for each in stack):
                return
            if file not in self._open.values() and not _is_read(frame):
                caller = next((each for each in stack[1:] if _file(each) is not None), None)
                from_file, name = ("", "") if caller is None else (_file(caller) or "", caller.f_code.co_qualname)
                self.entries.append(Entry(file, frame.f_code.co_qualname, from_file, name))
            self._open[frame] = file

    @property
    def hops(self) -> list[str]:
        """The entries that cross into another folder."""
        return [f"{each.from_file}: {each} in {each.file}" for each in self.entries if each.is_hop]

    @property
    def again(self) -> dict[str, list[str]]:
        """The files that are entered again, with all entries into them."""
        found: dict[str, dict[tuple[str, str], Entry]] = {}
        last = ""
        for entry in self.entries:
            if entry.file != last:
                found.setdefault(entry.file, {}).setdefault((entry.function, entry.from_file), entry)
            last = entry.file
        return {file: list(map(str, entries.values())) for file, entries in found.items() if len(entries) > 1}


def _file(frame: FrameType) -> str | None:
    """Path within the server's package of a frame's file, if that is in one of its folders."""
    path = PurePath(frame.f_code.co_filename)
    inside = path.relative_to(SERVER) if path.is_relative_to(SERVER) else PurePath()
    return str(inside) if len(inside.parts) > 1 else None


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    """The frame and its callers."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_suspended(frame: FrameType) -> bool:
    """Whether a generator or a coroutine that returns to its caller goes on later."""
    code = frame.f_code
    return bool(code.co_flags & _GENERATOR) and dis.opname[code.co_code[frame.f_lasti]] == "YIELD_VALUE"


def _is_read(frame: FrameType) -> bool:
    """Whether the function makes or frees an object, or reads a property or the like."""
    code = frame.f_code
    if code.co_name in _READS:
        return True
    owner: Any = sys.modules[frame.f_globals["__name__"]]
    for name in code.co_qualname.split(".")[:-1]:
        owner = getattr(owner, name, None)
    return isinstance(getattr(owner, "__dict__", {}).get(code.co_name), property)


@contextmanager
def traced(loop: Any, walk: Walk) -> Iterator[None]:
    """Profiles the thread of an event loop meanwhile."""

    def switch(to: Any) -> None:
        done = threading.Event()
        loop.call_soon_threadsafe(lambda: (sys.setprofile(to), done.set()))
        assert done.wait(20)

    switch(walk.profile)
    try:
        yield
    finally:
        switch(None)


@pytest.fixture(scope="module")
def walk(models: Path) -> Walk:
    found = Walk(RequestLogMiddleware.__call__.__code__)
    body = {"query": {"text": "what is it"}, "items": [{"text": text} for text in ("it is a cat", "a dog", "no")]}
    with in_process(model=(str(models / "bert"),), preload=("bert",)) as running, connect(running.url) as client:
        assert client.post("/v1/score/bert", json=body).status_code == 200  # the words are known from here on
        assert running.engine._runner is not None
        with traced(running.engine._runner._loop, found):
            assert client.post("/v1/score/bert", json=body).status_code == 200
    return found


def test_a_request_crosses_few_folders(walk: Walk) -> None:
    folders = {PurePath(each.file).parts[0] for each in walk.entries}
    assert folders == {"http", "api", "residency", "engine", "tokenization"}
    assert len(walk.hops) <= MOST_HOPS, "\n".join(walk.hops)


def test_a_request_does_not_return_to_a_file_that_it_left(walk: Walk) -> None:
    again = walk.again
    assert set(again) == set(AGAIN), "\n".join(f"{file}: {'; '.join(entries)}" for file, entries in again.items())
