"""The rankers that are compared: each is a model, in this process or behind a URL."""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from hashlib import sha256
from urllib.parse import urlsplit, urlunsplit

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.files import checkpoint_files
from sie_server.checkpoints.source import locate, on_this_machine
from sie_server.cli.rankers.local_engine import local_entry
from sie_server.cli.rankers.open import DEFAULT_MODEL, open_ranker
from sie_server.cli.rankers.ranker import Ranker
from sie_server.machine.processor import processor_name
from sie_server.options import LongDocuments, Precision

_AT_URL = re.compile(r"(?P<model>.+?)@(?P<url>(?:[a-z0-9-]+:)?https?://.+)")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of all rankers. device, precision: of those in this process."""

    instruction: str | None = None
    long_documents: LongDocuments | None = None
    device: str = "auto"
    precision: Precision = "auto"
    concurrency: int = 1


@dataclass(frozen=True, slots=True)
class Contender:
    """A model with its options. url: None for a model in this process; model: None for the only one of a server."""

    model: str | None
    url: str | None
    options: Options

    @property
    def name(self) -> str:
        """As the user wrote it, but NAME for NAME=FOLDER, and without a password in the URL."""
        shown = None if self.url is None else _public(self.url)
        named = self.model.partition("=")[0] if self.model is not None and shown is None else self.model
        return "@".join(part for part in (named, shown) if part is not None)

    def open(self) -> AbstractAsyncContextManager[Ranker]:
        """The ranker. Raises as `open_ranker`."""
        return open_ranker(
            self.model,
            url=self.url,
            instruction=self.options.instruction,
            long_documents=self.options.long_documents,
            device=self.options.device,
            precision=self.options.precision,
        )

    def fetch(self) -> None:
        """Download a model of this process if it is not on this machine.

        Raises:
            ValueError: the folder or the profile does not exist.
            LoadError: it can't be found or downloaded.
        """
        if self.url is None:
            locate(self._entry())

    def settings(self) -> Mapping[str, str]:
        """The options on which its scores and its speed depend, by name.

        Of a model of this process, they include the names, sizes and times of the files that this machine has.
        """
        chosen = {
            "model": self.model or "",
            "url": _public(self.url or ""),
            "instruction": self.options.instruction or "",
            "long-documents": self.options.long_documents or "",
            "concurrency": str(self.options.concurrency),
        }
        if self.url is None:
            chosen |= {"device": self.options.device, "precision": self.options.precision}
            chosen |= {"processor": processor_name(), "files of the model": self._files()}
        return chosen

    def _files(self) -> str:
        folder = on_this_machine(self._entry())
        if folder is None:
            return ""
        digest = sha256()
        for name, status in checkpoint_files(folder):
            digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def _entry(self) -> Entry:
        return local_entry(self.model or DEFAULT_MODEL)


def contenders(models: Sequence[str], url: str | None, options: Options) -> list[Contender]:
    """A contender for each model: NAME at `url`, or NAME@URL for one at another URL.

    Without a model, the default, or the only one at `url`. Device and precision are for the models of this process, and
    stay with the others only if there are none, so that they are refused.

    Raises:
        ValueError: one is there twice.
    """
    pairs: list[tuple[str | None, str | None]] = []
    for name in models:
        at = _AT_URL.fullmatch(name)
        pairs.append((name, url) if at is None else (at["model"], at["url"]))
    if not models:
        pairs.append((DEFAULT_MODEL if url is None else None, url))
    mixed = any(where is None for _, where in pairs)
    elsewhere = replace(options, device="auto", precision="auto")
    found = [Contender(name, where, elsewhere if mixed and where is not None else options) for name, where in pairs]
    names = [contender.name for contender in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"--model {name} is there twice.")
    return found


def _public(url: str) -> str:
    """The URL without a user name and a password."""
    dialect, separator, rest = url.rpartition(":http")
    parts = urlsplit(f"http{rest}" if separator else url)
    shown = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return f"{dialect}:{shown}" if separator else shown
