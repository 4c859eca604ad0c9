"""The rankers that are compared: each is a model, in this process or behind a URL."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sie_server.checkpoints.source import locate
from sie_server.cli.rankers.local_engine import local_entry
from sie_server.cli.rankers.open import DEFAULT_MODEL
from sie_server.cli.rankers.public_url import public_url
from sie_server.cli.streaming.model_flags import ModelFlags
from sie_server.machine.processor import processor_name
from sie_server.options import LongDocuments, Precision

_AT_URL = re.compile(r"(?P<model>.+?)@(?P<url>(?:[a-z0-9-]+:)?https?://.+)")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of all rankers. device, precision: of those in this process."""

    instruction: str | None
    long_documents: LongDocuments | None
    device: str
    precision: Precision
    concurrency: int


@dataclass(frozen=True, slots=True)
class Contender:
    """A model with its options, and the number of requests that it gets at once."""

    flags: ModelFlags
    concurrency: int

    @property
    def name(self) -> str:
        """As the user wrote it, but NAME for NAME=FOLDER, and without a password in the URL."""
        model, url = self.flags.model, self.flags.url
        if url is None:
            return (model or DEFAULT_MODEL).partition("=")[0]
        return "@".join(part for part in (model, public_url(url)) if part is not None)

    def fetch(self) -> None:
        """Download a model of this process if it is not on this machine.

        Raises:
            ValueError: the folder or the profile does not exist.
            LoadError: it can't be found or downloaded.
        """
        if self.flags.url is None:
            locate(local_entry(self.flags.model or DEFAULT_MODEL))

    def settings(self) -> Mapping[str, str]:
        """The options on which its scores and its speed depend, by name."""
        chosen = self.flags.settings(self.flags.model or "") | {"concurrency": str(self.concurrency)}
        if self.flags.url is None:
            return chosen | {"processor": processor_name()}
        return chosen | {"url": public_url(self.flags.url)}


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
    found = [_contender(model, where, options, here=where is None or not mixed) for model, where in pairs]
    names = [contender.name for contender in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"--model {name} is there twice.")
    return found


def _contender(model: str | None, url: str | None, options: Options, *, here: bool) -> Contender:
    flags = ModelFlags(
        model=model,
        url=url,
        instruction=options.instruction,
        long_documents=options.long_documents,
        device=options.device if here else "auto",
        precision=options.precision if here else "auto",
        api_key=None,
    )
    return Contender(flags, options.concurrency)
