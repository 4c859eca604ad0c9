"""A checkpoint's files → a model on its device."""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from sie_server.choices import Output, Precision, Score
from sie_server.engine.device import resolve_precision
from sie_server.engine.limits import Limits
from sie_server.engine.packed import Packed
from sie_server.engine.peak import Peak
from sie_server.engine.tokenize import TextTokenizer
from sie_server.errors import LoadClass, LoadError, UnsupportedModelError
from sie_server.models.catalog import Entry
from sie_server.models.config import read_config
from sie_server.models.encoder import Encoder
from sie_server.models.late_interaction import overridden
from sie_server.models.model import Model
from sie_server.models.modules import (
    answers_hint,
    head_files,
    max_length_hint,
    pooling_hint,
    templates_hint,
    with_modules,
)
from sie_server.models.prompts import Prompt, choose, prompts
from sie_server.models.registry import HeadKind, resolve
from sie_server.models.shape import LateInteraction, ModelConfig
from sie_server.models.source import locate, weight_files
from sie_server.models.tokenizer import read_tokenizer
from sie_server.models.weights import fill
from sie_server.nn.lexical import Lexical, TokenWeights
from sie_server.nn.linear import Linear, pack_linears
from sie_server.nn.panels import bfloat16_panels, lay_in_panels

_LOG = logging.getLogger(__name__)
# Few enough for the largest model to take no more than a moment, enough for what does not depend on them to be little.
_WARM_TOKENS = 64


def load(entry: Entry, device: torch.device, precision: Precision = "auto") -> Model:
    """Find, read, check and place a model's weights.

    Raises:
        LoadError: the files can't be had, don't fit the device, or are not what this server computes.
    """
    started = time.perf_counter()
    folder = locate(entry)
    config = with_modules(read_config(folder), folder)
    entry = complete(entry, folder, config)
    late = overridden(config.late or LateInteraction(), entry.late_interaction)
    dtype = resolve_precision(precision, device)
    # What int8 does not compute in integers, it computes as `auto` does.
    stored = resolve_precision("auto", device) if dtype == torch.int8 else dtype
    assert entry.max_length is not None
    prompt = None if entry.prompt is None else prompts()[entry.prompt]
    tokenizer = TextTokenizer(
        read_tokenizer(folder),
        entry.max_length,
        token_types=config.token_types > 1,
        prompt=prompt,
        instruction=entry.instruction,
        late=late,
        window=min((layer.window for layer in config.rotary_layers if layer.window is not None), default=None),
    )
    encoder_class, head = _used(entry, folder, config)
    answers = _answers(folder, prompt, tokenizer) if head == "tokens" else []
    with torch.device("meta"):
        encoder = encoder_class(config, len(answers) or int(head == "classifier" or config.modular_head))
        if head == "lexical":
            encoder.lexical = Lexical(config)
        elif config.token_weights:
            encoder.lexical = TokenWeights(config, tokenizer.special_ids())
    renames = {**encoder.renames, **_head_renames(encoder, head)}
    if config.stanford:
        renames["linear."] = "projections.linear."
    files = {**dict.fromkeys(weight_files(folder, entry.pickled), renames), **head_files(folder, config)}
    try:
        fill(encoder, folder, files, device, stored, answers)
    except torch.OutOfMemoryError as error:
        raise LoadError(LoadClass.OOM, f"{entry.id} does not fit into the memory of {device}") from error
    parameters = sum(p.numel() for p in encoder.parameters())
    if dtype == torch.int8 or (device.type == "cpu" and dtype == torch.bfloat16 and bfloat16_panels()):
        lay_in_panels(encoder.layers, int8=dtype == torch.int8)
    size = sum(t.numel() * t.element_size() for t in (*encoder.parameters(), *encoder.buffers()))
    pack_linears(encoder)
    model = Model(
        entry=entry,
        tokenizer=tokenizer,
        encoder=encoder.eval().requires_grad_(False),
        device=device,
        dtype=dtype,
        parameters=parameters,
        bytes=size,
        few_sizes=device.type == "cpu" and _compiled(encoder),
    )
    model = replace(model, token_bytes=_warm_up(model))
    _LOG.info(
        "%s: loaded from %s in %.2f s: %s, %.1fM parameters, %s on %s",
        entry.id,
        folder,
        time.perf_counter() - started,
        config.architecture,
        model.parameters / 1e6,
        str(dtype).removeprefix("torch."),
        device,
    )
    return model


def inspect(entry: Entry) -> Entry:
    """What can be known of a model before it is loaded: a folder's config, if it can be read."""
    if entry.folder is None:
        return entry
    try:
        config = with_modules(read_config(entry.folder), entry.folder)
        return complete(entry, entry.folder, config)
    except LoadError:
        return entry  # its load says what is wrong


