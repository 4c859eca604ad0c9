"""First batches of a model: set-up of its kernels, a check that it can compute, and the memory that batches take."""

from dataclasses import replace

import torch

from sie_server.checkpoints.cancellation import stop_if_given_up
from sie_server.errors import SIEError, UnsupportedModelError
from sie_server.machine.peak_memory import PeakMemory
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.packed import Packed
from sie_server.tokenization.config import LengthLimits

# Quick in the largest model, and enough to outweigh the memory that does not depend on the number of tokens.
_TOKENS = 64


@torch.inference_mode()
def warm_up(model: LoadedModel) -> LoadedModel:
    """Run two batches, and return the model with the memory that batches take.

    That memory grows with the number of tokens, regardless of how they are divided into sequences; with attention by
    relative position (DeBERTa, MPNet), it also grows with the square of a sequence's length. Memory that does not grow
    counts once: tables of positions, and anything that a batch of one token needs as well.

    Raises:
        UnsupportedModelError: the model can't compute.
    """
    few, few_bytes = _run(model, 1)
    if model.encoder.rotary.bytes:  # the first batch created them
        few, few_bytes = _run(model, 1)
    many, many_bytes = _run(model, _TOKENS)
    # If the tokenizer makes one token of any text, there is nothing to compare.
    token_bytes = max(many_bytes - few_bytes, 0) // (many - few) if many > few else many_bytes // many
    constant = max(few_bytes - few * token_bytes, 0) + model.encoder.rotary.bytes
    return replace(model, bytes=model.bytes + constant, token_bytes=token_bytes)


def _run(model: LoadedModel, words: int) -> tuple[int, int]:
    """Run a batch; returns its number of tokens, and the peak of its memory in bytes."""
    stop_if_given_up()
    encoder, limits = model.encoder, LengthLimits(_TOKENS)
    try:
        sequences = model.tokenizer.encode_documents(["warm " * words], limits)
    except SIEError as error:
        raise UnsupportedModelError(error.message) from error
    peak = PeakMemory()
    with peak:
        hidden, rows = encoder(Packed.of(sequences, model.device))
        for head in (encoder.head, encoder.sparse):
            if head is not None:
                head(hidden, rows, sequences)
    if not torch.isfinite(hidden).all():
        raise UnsupportedModelError(f"{model.entry.source} computes NaN or infinity in {model.dtype}")
    return sum(map(len, sequences)), peak.bytes
