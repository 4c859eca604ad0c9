"""A model before it takes memory: its description, its open files, and the places of their tensors in its encoder."""

import re
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.checkpoint import Checkpoint
from sie_server.checkpoints.colbert import overridden
from sie_server.checkpoints.description import describe, read_model_config
from sie_server.checkpoints.files import Version
from sie_server.checkpoints.hf_config import stated_layers
from sie_server.checkpoints.sentence_transformers import answers_hint, head_files
from sie_server.checkpoints.tensor_file import TensorFile
from sie_server.checkpoints.weights import Weights
from sie_server.errors import UnsupportedModelError
from sie_server.models.encoder import Encoder
from sie_server.models.registry import HeadKind
from sie_server.nn.sparse import SpladeHead, TokenWeights
from sie_server.tokenization.config import LateInteraction
from sie_server.tokenization.prompt import Prompt

# Part of the names of tensors in every architecture.
_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")


@dataclass(frozen=True)
class WeightsIdentity:
    """All that a model's weights depend on, besides their precision and the device.

    files: of the checkpoint, wherever links to them are. head: the one that is used. answers: tokens whose rows of the
    output projection are kept. special: decides which tokens have no sparse weight; None without such weights.
    """

    files: Version
    head: HeadKind | None
    answers: tuple[int | str, ...]
    special: LateInteraction | None


class ModelBuilder:
    """A model whose description is complete and whose weights' files are open, with their headers read.

    answer_ids: of the tokens whose logits make the score, as saved in the checkpoint; None if it has none.
    answer_tokens: the same as texts, by the prompt, or else by the default of sentence-transformers.
    """

    def __init__(self, entry: Entry, checkpoint: Checkpoint) -> None:
        """Raises UnsupportedModelError: the model is not supported; LoadError: a file is missing or can't be read."""
        self.checkpoint = checkpoint
        files = {name: checkpoint.tensors(name) for name in checkpoint.weight_files}
        config = read_model_config(checkpoint)
        _check_layers(checkpoint, (name for file in files.values() for name in file.tensors))
        self.description = describe(entry, checkpoint, config)
        # Of each file the table of names; None: that of the encoder and its head.
        self._files: list[tuple[TensorFile, Mapping[str, str] | None]] = [(file, None) for file in files.values()]
        self._files += [(checkpoint.tensors(name), renames) for name, renames in head_files(config).items()]
        self.answer_ids = answers_hint(checkpoint)
        prompt = self.description.prompt
        self.answer_tokens = prompt.answers if isinstance(prompt, Prompt) else ("yes", "no")

    @property
    def answers(self) -> int:
        """Number of tokens whose logits a language model's head keeps."""
        return len(self.answer_ids or self.answer_tokens) if self.description.head == "tokens" else 0

    @property
    def weights_identity(self) -> WeightsIdentity:
        """The identity of the weights. The checkpoint's folder is there."""
        description = self.description
        answers: list[int] | tuple[str, ...] = ()
        if description.head == "tokens":
            saved = None if isinstance(description.prompt, Prompt) else self.answer_ids
            answers = self.answer_tokens if saved is None else saved
        late = overridden(description.config.late or LateInteraction(), description.entry.late_interaction)
        assert self.checkpoint.version is not None
        return WeightsIdentity(
            self.checkpoint.version,
            description.head,
            tuple(answers),
            late if description.config.token_weights else None,
        )

    def encoder(self, special_ids: Items[int]) -> Encoder:
        """The encoder, without memory. special_ids: of the tokenizer.

        Raises:
            UnsupportedModelError: the config has impossible sizes.
        """
        config, head = self.description.config, self.description.head
        outputs = self.answers or int(head == "classifier" or config.modular_head)
        try:
            with torch.device("meta"):
                encoder = self.description.encoder_class(config, outputs)
                if head == "sparse":
                    encoder.sparse = SpladeHead(
                        config.hidden_size, config.vocab_size, config.norm_eps, config.activation
                    )
                elif config.token_weights:
                    encoder.sparse = TokenWeights(config.hidden_size, special_ids)
        except (RuntimeError, TypeError, OverflowError) as error:  # from torch, for sizes beyond its integers
            raise UnsupportedModelError(f"config.json has invalid sizes: {error}") from error
        encoder.has_own_head = head is not None
        return encoder

    def weights(self, encoder: Encoder, answers: Items[int]) -> Weights:
        """The places of the files' tensors in the encoder. answers: ids whose rows of the output projection are kept.

        Raises:
            UnsupportedModelError: as `Weights`.
        """
        renames = {**encoder.renames, **_head_renames(encoder, self.description.head)}
        if self.description.config.stanford:
            renames["linear."] = "projections.linear."
        files = [(file, renames if own is None else own) for file, own in self._files]
        return Weights(encoder, self.checkpoint, files, answers)


def _check_layers(checkpoint: Checkpoint, tensors: Iterable[str]) -> None:
    """Compare the number of layers in the config with the names of tensors, before any layer is created.

    Raises:
        UnsupportedModelError: they differ.
    """
    key, stated = stated_layers(checkpoint.json("config.json"))
    found = [int(match[1]) for name in tensors if (match := _LAYER.search(name))]
    if found and isinstance(stated, int) and stated != max(found) + 1:
        files = checkpoint.weight_files
        where, have = (files[0], "has") if len(files) == 1 else (f"{len(files)} files of weights", "have")
        layers = f"layers {min(found)} to {max(found)}" if len(set(found)) > 1 else f"only layer {found[0]}"
        raise UnsupportedModelError(f"config.json says {key} {stated}; {where} {have} {layers}")


def _head_renames(encoder: Encoder, head: HeadKind | None) -> Mapping[str, str]:
    match head:
        case None:
            return {}
        case "sparse":
            return encoder.sparse_renames
        case "classifier" | "tokens":
            return encoder.head_renames
