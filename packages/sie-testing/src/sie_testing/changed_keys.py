"""One key of one JSON file of a checkpoint, changed to each of ten things: who serves it, and whether rightly."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.load import load
from sie_server.engine.score_activation import SCORE_ACTIVATIONS
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.packed import Packed
from sie_testing.checkpoints import build, build_modular, text

CPU = torch.device("cpu")
QUERY = "what is python"
DOCUMENTS = [text(length, seed=i) for i, length in enumerate([1, 3, 17, 60])]
# What a key becomes; `...` is nothing: it is taken out.
VALUES: tuple[Any, ...] = (None, "x", [], {}, 0, -1, 1.5, True, 10**30, ...)


def _cross_encoder(folder: Path, name: str) -> None:
    build(folder / "transformers", name)
    CrossEncoder(str(folder / "transformers"), device="cpu").save_pretrained(str(folder))


def _embedder(folder: Path, name: str) -> None:
    width = build(folder / "transformers", name).config.hidden_size
    chain = [Transformer(str(folder / "transformers")), Pooling(width, "mean"), Dense(width, 24), Normalize()]
    SentenceTransformer(modules=chain, device="cpu").save_pretrained(str(folder))


FOLDERS: dict[str, Callable[[Path], object]] = {
    "bert": lambda folder: _cross_encoder(folder, "bert"),
    "deberta": lambda folder: _cross_encoder(folder, "deberta"),
    "modernbert": lambda folder: build_modular(folder, "modernbert-encoder", "cls"),
    "xlm-roberta": lambda folder: _embedder(folder, "xlm-roberta-encoder"),
    "qwen3": lambda folder: _embedder(folder, "qwen3-encoder"),
}


@dataclass(frozen=True)
class Changed:
    """A file of a checkpoint with one key that is another."""

    file: str
    key: str
    value: Any
    content: str

    def __str__(self) -> str:
        return f"{self.file}: {self.key} = {'nothing' if self.value is ... else json.dumps(self.value)}"


def changes(folder: Path) -> Iterator[Changed]:
    """Every key of every JSON file but the vocabulary's and the copy of the encoder, to each of the values."""
    for path in sorted(folder.rglob("*.json")):
        file = path.relative_to(folder).as_posix()
        if file == "tokenizer.json" or file.startswith(("transformers/", "encoder/")):
            continue
        content = json.loads(path.read_text())
        for part, again in _parts(content):
            for key in part:
                for value in VALUES:
                    new = {**part, key: value}
                    if value is ...:
                        del new[key]
                    yield Changed(file, key, value, json.dumps(again(new)))


def _parts(content: Any) -> Iterator[tuple[dict[str, Any], Callable[[Any], Any]]]:
    """The objects in a file, each with a function that returns the file with another one in its place."""
    if isinstance(content, dict):
        yield content, lambda new: new
        places: Iterable[tuple[Any, Any]] = content.items()
    else:
        places = enumerate(content)
    for place, value in places:
        if isinstance(value, dict) and place not in ("label2id", "added_tokens_decoder"):
            yield value, partial(_replaced, content, place)


def _replaced(content: Any, place: Any, new: Any) -> Any:
    copied = content.copy()
    copied[place] = new
    return copied


@torch.inference_mode()
def ours(folder: Path) -> np.ndarray:
    """Scores, or embeddings as the folder's last module leaves them."""
    model: LoadedModel = load(Entry("m", folder=folder), CPU, "float32")
    if model.encoder.head is not None:
        sequences = model.tokenizer.encode_pairs(QUERY, DOCUMENTS)
        hidden, rows = model.encoder(Packed.of(sequences, CPU))
        logits = model.encoder.head(hidden, rows, sequences)
        return np.array([SCORE_ACTIVATIONS.get(model.score, float)(logit) for logit in logits])
    sequences = model.tokenizer.encode_documents(DOCUMENTS)
    head = model.embedders(["dense"], normalize=True)["dense"]
    hidden, rows = model.encoder(Packed.of(sequences, CPU))
    return np.stack(head(hidden, rows, sequences))


def reference(folder: Path, scores: bool) -> np.ndarray | None:
    """The same of sentence-transformers; None if it refuses the folder.

    One text at a time: without an attention mask (`model_input_names`), its results depend on the padding.
    """
    try:
        if scores:
            pairs = [(QUERY, each) for each in DOCUMENTS]
            return np.asarray(CrossEncoder(str(folder), device="cpu").predict(pairs, batch_size=1))
        model = SentenceTransformer(str(folder), device="cpu")
        return np.asarray(model.encode(DOCUMENTS, batch_size=1, normalize_embeddings=True))
    except Exception:  # whatever a changed file makes of it
        return None


def same(a: np.ndarray, b: np.ndarray | None) -> bool:
    return b is not None and a.shape == b.shape and bool(np.allclose(a, b, rtol=0, atol=1e-4))
