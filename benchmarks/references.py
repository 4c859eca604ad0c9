"""Reference implementations for scores, embeddings and speed: float32, in padded batches, longest first."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
import transformers
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from torch import Tensor

from sie_server.checkpoints.prompts import prompts
from sie_server.options import HYBRID_WEIGHTS, Output, ScoreMode
from sie_testing import model_cards as cards

T = TypeVar("T")

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
        return list(map(float, self._model.predict(pairs, batch_size=BATCH, activation_fn=torch.nn.Identity())))


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
        return _longest_first(self._tokenizer, inputs, self._forward)

    def _inputs(self, query: str, documents: list[str]) -> list[dict[str, list[int]]]:
        if self._prompt:
            return [{"input_ids": cards.BUILD[self._prompt](self._encode, query, document)} for document in documents]
        columns = self._tokenizer([query] * len(documents), documents)
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _forward(self, padded: Any) -> list[float]:
        if not self._prompt:
            return list(map(float, self._model(**padded).logits[:, 0]))
        logits: Tensor = self._model(**padded, use_cache=False, logits_to_keep=1).logits
        yes, *no = logits[:, -1, self._answers].unbind(1)
        return list(map(float, yes - no[0] if no else yes))


class Embedder(Protocol):
    """A model that embeds. One embedding per text: an array, or token ids and weights of a sparse one."""

    name: str

    def encode(self, texts: list[str], output: Output, is_query: bool) -> list[Any]: ...

    def score(self, query: str, documents: list[str], mode: ScoreMode) -> list[float]: ...


class Pooled:
    """sentence-transformers' model with a vector per text, scaled to length 1, and the vectors of its tokens."""

    name = "SentenceTransformer"

    def __init__(self, model: SentenceTransformer) -> None:
        self._model = model

    def encode(self, texts: list[str], output: Output, is_query: bool) -> list[Any]:
        if output == "dense":
            return list(self._model.encode(texts, batch_size=BATCH, normalize_embeddings=True))
        tokens = self._model.encode(texts, batch_size=BATCH, output_value="token_embeddings")
        return [F.normalize(one, dim=-1).numpy() for one in tokens]

    def score(self, query: str, documents: list[str], mode: ScoreMode) -> list[float]:
        asked, *rows = self.encode([query, *documents], "multivector", False)
        return [float((asked @ one.T).max(axis=1).sum()) for one in rows]


class Splade:
    """sentence-transformers' sparse model."""

    name = "SparseEncoder"

    def __init__(self, model: SparseEncoder) -> None:
        self._model = model

    def encode(self, texts: list[str], output: Output, is_query: bool) -> list[Any]:
        vectors = self._model.encode(texts, batch_size=BATCH, convert_to_tensor=False)
        return [(one.coalesce().indices()[0].numpy(), one.coalesce().values().numpy()) for one in vectors]

    def score(self, query: str, documents: list[str], mode: ScoreMode) -> list[float]:
        raise NotImplementedError("no model of the catalogue scores by sparse vectors alone")


class LateInteraction:
    """sentence-transformers' late interaction, which reads PyLate's and Stanford's folders."""

    name = "MultiVectorEncoder"

    def __init__(self, model: MultiVectorEncoder) -> None:
        self._model = model

    def encode(self, texts: list[str], output: Output, is_query: bool) -> list[Any]:
        encode = self._model.encode_query if is_query else self._model.encode_document
        return list(encode(texts, batch_size=BATCH, convert_to_numpy=True))

    def score(self, query: str, documents: list[str], mode: ScoreMode) -> list[float]:
        queries = self._model.encode_query([query])
        return self._model.similarity(queries, self._model.encode_document(documents, batch_size=BATCH))[0].tolist()


