"""What a chat template writes around a query and a document."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Written:
    """What a template makes of a pair: `front` with the slots `{query}` and `{instruction}`, the document, `behind`.

    trimmed: of "query", "document" and "instruction" those that it strips of white space at either end.
    """

    front: tuple[tuple[str, str | None], ...]
    behind: str
    trimmed: frozenset[str] = frozenset()

    def before(self, query: str, instruction: str | None = None) -> str:
        """All that stands in front of the document."""
        values = {"query": query, "instruction": instruction or ""}
        values = {slot: value.strip() if slot in self.trimmed else value for slot, value in values.items()}
        return "".join(literal + (values[slot] if slot else "") for literal, slot in self.front)

    def text(self, query: str, document: str, instruction: str | None = None) -> str:
        """The whole."""
        document = document.strip() if "document" in self.trimmed else document
        return self.before(query, instruction) + document + self.behind

    @property
    def instructed(self) -> bool:
        """Whether there is a place for an instruction."""
        return any(slot == "instruction" for _, slot in self.front)


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A folder's template, taken apart. with_instruction: what it writes where there is one, `instruction` by default:
    the folder's own prompt.
    """

    plain: Written
    with_instruction: Written
    instruction: str | None

    def written(self, instruction: str | None) -> tuple[Written, str | None]:
        """What is written for a request's instruction, and what fills its slot."""
        instruction = instruction or self.instruction
        return (self.plain, None) if instruction is None else (self.with_instruction, instruction)
