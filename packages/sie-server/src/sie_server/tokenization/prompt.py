"""How a decoder reranker reads a query and a document: the text that stands around them."""

from dataclasses import dataclass

from sie_server.options import Score


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
    published_with: tuple[str, ...] = ()

    @property
    def kept(self) -> tuple[int, ...]:
        """Ids that follow a document that is cut, beside those behind all."""
        return ()

    def origin(self, document: str) -> int:  # of a chat template, it varies
        """Where the piece of a document begins in it, in code points."""
        return -self.document.index("{document}")

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
