"""The prompts of decoder rerankers: what stands around query and document, and which tokens answer."""

import logging
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec

from sie_server.choices import Score
from sie_server.errors import UnsupportedModelError
from sie_server.models.modules import answers_hint

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prompt:
    """One entry of `prompts.toml`, which explains the fields."""

    name: str
    architecture: str
    before: tuple[str, ...]
    document: str
    after: tuple[str, ...]
    answers: tuple[str, ...]
    score: Score
    instruction: str | None = None
    slot: str | None = None

    @property
    def lead_in(self) -> int:
        """Characters in front of the document in its piece."""
        return self.document.index("{document}")

    def shared(self, query: str, instruction: str | None) -> list[str]:
        """The pieces in front of a document."""
        instruction = instruction or self.instruction
        if self.slot is None:
            query, slot = instructed(query, instruction), ""
        else:
            slot = self.slot.format(instruction) if instruction else ""
        return [piece.format(instruction=slot, query=query) for piece in self.before]

    def piece(self, document: str) -> str:
        """The piece that holds the document."""
        return self.document.format(document=document)


def instructed(query: str, instruction: str | None) -> str:
    """The query as a model reads it that has no place of its own for an instruction."""
    return f"{instruction} {query}" if instruction else query


@cache
def prompts() -> dict[str, Prompt]:
    """The prompts this server knows, by name."""
    text = files("sie_server.models").joinpath("prompts.toml").read_bytes()
    entries = msgspec.toml.decode(text, type=dict[str, dict[str, object]])
    return {name: msgspec.convert({"name": name, **fields}, Prompt) for name, fields in entries.items()}


def choose(name: str | None, architecture: str, folder: Path) -> Prompt:
    """The prompt of a checkpoint: the one named, or the architecture's that has as many answers as the checkpoint says.

    Raises:
        UnsupportedModelError: there is none of that name, or none that fits.
    """
    if name is not None:
        if name not in prompts():
            raise UnsupportedModelError(f"prompt {name!r} is not known; known: {', '.join(prompts())}")
        return prompts()[name]
    own = answers_hint(folder)
    for prompt in prompts().values():
        if architecture.startswith(prompt.architecture) and (own is None or len(own) == len(prompt.answers)):
            _LOG.warning("%s: nothing says which prompt it was trained with; taking %r", folder, prompt.name)
            return prompt
    raise UnsupportedModelError(f"no known prompt of {architecture} has {len(own or ())} answer tokens")
