"""What our scores and speed are compared with: float32, in padded batches, longest first."""

from pathlib import Path
from typing import Any, Protocol

import torch
import transformers
from in_process import cards
from sentence_transformers import CrossEncoder

from sie_server.models.prompts import prompts

BATCH = 32


class Reference(Protocol):
    """A model that scores, texts in and raw logits out."""

    name: str

    def score(self, query: str, documents: list[str]) -> list[float]: ...


class SentenceTransformers:
    """A cross-encoder with its defaults: batches of 32, longest first."""

    name = "sentence-transformers"

    def __init__(self, model: CrossEncoder) -> None:
        self._model = model

    def score(self, query: str, documents: list[str]) -> list[float]:
        pairs = [(query, document) for document in documents]
        return self._model.predict(pairs, batch_size=BATCH, activation_fn=torch.nn.Identity()).tolist()


class Transformers:
    """A classifier, or the decoder that `prompt` is for, which gets the card's prompts padded on their left."""

    name = "transformers"

    def __init__(self, model: Any, folder: Path, prompt: str | None) -> None:
        self._model = model
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self._prompt = prompt
        self._encode = cards.encoder_of(folder)
        self._tokenizer.padding_side = "left" if prompt else "right"
        self._answers = [self._encode(answer)[0] for answer in prompts()[prompt].answers] if prompt else []

    @torch.inference_mode()
    def score(self, query: str, documents: list[str]) -> list[float]:
        inputs = self._inputs(query, documents)
        order = sorted(range(len(inputs)), key=lambda at: len(inputs[at]["input_ids"]), reverse=True)
        scores = [0.0] * len(inputs)
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            padded = self._tokenizer.pad([inputs[at] for at in batch], return_tensors="pt")
            for at, score in zip(batch, self._forward(padded), strict=True):
                scores[at] = score
        return scores

    def _inputs(self, query: str, documents: list[str]) -> list[dict[str, list[int]]]:
        if self._prompt:
            return [{"input_ids": cards.BUILD[self._prompt](self._encode, query, document)} for document in documents]
        columns = self._tokenizer([query] * len(documents), documents)
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _forward(self, padded: Any) -> list[float]:
        if not self._prompt:
            return self._model(**padded).logits[:, 0].tolist()
        logits = self._model(**padded, use_cache=False, logits_to_keep=1).logits
        yes, *no = logits[:, -1, self._answers].unbind(1)
        return (yes - no[0] if no else yes).tolist()