class M3:
    """Chen et al. 2024 over transformers' states: sections 3.1 (what is embedded) and 4.1 (how it is compared)."""

    name = "transformers + formulas"

    def __init__(self, folder: Path, heads: dict[str, Tensor]) -> None:
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self._encoder = transformers.XLMRobertaModel.from_pretrained(folder, add_pooling_layer=False).eval()
        self._heads = heads
        self._special = torch.tensor(self._tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>"]))

    @torch.inference_mode()
    def encode(self, texts: list[str], output: Output, is_query: bool) -> list[Any]:
        return [self._embed(ids, states, output) for ids, states in self._states(texts)]

    @torch.inference_mode()
    def score(self, query: str, documents: list[str], mode: ScoreMode) -> list[float]:
        (asked,), rows = self._states([query]), self._states(documents)
        weights = HYBRID_WEIGHTS if mode == "hybrid" else {mode: 1.0}
        return [sum(weight * self._compare(asked, row, part) for part, weight in weights.items()) for row in rows]

    def _states(self, texts: list[str]) -> list[tuple[Tensor, Tensor]]:
        inputs = [{"input_ids": ids} for ids in self._tokenizer(texts)["input_ids"]]
        return _longest_first(self._tokenizer, inputs, self._forward)

    def _forward(self, padded: Any) -> Iterable[tuple[Tensor, Tensor]]:
        states = self._encoder(**padded).last_hidden_state
        for ids, rows, length in zip(padded["input_ids"], states, padded["attention_mask"].sum(dim=1), strict=True):
            yield ids[:length], rows[:length]

    def _embed(self, ids: Tensor, states: Tensor, output: Output) -> Any:
        match output:
            case "dense":
                return self._dense(states).numpy()
            case "sparse":
                return tuple(part.numpy() for part in self._sparse(ids, states))
            case _:
                return self._tokens(states).numpy()

    def _dense(self, states: Tensor) -> Tensor:
        return F.normalize(states[0], dim=-1)

    def _sparse(self, ids: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        weights = torch.relu(F.linear(states, self._heads["sparse.weight"], self._heads["sparse.bias"]))[:, 0]
        tokens, place = ids.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        largest = torch.zeros(len(tokens)).scatter_reduce(0, place, weights, "amax")
        kept = (largest > 0) & ~torch.isin(tokens, self._special)
        return tokens[kept], largest[kept]

    def _tokens(self, states: Tensor) -> Tensor:
        return F.normalize(F.linear(states[1:], self._heads["colbert.weight"], self._heads["colbert.bias"]), dim=-1)

    def _compare(self, query: tuple[Tensor, Tensor], document: tuple[Tensor, Tensor], mode: ScoreMode) -> float:
        match mode:
            case "dense":
                return float(self._dense(query[1]) @ self._dense(document[1]))
            case "sparse":
                (asked, weights), (tokens, others) = self._sparse(*query), self._sparse(*document)
                return float((weights[:, None] * others * (asked[:, None] == tokens)).sum())
            case _:
                return float((self._tokens(query[1]) @ self._tokens(document[1]).T).amax(dim=1).mean())


def rotary(base: float) -> Callable[..., tuple[Tensor, None]]:
    """Attention for transformers with the rotary positions of Su et al. 2021 (equation 34).

    Shapes: `[batch, heads, tokens, head_dim]` → `[batch, tokens, heads, head_dim]`.
    """

    def attend(_module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **_: Any) -> Any:
        tokens, width = query.shape[2:]
        angle = torch.arange(tokens)[:, None] * base ** (-torch.arange(0, width, 2) / width)
        turn = torch.polar(torch.ones_like(angle), angle)

        def rotate(x: Tensor) -> Tensor:
            pairs = torch.complex(x[..., : width // 2], x[..., width // 2 :]) * turn
            return torch.cat((pairs.real, pairs.imag), dim=-1)

        attended = F.scaled_dot_product_attention(rotate(query), rotate(key), value, attn_mask=mask)
        return attended.transpose(1, 2), None

    return attend


def _longest_first(
    tokenizer: Any, inputs: list[dict[str, list[int]]], forward: Callable[[Any], Iterable[T]]
) -> list[T]:
    """Apply `forward` to the inputs in padded batches; returns one result per input, in their order."""
    order = sorted(range(len(inputs)), key=lambda at: len(inputs[at]["input_ids"]), reverse=True)
    results: list[Any] = [None] * len(inputs)
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        padded = tokenizer.pad([inputs[at] for at in batch], return_tensors="pt")
        for at, result in zip(batch, forward(padded), strict=True):
            results[at] = result
    return results
