"""Chat templates of decoder rerankers, as literal text with slots for the query and the document."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PairTemplate:
    """A template's output for one (query, document) pair: segments, the document, a suffix.

    segments: literal text in front of the document, each followed by the slot "query", "instruction" or None.
    stripped: those of "query", "document" and "instruction" from which the template strips surrounding white space.
    """

    segments: tuple[tuple[str, str | None], ...]
    suffix: str
    stripped: frozenset[str] = frozenset()

    def prefix(self, query: str, instruction: str | None = None) -> str:
        """Render everything in front of the document."""
        values = {"query": query, "instruction": instruction or ""}
        values = {slot: value.strip() if slot in self.stripped else value for slot, value in values.items()}
        return "".join(literal + (values[slot] if slot else "") for literal, slot in self.segments)

    def render(self, query: str, document: str, instruction: str | None = None) -> str:
        """Render the whole prompt."""
        document = document.strip() if "document" in self.stripped else document
        return self.prefix(query, instruction) + document + self.suffix

    @property
    def has_instruction_slot(self) -> bool:
        """Whether the template has a slot for an instruction."""
        return any(slot == "instruction" for _, slot in self.segments)


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A checkpoint's chat template, reduced to its output with and without an instruction.

    instruction: the checkpoint's own prompt, used where a request has no instruction; None: no default.
    """

    plain: PairTemplate
    with_instruction: PairTemplate
    instruction: str | None

    def variant(self, instruction: str | None) -> tuple[PairTemplate, str | None]:
        """Choose the template for a request's instruction, and the text that fills its instruction slot."""
        instruction = instruction or self.instruction
        return (self.plain, None) if instruction is None else (self.with_instruction, instruction)
