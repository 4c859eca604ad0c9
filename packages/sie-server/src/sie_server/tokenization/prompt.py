"""Prompts of decoder rerankers: the text around a query and a document."""

from dataclasses import dataclass

from sie_server.options import Score


@dataclass(frozen=True)
class Prompt:
    """One entry of `prompts.toml`, where the fields are explained."""

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
        """Token ids that follow a truncated document, before those of `after`; always empty here."""
        return ()

    def origin(self, document: str) -> int:  # depends on the document only for chat templates
        """Offset, in code points of the document, at which `piece(document)` begins; negative with a lead."""
        return -self.document.index("{document}")

    def shared(self, query: str, instruction: str | None) -> list[str]:
        """Pieces in front of every document, tokenized one by one."""
        instruction = instruction or self.instruction
        if self.slot is None:
            query, slot = instructed(query, instruction), ""
        else:
            slot = self.slot.format(instruction) if instruction else ""
        return [piece.format(instruction=slot, query=query) for piece in self.before]

    def piece(self, document: str) -> str:
        """The piece that contains the document."""
        return self.document.format(document=document)


def instructed(query: str, instruction: str | None) -> str:
    """Prepend the instruction to the query, for models without an instruction slot."""
    return f"{instruction} {query}" if instruction else query
