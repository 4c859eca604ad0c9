"""One run of `sie-server encode`, from its flags to its exit status."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from sie_server.cli.encode.encoder import EncodeFlags, Encoder
from sie_server.cli.encode.forms import Form, JsonLines, Kind, Npy, Number, Parquet
from sie_server.cli.exit_status import FAILED
from sie_server.cli.quick_imports import quick_imports
from sie_server.cli.rankers.open import DEFAULT_MODEL, refuse_choice
from sie_server.cli.rankers.ranker import RankerError
from sie_server.cli.rerank.texts import AS_JSON, Input, Texts
from sie_server.cli.streaming.batches import Batch, batches
from sie_server.cli.streaming.destination import Destination, ResumableFile, Stream, check_no_output, check_output
from sie_server.cli.streaming.in_order import Window
from sie_server.cli.streaming.input_file import input_path
from sie_server.cli.streaming.lines import FaultError, Line, Lines
from sie_server.cli.streaming.model_flags import ModelFlags
from sie_server.cli.streaming.progress_bar import ProgressBar
from sie_server.cli.streaming.run import OnError, Outcome, each_alone, opened, stream

# Texts and characters of a request, and those in progress: enough to fill the batches of all cores.
_MOST, _MOST_CHARACTERS = 64, 2**17
_WINDOW = Window(16, 2**20)
_SUFFIXES: Mapping[str, Kind] = {".npy": "npy", ".jsonl": "jsonl", ".parquet": "parquet"}


class Text(NamedTuple):
    """A text to embed. number: of the text, from 0. fields: of its line, if that is JSON."""

    number: int
    content: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The flags that choose the input, and the form of the output."""

    file: Path | None
    input: Input
    output: Path | None
    kind: Kind | None
    dtype: Number

    @property
    def path(self) -> Path | None:
        """The file to read; None: standard input."""
        return input_path(self.file)


