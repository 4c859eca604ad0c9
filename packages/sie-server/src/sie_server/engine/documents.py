"""Documents of a score call, each text computed once, or not at all."""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from typing import Self, TypeVar

from sie_server.engine.results import DocumentScore
from sie_server.engine.score_store import Keys
from sie_server.errors import SIEError
from sie_server.models.loaded_model import LoadedModel
from sie_server.stepwise import Steps
from sie_server.tokenization.config import LengthLimits
from sie_server.tokenization.sequence import Sequence

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Documents:
    """The texts of a call's documents, which of them are the same, and which have known scores.

    every: of all documents, in the order of the call. distinct: each text once, in the order in which they occur first.
    places: for each document, the index of its text in `distinct`. known: the score of each distinct text, or None for
    those to be computed; empty if none is known. keys: of the distinct texts `[n, 2]`, if they were looked up.
    """

    every: Items[str]
    distinct: Items[str]
    places: Items[int]
    known: Items[DocumentScore | None] = ()
    keys: Keys | None = None

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

    def looked_up(self, keys: Keys, found: Items[DocumentScore | None]) -> Self:
        """The same documents, with what was found by the keys of the distinct texts."""
        return replace(self, keys=keys, known=found if any(found) else ())

    @property
    def repeated(self) -> int:
        """Number of documents whose text is that of an earlier one."""
        return len(self.every) - len(self.distinct)

    @property
    def unknown_places(self) -> Items[int]:
        """Indices of the distinct texts without a known score."""
        if not self.known:
            return range(len(self.distinct))
        return [place for place, score in enumerate(self.known) if score is None]

    @property
    def unknown(self) -> Items[str]:
        """The distinct texts without a known score."""
        return [self.distinct[place] for place in self.unknown_places] if self.known else self.distinct

    def scores(self, computed: Iterable[DocumentScore]) -> list[DocumentScore]:
        """One score per document, from those of the unknown texts and those that are known."""
        rest = iter(computed)
        return self.each([next(rest) if score is None else score for score in self.known] if self.known else list(rest))

    def each(self, values: list[T]) -> list[T]:
        """Expand one value per distinct text to one per document."""
        return [values[place] for place in self.places] if self.repeated else values

    def within(self, limits: LengthLimits, sequences: Items[Sequence] = ()) -> bool:
        """Whether all documents are within the limits of a request. sequences: of the unknown texts."""
        occurrences = Counter(self.places)
        unknown = [occurrences[place] for place in self.unknown_places]
        windows = sum(unknown[sequence.document] for sequence in sequences)
        tokens = sum(unknown[sequence.document] * len(sequence) for sequence in sequences)
        for place, score in enumerate(self.known):
            if score is not None:
                windows += occurrences[place] * score.windows
                tokens += occurrences[place] * score.tokens
        return (limits.windows is None or windows <= limits.windows) and (
            limits.total is None or tokens <= limits.total
        )


def tokenize(
    model: LoadedModel, query: str, documents: Documents, limits: LengthLimits, instruction: str | None
) -> Steps[tuple[Documents, Sequence | None, list[Sequence]]]:
    """Tokenize each unknown text of the documents, alone or with the query, as the model reads them.

    Limits count all documents. A refusal has their items and numbers: if the unknown texts exceed a limit, or would
    together with the other documents, all documents are tokenized.

    Returns the documents whose unknown texts were tokenized, the query if it is a sequence of its own, and the
    sequences of the texts.

    Raises:
        SIEError: as `TextTokenizer.encode_pairs` and `encode_apart`.
    """
    if len(unknown := documents.unknown) < len(documents.every):
        try:
            lead, sequences = yield from _encode(model, query, unknown, limits, instruction)
        except SIEError:
            pass
        else:
            if documents.within(limits, sequences):
                return documents, lead, sequences
        documents = Documents.separate(documents.every)
    return documents, *(yield from _encode(model, query, documents.every, limits, instruction))


def _encode(
    model: LoadedModel, query: str, texts: Items[str], limits: LengthLimits, instruction: str | None
) -> Steps[tuple[Sequence | None, list[Sequence]]]:
    if model.encoder.head is None:
        return (yield from model.tokenizer.encode_apart.steps(query, texts, limits, instruction))
    return None, (yield from model.tokenizer.encode_pairs.steps(query, texts, limits, instruction))
