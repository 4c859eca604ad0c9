"""First-stage candidates by BM25, with bm25s."""

from array import array
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from sie_server.cli.eval import corpus
from sie_server.cli.eval.dataset import Advance, Candidates, Lines
from sie_server.cli.rerank.corpus import Entry, parsed
from sie_server.cli.streaming.lines import FaultError, open_input

# For which bm25s has stop words, and Snowball a stemmer.
Language = Literal[
    "english",
    "danish",
    "dutch",
    "french",
    "german",
    "italian",
    "norwegian",
    "portuguese",
    "russian",
    "spanish",
    "swedish",
    "turkish",
    "none",
]
K1, B, METHOD = 1.5, 0.75, "lucene"


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Candidates by query, for those that have any. present: how many of the documents asked about the corpus has."""

    candidates: Mapping[str, Candidates]
    present: int
    digest: str
    settings: str


def retrieve(
    path: Path, queries: Mapping[str, str], asked: Collection[str], depth: int, language: Language, advance: Advance
) -> Retrieved:
    """The `depth` best documents of a corpus for each query; equal scores go to the first in the corpus.

    Words are runs of two and more letters, digits and underscores, in lower case, without stop words, and stemmed by
    Snowball; for `none`, they are neither left out nor stemmed. Only their numbers and the documents' offsets are in
    memory.

    Raises FaultError: the corpus can't be read, or has the id of a candidate twice.
    """
    import bm25s
    import Stemmer
    from bm25s.tokenization import Tokenizer

    known = language != "none"
    tokenizer = Tokenizer(stopwords=language if known else [], stemmer=Stemmer.Stemmer(language) if known else None)
    lines, offsets, present = Lines(path, advance), array("q"), 0

    def texts() -> Iterator[str]:
        nonlocal present
        for document in corpus.documents(path, lines):
            offsets.append(document.offset)
            present += document.id in asked
            yield document.text

    ids = list(tokenizer.streaming_tokenize(texts()))
    if not ids:
        raise FaultError(f"{path} has no documents.")
    advance("building the index of BM25", 0, 1)
    index = bm25s.BM25(k1=K1, b=B, method=METHOD)
    index.index((ids, tokenizer.get_vocab_dict()), show_progress=False)
    del ids
    empty = tokenizer.get_vocab_dict().get("")
    decoder = msgspec.json.Decoder(Entry)
    found: dict[str, Candidates] = {}
    with open_input(path) as file:
        for done, (query, text) in enumerate(queries.items()):
            advance("retrieving by BM25", done, len(queries))
            [words] = tokenizer.streaming_tokenize([text], update_vocab=False)
            words = [word for word in words if word != empty]
            if not words:
                continue
            scores = index.get_scores_from_ids(words)
            rows = _best(scores, depth)
            at = array("q", (offsets[row] for row in rows))
            names = []
            for offset in at:
                file.seek(offset)
                names.append(parsed(decoder, path, file.readline(), None)[0])
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise FaultError(f"{path} has the id '{twice}' twice.")
            if names:
                found[query] = Candidates(names, at, [float(scores[row]) for row in rows])
    settings = f"bm25s {bm25s.__version__}, {METHOD}, k1={K1}, b={B}, {language}"
    return Retrieved(found, present, lines.digest, settings)


def _best(scores: NDArray[np.float32], depth: int) -> list[int]:
    """Rows of the best positive scores, the best first; equal ones in the order of the rows."""
    rows = np.flatnonzero(scores > 0)
    if len(rows) > depth:
        least = np.partition(scores[rows], -depth)[-depth]
        rows = rows[scores[rows] >= least]
    ordered: list[int] = rows[np.argsort(-scores[rows], kind="stable")][:depth].tolist()
    return ordered
