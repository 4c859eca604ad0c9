"""Loads models: from a checkpoint's files to weights on a device."""

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

import torch

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.cancellation import stop_if_given_up
from sie_server.checkpoints.chat_template_file import default_prompt
from sie_server.checkpoints.checkpoint import Checkpoint
from sie_server.checkpoints.colbert import overridden
from sie_server.checkpoints.model_builder import ModelBuilder, WeightsIdentity
from sie_server.checkpoints.prompts import prompt_name
from sie_server.checkpoints.source import locate, locate_present
from sie_server.checkpoints.tokenizer_file import read_tokenizer
from sie_server.checkpoints.warm_up import warm_up
from sie_server.errors import LoadClass, LoadError, SIEError, UnsupportedModelError
from sie_server.models.encoder import Encoder
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.kernels.int8_weights import INT8_BYTES
from sie_server.nn.linear import LibraryLinear, Linear
from sie_server.nn.linear_backends import RowCountTrials, use_linear_backends
from sie_server.nn.precision import dtype_name, resolve_precision
from sie_server.options import Precision
from sie_server.tokenization.config import LateInteraction
from sie_server.tokenization.prompt import Prompt
from sie_server.tokenization.tokenizer import TextTokenizer

_LOG = logging.getLogger(__name__)

T = TypeVar("T")
# The encoders in memory, each for as long as a model or a load holds it.
Encoders = WeakValueDictionary[tuple[WeightsIdentity, torch.dtype, torch.device], Encoder]
# A load starts again if files change during it.
_ATTEMPTS = 4
_PAUSE_S = 0.2


@dataclass(frozen=True)
class Weighed:
    """A model whose weights have been weighed, but not read. Its files stay open for the load that follows.

    bytes: of the weights in memory. encoder: has the same weights in memory already, and is used by the load.
    """

    bytes: int
    builder: ModelBuilder
    encoder: Encoder | None = None


class Loader(Protocol):
    """Loads a model, as `load` does."""

    def __call__(
        self,
        entry: Entry,
        device: torch.device,
        precision: Precision,
        *,
        trials: RowCountTrials,
        weighed: Weighed | None,
        encoders: Encoders,
    ) -> LoadedModel: ...


def load(
    entry: Entry,
    device: torch.device,
    precision: Precision = "auto",
    *,
    trials: RowCountTrials | None = None,
    weighed: Weighed | None = None,
    encoders: Encoders | None = None,
) -> LoadedModel:
    """Find, read, check and place a model's weights. All files are of the same moment, even if they are being replaced.

    trials: results of earlier loads about this processor. weighed: the same model, not to be opened again. encoders:
    models of the same files share the weights of one of these, to which a new one is added.

    Raises:
        LoadError: the files can't be read, don't fit the device, or are not supported; STORAGE, they changed in every
            attempt; TIMEOUT, the load was cancelled.
    """
    opened = None if weighed is None else weighed.builder

    def read(checkpoint: Checkpoint) -> LoadedModel:
        with checkpoint:
            if opened is not None and opened.checkpoint is checkpoint:
                return _load(opened, device, precision, trials, encoders)
            return _load(ModelBuilder(entry, checkpoint), device, precision, trials, encoders)

    return _consistently(entry, read, lambda: locate(entry), None if opened is None else opened.checkpoint)


def weigh(
    entry: Entry, device: torch.device, precision: Precision = "auto", encoders: Encoders | None = None
) -> Weighed | None:
    """Find a model and weigh it by its files' headers, without reading its weights. None: it is not on this machine.

    encoders: those in memory, of which one may have its weights.

    Raises:
        LoadError: as `load`.
    """
    if (present := locate_present(entry)) is None:
        return None

    def read(checkpoint: Checkpoint) -> Weighed:
        builder = ModelBuilder(entry, checkpoint)
        encoder = None if encoders is None else encoders.get(_place(builder, device, precision))
        return Weighed(_weight_bytes(builder, device, precision), builder, encoder)

    return _consistently(entry, read, lambda: locate(entry), present)


def _consistently(
    entry: Entry, read: Callable[[Checkpoint], T], find: Callable[[], Checkpoint], first: Checkpoint | None
) -> T:
    """The result of reading a checkpoint whose files stay the same meanwhile. If they change, it is read again.

    first: read in the first attempt, if it has not changed yet.
    """
    failure: Exception | None = None
    for _ in range(_ATTEMPTS):
        stop_if_given_up()
        failure = None
        checkpoint, first = first, None
        try:
            if checkpoint is None or not checkpoint.unchanged():
                checkpoint = None
                checkpoint = find()
            result = read(checkpoint)
            if checkpoint.unchanged():
                return result
            _LOG.info("%s: %s changed while it was read", entry.id, checkpoint.folder)
        except Exception as error:
            # Without its traceback, which refers to weights.
            failure = error.with_traceback(None)
            failure.__cause__ = failure.__context__ = None
        if failure is not None:
            if isinstance(failure, LoadError) and failure.kind is LoadClass.STORAGE:
                time.sleep(_PAUSE_S)  # a file that is being replaced is back by then
            elif checkpoint is None:
                raise failure
            if checkpoint is not None and checkpoint.unchanged():
                raise failure
    raise failure or LoadError(
        LoadClass.STORAGE, f"{entry.source} changed during each of the {_ATTEMPTS} attempts to read it"
    )


def _place(
    builder: ModelBuilder, device: torch.device, precision: Precision
) -> tuple[WeightsIdentity, torch.dtype, torch.device]:
    return builder.weights_identity, resolve_precision(precision, device), device


