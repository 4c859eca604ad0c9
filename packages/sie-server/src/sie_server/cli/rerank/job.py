"""One run of `sie-server rerank`, from its flags to its exit status."""

import shutil
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from sie_server.cli.exit_status import FAILED
from sie_server.cli.rankers.ranker import Ranker
from sie_server.cli.rerank.corpus import Corpus, read_queries
from sie_server.cli.rerank.documents import Documents, Scores, finish
from sie_server.cli.rerank.formats import Form, Format
from sie_server.cli.rerank.requests import rank_requests
from sie_server.cli.rerank.runs import rank_run
from sie_server.cli.rerank.texts import AS_JSON, Input
from sie_server.cli.rerank.trec_run import TrecRun
from sie_server.cli.streaming.destination import Destination, ResumableFile, Stream, check_no_output, check_output
from sie_server.cli.streaming.input_file import input_path
from sie_server.cli.streaming.lines import STANDARD_INPUT, FaultError, Lines
from sie_server.cli.streaming.model_flags import ModelFlags
from sie_server.cli.streaming.progress_bar import ProgressBar
from sie_server.cli.streaming.run import OnError, opened

# Lines for people are cut at the edge of a terminal only.
_UNLIMITED = 2**20
Kind = Literal["documents", "requests", "run"]
_DEFAULT_FORMATS: Mapping[Kind, Format] = {"documents": "tsv", "requests": "jsonl", "run": "trec"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The flags that choose the input, and the form of the output."""

    query: str | None
    file: Path | None
    input: Input
    run: Path | None
    corpus: Path | None
    queries: Path | None
    depth: int | None
    top: int | None
    format: Format | None
    output: Path | None

    @property
    def kind(self) -> Kind:
        """The kind of input. Raises FaultError: the flags contradict each other."""
        of_run = {"--run": self.run, "--corpus": self.corpus, "--queries": self.queries}
        if missing := [flag for flag, path in of_run.items() if path is None]:
            if len(missing) < len(of_run):
                raise FaultError(f"A run needs {', '.join(of_run)}; {missing[0]} is missing.")
            if self.depth is not None:
                raise FaultError("--depth is for a run: it needs --run, --corpus, --queries.")
            if self.query is not None and not self.query.strip():
                raise FaultError("The query is empty.")
            if self.query is None and self.input == "text":
                raise FaultError("--input text needs a query: sie-server rerank QUERY FILE.")
            return "requests" if self.query is None else "documents"
        if self.query is not None or self.file is not None:
            raise FaultError(f"A run has its queries and documents; '{self.query}' is superfluous.")
        return "run"

    @property
    def path(self) -> Path | None:
        """The file to read; None: standard input."""
        return input_path(self.file)


class Job:
    """Ranks what is wanted. A single argument that names a file is the file, and no query."""

    def __init__(
        self, flags: ModelFlags, wanted: Wanted, *, resume: bool, overwrite: bool, on_error: OnError, quiet: bool
    ) -> None:
        if wanted.query is not None and wanted.file is None and (wanted.query == "-" or Path(wanted.query).is_file()):
            wanted = replace(wanted, query=None, file=Path(wanted.query))
        self._flags, self._wanted = flags, wanted
        self._resume, self._overwrite, self._on_error, self._quiet = resume, overwrite, on_error, quiet
        self._begun: ResumableFile | None = None

    async def main(self) -> int:
        """Rank, and return the exit status.

        Raises:
            FaultError: a flag, an input or an existing output is wrong.
            RankerError, UnavailableError: as `stream`.
            OSError: the output can't be written.
        """
        wanted, kind = self._wanted, self._wanted.kind
        async with AsyncExitStack() as stack:
            lines = None if kind == "run" else self._lines()
            self._check_output()
            live = kind != "documents" and wanted.output is None and sys.stdout.isatty()
            progress = stack.enter_context(
                ProgressBar(self._flags.opening, "documents", shown=not (self._quiet or live))
            )
            ranker = await opened(stack, self._flags.ranker)
            form = self._form(kind, ranker)
            if lines is None:
                return await self._rank_run(ranker, form, progress)
            progress.start("ranking", lines.size)
            if wanted.query is not None:
                return await self._rank_documents(lines, wanted.query, ranker, form, progress)
            destination = self._stream(stack) or stack.enter_context(self._resumable_file(form, {}))
            await rank_requests(lines, ranker, form, destination, self._on_error, progress)
            return self._completed(destination, progress)

    def resumable(self) -> str | None:
        """A sentence about an output that is not complete."""
        return None if self._begun is None else self._begun.left_over

    @property
    def _source(self) -> Path | str:
        """The file of the documents, for messages."""
        return self._wanted.run or self._wanted.path or STANDARD_INPUT

    def _lines(self) -> Lines:
        wanted = self._wanted
        if wanted.file is None and sys.stdin.isatty():
            raise FaultError("There is nothing to rank: name a file, or pipe one into this command (- for a terminal).")
        return Lines(wanted.path)

    def _check_output(self) -> None:
        wanted = self._wanted
        if wanted.output is None:
            check_no_output(resume=self._resume, overwrite=self._overwrite)
        elif not _is_device(wanted.output):
            inputs = (wanted.path, wanted.run, wanted.corpus, wanted.queries)
            check_output(wanted.output, inputs, resume=self._resume, overwrite=self._overwrite)

    def _form(self, kind: Kind, ranker: Ranker) -> Form:
        to_terminal = self._wanted.output is None and sys.stdout.isatty()
        chosen = self._wanted.format or ("text" if to_terminal else _DEFAULT_FORMATS[kind])
        tag = "_".join(ranker.name.split())
        width = shutil.get_terminal_size().columns if to_terminal else _UNLIMITED
        return Form(chosen, self._wanted.top, tag, width, color=to_terminal)

    def _stream(self, stack: ExitStack | AsyncExitStack) -> Stream | None:
        """Standard output, or a pipe or a device in its place; None for a file."""
        output = self._wanted.output
        if output is None:
            return Stream(sys.stdout.buffer)
        return Stream(stack.enter_context(output.open("wb"))) if _is_device(output) else None

    def _resumable_file(self, form: Form, settings: Mapping[str, str], work: Path | None = None) -> ResumableFile:
        assert self._wanted.output is not None
        depends = {
            **self._flags.settings(form.tag),
            "format": form.format,
            "top": str(form.top or ""),
            **settings,
        }
        self._begun = ResumableFile(
            self._wanted.output, depends, resume=self._resume, overwrite=self._overwrite, work=work
        )
        return self._begun

    async def _rank_documents(self, lines: Lines, query: str, ranker: Ranker, form: Form, progress: ProgressBar) -> int:
        output, as_json = self._wanted.output, AS_JSON[self._wanted.input]
        with ExitStack() as stack:
            documents = stack.enter_context(Documents(self._wanted.path, lines, as_json=as_json))
            if (stream := self._stream(stack)) is not None:
                scores = Scores()
                await documents.score(ranker, query, scores, self._on_error, progress)
                progress.stop()
                stream.write(form.heading(query))
                for line in documents.ranking(np.frombuffer(scores.values), form):
                    stream.write(line)
                return self._completed(scores, progress)
            assert output is not None
            work = output.with_name(output.name + ".scores")
            with self._resumable_file(form, {"query": query, "input": self._wanted.input}, work) as destination:
                await documents.score(ranker, query, destination, self._on_error, progress)
                destination.complete(finish(documents, query, form, output))
            return self._completed(destination, progress)

    async def _rank_run(self, ranker: Ranker, form: Form, progress: ProgressBar) -> int:
        wanted = self._wanted
        assert wanted.run is not None
        assert wanted.corpus is not None
        assert wanted.queries is not None
        queries = read_queries(wanted.queries)
        progress.start(f"reading {wanted.run.name}", _size(wanted.run))
        with TrecRun(wanted.run, progress.advance) as run:
            progress.start(f"reading {wanted.corpus.name}", _size(wanted.corpus))
            with Corpus(wanted.corpus, progress.advance) as corpus:
                settings = {"corpus": corpus.digest, "depth": str(wanted.depth or "")}
                progress.start("ranking", len(run))
                with ExitStack() as stack:
                    destination = self._stream(stack) or stack.enter_context(self._resumable_file(form, settings))
                    await rank_run(
                        run, corpus, queries, wanted.depth, ranker, form, destination, self._on_error, progress
                    )
                    return self._completed(destination, progress)

    def _completed(self, destination: Destination, progress: ProgressBar) -> int:
        """Complete the output, tell of lines that failed, and return the exit status."""
        if isinstance(destination, ResumableFile) and not destination.is_complete:
            destination.complete()
        if isinstance(destination, ResumableFile) and destination.was_complete:
            progress.say(f"{self._wanted.output} is complete")
        if not destination.lines:
            progress.say(f"no documents in {self._source}")
        if not destination.failed:
            return 0
        what = "queries" if self._wanted.kind == "run" else "lines"
        progress.say(f"{destination.failed:,} of {destination.lines:,} {what} were skipped.")
        return FAILED


def _is_device(path: Path) -> bool:
    """Whether the path is a pipe, a terminal or the like, which has no end to resume at."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
