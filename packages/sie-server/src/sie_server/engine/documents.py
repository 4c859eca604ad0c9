"""Documents of a score call, each text computed once."""

from collections import Counter
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Self, TypeVar

from sie_server.errors import SIEError
from sie_server.models.loaded_model import LoadedModel
from sie_server.stepwise import Steps
from sie_server.tokenization.config import LengthLimits
from sie_server.tokenization.sequence import Sequence

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Documents:
    """The texts of a call's documents, and which of them are the same.

    every: of all documents, in the order of the call. distinct: each text once, in the order in which they occur first.
    places: for each document, the index of its text in `distinct`.
    """

    every: Items[str]
    distinct: Items[str]
    places: Items[int]

    @classmethod
    def of(cls, texts: Items[str]) -> Self:
        """The documents with these texts, equal ones found."""
        indices = dict.fromkeys(texts, 0)
        if len(indices) == len(texts):
            return cls.separate(texts)
        indices.update(zip(indices, range(len(indices)), strict=True))
        return cls(texts, list(indices), [indices[text] for text in texts])

    @classmethod
    def separate(cls, texts: Items[str]) -> Self:
        """The documents with these texts, each of them computed, whether or not it is equal to another."""
        return cls(texts, texts, range(len(texts)))

    @property
    def repeated(self) -> int:
        """Number of documents whose text is that of an earlier one."""
        return len(self.every) - len(self.distinct)

    def each(self, values: list[T]) -> list[T]:
        """Expand one value per distinct text to one per document."""
        return [values[place] for place in self.places] if self.repeated else values


def tokenize(
    model: LoadedModel, query: str, documents: Documents, limits: LengthLimits, instruction: str | None
) -> Steps[tuple[Documents, Sequence | None, list[Sequence]]]:
    """Tokenize each distinct text of the documents, alone or with the query, as the model reads them.

    Limits count a text as often as it occurs. A refusal is that of all documents, with their own numbers and items: if
    the distinct ones exceed a limit, or would with their repetitions, all of them are tokenized.

    Returns the documents whose distinct texts were tokenized, the query if it is a sequence of its own, and the
    sequences of the texts.

    Raises:
        SIEError: as `TextTokenizer.encode_pairs` and `encode_apart`.
    """
    if documents.repeated:
        try:
            lead, sequences = yield from _encode(model, query, documents.distinct, limits, instruction)
        except SIEError:
            pass
        else:
            if _within(limits, Counter(documents.places), sequences):
                return documents, lead, sequences
        documents = Documents.separate(documents.every)
    return documents, *(yield from _encode(model, query, documents.every, limits, instruction))


def _encode(
    model: LoadedModel, query: str, texts: Items[str], limits: LengthLimits, instruction: str | None
) -> Steps[tuple[Sequence | None, list[Sequence]]]:
    if model.encoder.head is None:
        return (yield from model.tokenizer.encode_apart.steps(query, texts, limits, instruction))
    return None, (yield from model.tokenizer.encode_pairs.steps(query, texts, limits, instruction))


def _within(limits: LengthLimits, occurrences: Counter[int], sequences: Items[Sequence]) -> bool:
    """Whether the sequences, each as often as its text occurs, are within the limits of a request."""
    windows = sum(occurrences[sequence.document] for sequence in sequences)
    tokens = sum(occurrences[sequence.document] * len(sequence) for sequence in sequences)
    return (limits.windows is None or windows <= limits.windows) and (limits.total is None or tokens <= limits.total)