def complete(entry: Entry, folder: Path, config: ModelConfig) -> Entry:
    """Fill what an entry leaves open from the checkpoint's own files.

    Raises:
        UnsupportedModelError: what the entry asks for is not what the checkpoint can do.
    """
    _, head = _used(entry, folder, config)
    if head and (config.modular_head or config.late):
        raise UnsupportedModelError(f"{config.architecture} has a head, and modules.json lists another one")
    if config.late and (config.decoder or config.disentangled):
        raise UnsupportedModelError(f"late interaction over {config.architecture} is not supported")
    prompt = None if config.decoder is None or head is None else choose(entry.prompt, config.architecture, folder)
    scores = head in ("classifier", "tokens") or config.modular_head
    own_outputs, own = _own(config, head, scores)
    if scores and head != "tokens" and config.labels != 1:
        raise UnsupportedModelError(f"{entry.source} has {config.labels} labels; a reranker has one")
    if not scores and "score" in (entry.outputs or ()) and entry.score not in ("maxsim", own):
        raise UnsupportedModelError(f"{entry.source} has no classification head, and its score is a {entry.score}")
    if head == "tokens" and prompt is not None:
        own = prompt.score
    sparse = head == "lexical" or config.token_weights
    *_, width = config.hidden_size, *(projection.width for projection in config.projections.values())
    # PyLate saves the limit of what it read last.
    hint = None if config.late else max_length_hint(folder)
    templates = entry.query_template, entry.doc_template
    if not scores and not config.late and templates == (None, None):
        templates = templates_hint(folder)
    return replace(
        entry,
        architecture=config.architecture,
        outputs=entry.outputs or own_outputs,
        score=entry.score or own,
        dims=entry.dims or (None if scores or head == "lexical" else width),
        sparse_dims=entry.sparse_dims or (config.vocab_size if sparse else None),
        prompt=None if prompt is None else prompt.name,
        query_template=templates[0],
        doc_template=templates[1],
        pooling=entry.pooling or pooling_hint(folder) or (None if config.decoder is None else "last"),
        max_length=min(entry.max_length or hint or config.max_positions, config.max_positions),
    )


def _own(config: ModelConfig, head: HeadKind | None, scores: bool) -> tuple[tuple[Output, ...], Score | None]:
    """What a checkpoint gives by its own files, and what its score is."""
    if config.token_weights:
        return ("dense", "sparse", "multivector", "score"), "similarity"
    if config.late:
        return ("multivector", "score"), "maxsim"
    if scores:
        return ("score",), "probability" if config.sigmoid else "logit"
    return (("sparse",) if head == "lexical" else ("dense",)), None


def _used(entry: Entry, folder: Path, config: ModelConfig) -> tuple[type[Encoder], HeadKind | None]:
    """Class of the architecture, and which head of the checkpoint is used: a language model that is pooled has none."""
    encoder_class, head = resolve(config.architecture)
    pooled = pooling_hint(folder) is not None if entry.outputs is None else "dense" in entry.outputs
    return encoder_class, None if head == "tokens" and pooled else head


@torch.inference_mode()
def _warm_up(model: Model) -> int:
    """One forward: the first request does not pay for kernel set-up, and a model that can't compute is not loaded.

    Returns the bytes of tensors that it took at its peak, per token. They grow with the tokens, of whatever sequences,
    but for attention by relative position (DeBERTa, MPNet), which takes the square of a sequence's length beside it.
    """
    encoder, limits = model.encoder, Limits(_WARM_TOKENS)
    sequences = model.tokenizer.singles(["warm up " * _WARM_TOKENS], limits)
    peak = Peak()
    with peak:
        hidden, rows = encoder(Packed.of(sequences, model.device))
        for head in (encoder.head, encoder.lexical):
            if head is not None:
                head(hidden, rows, sequences)
    if not torch.isfinite(hidden).all():
        raise UnsupportedModelError(f"{model.entry.source} computes values that are not finite in {model.dtype}")
    return peak.bytes // sum(map(len, sequences))


def _compiled(encoder: Encoder) -> bool:
    """Whether oneDNN, or MKL, multiplies all tokens of a batch somewhere, not only the rows that a head reads."""
    return any(isinstance(layer, Linear) for name, layer in encoder.named_modules() if not name.startswith("head."))


def _head_renames(encoder: Encoder, head: HeadKind | None) -> Mapping[str, str]:
    match head:
        case None:
            return {}
        case "lexical":
            return encoder.lexical_renames
        case "classifier" | "tokens":
            return encoder.head_renames


def _answers(folder: Path, prompt: Prompt | None, tokenizer: TextTokenizer) -> list[int]:
    """Ids of the tokens whose logits make the score."""
    assert prompt is not None
    answers = [tokenizer.token_id(answer) for answer in prompt.answers]
    if (own := answers_hint(folder)) not in (None, answers):
        raise UnsupportedModelError(
            f"{folder} answers with tokens {own}, the prompt {prompt.name!r} with {answers}; its prompt is another"
        )
    return answers