def _weight_bytes(builder: ModelBuilder, device: torch.device, precision: Precision) -> int:
    dtype = resolve_precision(precision, device)
    encoder = builder.encoder(special_ids=())
    weights = builder.weights(encoder, range(builder.answers))
    dtypes = weights.dtypes(_stored(dtype, device))
    total = sum(parameter.numel() * dtypes[name].itemsize for name, parameter in encoder.named_parameters())
    if dtype == torch.int8:
        total += sum(
            layer.weight.numel() * (INT8_BYTES - dtypes[f"layers.{name}.weight"].itemsize)
            for name, layer in encoder.layers.named_modules()
            if isinstance(layer, Linear)
        )
    return total


def _stored(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The precision of weights for this one. Layers that int8 does not apply to are computed as with `auto`."""
    return resolve_precision("auto", device) if dtype == torch.int8 else dtype


def _load(
    builder: ModelBuilder,
    device: torch.device,
    precision: Precision,
    trials: RowCountTrials | None,
    encoders: Encoders | None,
) -> LoadedModel:
    started = time.perf_counter()
    dtype = resolve_precision(precision, device)
    entry = builder.description.entry
    tokenizer = _tokenizer(builder)
    stop_if_given_up()
    answers = _answers(builder, tokenizer)
    place = _place(builder, device, precision)
    encoder = found = None if encoders is None else encoders.get(place)
    if encoder is None:
        encoder = _encoder(builder, tokenizer, answers, device, dtype, trials)
    size = sum(t.numel() * t.dtype.itemsize for t in (*encoder.parameters(), *encoder.buffers()))
    model = LoadedModel(
        entry=entry,
        tokenizer=tokenizer,
        encoder=encoder,
        device=device,
        dtype=dtype,
        parameters=encoder.parameter_count,
        bytes=size,
        few_sizes=device.type == "cpu" and _uses_library(encoder),
        # Kernels and libraries are those of the process.
        fingerprint=hashlib.sha256(
            repr((builder.checkpoint.version, entry, dtype, _stored(dtype, device), device)).encode()
        ).hexdigest(),
    )
    model = warm_up(model)
    if encoders is not None:
        encoders[place] = encoder
    _LOG.info(
        "%s: %s %s in %.2f s: %s, %.1fM parameters, %s on %s",
        entry.id,
        "loaded from" if found is None else "shares the weights in memory of",
        builder.checkpoint.folder,
        time.perf_counter() - started,
        entry.architecture,
        model.parameters / 1e6,
        dtype_name(dtype),
        device,
    )
    return model


def _encoder(
    builder: ModelBuilder,
    tokenizer: TextTokenizer,
    answers: list[int],
    device: torch.device,
    dtype: torch.dtype,
    trials: RowCountTrials | None,
) -> Encoder:
    """The model's encoder with its weights. Raises as `load`."""
    encoder = builder.encoder(tokenizer.special_ids())
    try:
        builder.weights(encoder, answers).fill(device, _stored(dtype, device))
    except torch.OutOfMemoryError as error:
        raise LoadError(
            LoadClass.OOM, f"{builder.description.entry.id} does not fit into the memory of {device}"
        ) from error
    encoder.parameter_count = sum(p.numel() for p in encoder.parameters())
    if dtype == torch.int8:
        use_linear_backends(encoder.layers, int8=True, check_cancelled=stop_if_given_up, trials=trials)
    use_linear_backends(encoder, check_cancelled=stop_if_given_up, trials=trials)
    return encoder.eval().requires_grad_(False)


def _tokenizer(builder: ModelBuilder) -> TextTokenizer:
    model, checkpoint = builder.description, builder.checkpoint
    entry, config = model.entry, model.config
    assert entry.max_length is not None
    carried = read_tokenizer(checkpoint)
    try:
        tokenizer = TextTokenizer(
            carried.tokenizer,
            entry.max_length,
            token_types=carried.token_types and config.token_types > 1,
            prompt=model.prompt,
            instruction=entry.instruction,
            late=overridden(config.late or LateInteraction(), entry.late_interaction),
            window=min((layer.window for layer in config.rotary_layers if layer.window is not None), default=None),
            rows=config.vocab_size,
            query_prompt=default_prompt(checkpoint) or "" if model.prompt is None and model.scores else "",
        )
    except SIEError as error:  # about tokens that are part of every text
        raise UnsupportedModelError(error.message) from error
    if tokenizer.embedded.missing:
        (token, text), *_ = tokenizer.embedded.missing
        _LOG.warning(
            "%s: %d tokens of the tokenizer have no embedding, first %r with id %d of %d; texts with any are refused",
            entry.id,
            len(tokenizer.embedded.missing),
            text,
            token,
            config.vocab_size,
        )
    return tokenizer


def _answers(builder: ModelBuilder, tokenizer: TextTokenizer) -> list[int]:
    """Ids of the tokens whose logits make the score; none if the score is not made of logits."""
    if builder.description.head != "tokens":
        return []
    saved, prompt = builder.answer_ids, builder.description.prompt
    if saved is not None and not isinstance(prompt, Prompt):
        return saved
    answers = [tokenizer.token_id(answer) for answer in builder.answer_tokens]
    if saved not in (None, answers):
        raise UnsupportedModelError(
            f"{builder.checkpoint.folder} answers with tokens {saved}, but the prompt {prompt_name(prompt)!r} with "
            f"{answers}: it was trained with another prompt"
        )
    return answers


def _uses_library(encoder: Encoder) -> bool:
    """Whether oneDNN or MKL multiplies all tokens of a batch somewhere, and not just the rows that a head reads."""
    modules = encoder.named_modules()
    return any(isinstance(layer, LibraryLinear) for name, layer in modules if not name.startswith(("head.", "pooled.")))