class Job:
    """Embeds the texts that are wanted."""

    def __init__(
        self,
        flags: ModelFlags,
        encode: EncodeFlags,
        wanted: Wanted,
        *,
        resume: bool,
        overwrite: bool,
        on_error: OnError,
        quiet: bool,
    ) -> None:
        self._flags, self._encode, self._wanted = flags, encode, wanted
        self._resume, self._overwrite, self._on_error, self._quiet = resume, overwrite, on_error, quiet
        self._begun: ResumableFile | None = None
        self._seen = 0

    async def main(self) -> int:
        """Embed, and return the exit status.

        Raises:
            FaultError: a flag, an input or an existing output is wrong.
            RankerError, UnavailableError: as `stream`.
            OSError: the output can't be written.
        """
        wanted, kind = self._wanted, self._kind()
        if wanted.file is None and sys.stdin.isatty():
            raise FaultError("There is nothing to embed: name a file, or pipe one into this command.")
        lines = Lines(wanted.path)
        async with AsyncExitStack() as stack:
            to_terminal = wanted.output is None and sys.stdout.isatty()
            bar = ProgressBar(self._flags.opening, "texts", shown=not (self._quiet or to_terminal))
            progress = stack.enter_context(bar)
            encoder = await opened(stack, self._open)
            progress.start("embedding", lines.size)
            form = self._form(kind)
            destination = self._destination(stack, kind, encoder)
            await self._embed(lines, encoder, form, destination, progress)
            if isinstance(destination, ResumableFile):
                rows = destination.lines - destination.failed
                destination.complete(lambda file: form.finish(file, rows))
                if destination.was_complete:
                    progress.say(f"{wanted.output} is complete")
            if not destination.lines:
                progress.say(f"no texts in {lines.name}")
            if not destination.failed:
                return 0
            progress.say(f"{destination.failed:,} of {destination.lines:,} lines were skipped.")
            return FAILED

    def resumable(self) -> str | None:
        """A sentence about an output that is not complete."""
        return None if self._begun is None else self._begun.left_over

    async def _embed(
        self, lines: Lines, encoder: Encoder, form: Form, destination: Destination, progress: ProgressBar
    ) -> None:
        texts = Texts(lines.fault, as_json=AS_JSON[self._wanted.input])

        def read(line: Line) -> Text:
            return Text(self._seen - 1, *texts.read(line))

        def see(line: Line) -> None:
            texts.see(line)
            self._seen += 1

        async def rows(values: Sequence[Text]) -> Sequence[bytes]:
            vectors = await encoder.encode([text.content for text in values])
            return [form.row(*text, found) for text, found in zip(values, vectors, strict=True)]

        def failed(batch: Batch[Text], index: int, message: str) -> RankerError:
            return RankerError(str(lines.fault(batch.lines[index], message)))

        async def work(batch: Batch[Text]) -> Sequence[Outcome]:
            return await each_alone(rows, batch, failed)

        found = batches(
            lines,
            destination,
            read,
            lambda text: len(text.content),
            most=_MOST,
            most_size=_MOST_CHARACTERS,
            seen=see,
        )
        await stream(found, work, destination, _WINDOW, self._on_error, progress)

    def _kind(self) -> Kind:
        """The kind of output. Raises FaultError: it can't be written."""
        wanted, output = self._wanted, self._wanted.output
        if output is None:
            check_no_output(resume=self._resume, overwrite=self._overwrite)
            kind = wanted.kind or "jsonl"
            if kind != "jsonl":
                raise FaultError(f"--format {kind} needs --output.")
        else:
            check_output(output, [wanted.path], resume=self._resume, overwrite=self._overwrite)
            by_name = wanted.kind or _SUFFIXES.get(output.suffix.lower())
            if by_name is None:
                raise FaultError(f"{output} ends in none of {', '.join(_SUFFIXES)}; choose its form with --format.")
            kind = by_name
        if kind == "npy" and self._encode.outputs not in ((), ("dense",)):
            raise FaultError("An .npy file has dense vectors only; write other outputs to .jsonl or .parquet.")
        if kind == "npy" and self._on_error == "skip":
            raise FaultError("--on-error skip would shift the rows of an .npy file; write .jsonl or .parquet.")
        if kind == "parquet" and find_spec("pyarrow") is None:
            raise FaultError("A Parquet file needs pyarrow, which is not installed: pip install pyarrow.")
        return kind

    def _form(self, kind: Kind) -> Form:
        if kind == "npy":
            return Npy(self._wanted.dtype)
        if kind == "parquet":
            assert self._wanted.output is not None
            return Parquet(self._wanted.dtype, self._wanted.output)
        return JsonLines(self._wanted.dtype)

    def _open(self) -> AbstractAsyncContextManager[Encoder]:
        device, precision = self._flags.here
        if self._flags.url is None:
            with quick_imports():
                from sie_server.cli.encode.in_process import engine_encoder

            return engine_encoder(self._flags.model or DEFAULT_MODEL, self._encode, device, precision)
        refuse_choice(device, precision)
        from sie_server.cli.encode.server import server_encoder

        return server_encoder(self._flags.url, self._flags.model, self._encode, self._flags.api_key)

    def _destination(self, stack: AsyncExitStack, kind: Kind, encoder: Encoder) -> Stream | ResumableFile:
        wanted = self._wanted
        if wanted.output is None:
            return Stream(sys.stdout.buffer)
        settings = {
            **self._flags.settings(encoder.name),
            "output-type": ",".join(self._encode.outputs),
            "query": str(self._encode.is_query),
            "dimensions": str(self._encode.dimensions or ""),
            "dtype": wanted.dtype,
            "format": kind,
            "input": wanted.input,
        }
        work = wanted.output.with_name(wanted.output.name + ".rows") if kind == "parquet" else None
        begun = ResumableFile(wanted.output, settings, resume=self._resume, overwrite=self._overwrite, work=work)
        self._begun = stack.enter_context(begun)
        return begun
