"""A checkpoint's files → a model on its device."""

import logging
import re
import time
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sie_server.choices import Output, Pooling, Precision, Score
from sie_server.engine.device import resolve_precision
from sie_server.engine.packed import Packed
from sie_server.engine.tokenize import TextTokenizer
from sie_server.errors import LoadClass, LoadError, UnsupportedModelError
from sie_server.models.catalog import Entry
from sie_server.models.config import read_config
from sie_server.models.encoder import Encoder
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
from sie_server.models.shape import ModelConfig
from sie_server.models.source import locate, weight_files
from sie_server.models.tokenizer import read_tokenizer
from sie_server.nn.embed import Embedding
from sie_server.nn.lexical import Lexical
from sie_server.nn.linear import Linear, pack_linears

_LOG = logging.getLogger(__name__)
_PROJECTION = "head.out.weight"


@dataclass(frozen=True)
class Model:
    """A model that answers: weights on `device`, tokenizer, and a complete entry."""

    entry: Entry
    tokenizer: TextTokenizer
    encoder: Encoder
    device: torch.device
    dtype: torch.dtype
    parameters: int
    bytes: int

    @property
    def id(self) -> str:
        return self.entry.id

    @property
    def max_length(self) -> int:
        return self.tokenizer.max_length

    @property
    def pooling(self) -> Pooling:
        return self.entry.pooling or "mean"

    @property
    def score(self) -> Score | None:
        return self.entry.score


def load(entry: Entry, device: torch.device, precision: Precision = "auto") -> Model:
    """Find, read, check and place a model's weights.

    Raises:
        LoadError: the files can't be had, don't fit the device, or are not what this server computes.
    """
    started = time.perf_counter()
    folder = locate(entry)
    config = with_modules(read_config(folder), folder)
    entry = complete(entry, folder, config)
    dtype = resolve_precision(precision, device)
    assert entry.max_length is not None
    prompt = None if entry.prompt is None else prompts()[entry.prompt]
    tokenizer = TextTokenizer(
        read_tokenizer(folder),
        entry.max_length,
        token_types=config.token_types > 1,
        prompt=prompt,
        instruction=entry.instruction,
    )
    encoder_class, head = _used(entry, folder, config)
    answers = _answers(folder, prompt, tokenizer) if head == "tokens" else []
    with torch.device("meta"):
        encoder = encoder_class(config, len(answers) or int(head == "classifier" or config.modular_head))
        encoder.lexical = Lexical(config) if head == "lexical" else None
    renames = {**encoder.renames, **_head_renames(encoder, head)}
    files = {**dict.fromkeys(weight_files(folder), renames), **head_files(folder, config)}
    try:
        _fill(encoder, folder, files, device, dtype, answers)
    except torch.OutOfMemoryError as error:
        raise LoadError(LoadClass.OOM, f"{entry.id} does not fit into the memory of {device}") from error
    size = [(p.numel(), p.numel() * p.element_size()) for p in encoder.parameters()]
    pack_linears(encoder)
    model = Model(
        entry=entry,
        tokenizer=tokenizer,
        encoder=encoder.eval().requires_grad_(False),
        device=device,
        dtype=dtype,
        parameters=sum(count for count, _ in size),
        bytes=sum(bytes_ for _, bytes_ in size),
    )
    _warm_up(model)
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
    if head and config.modular_head:
        raise UnsupportedModelError(f"{config.architecture} has a head, and modules.json lists another one")
    prompt = None if config.decoder is None or head is None else choose(entry.prompt, config.architecture, folder)
    scores = head in ("classifier", "tokens") or config.modular_head
    embeddings: Output = "sparse" if head == "lexical" else "dense"
    if scores and head != "tokens" and config.labels != 1:
        raise UnsupportedModelError(f"{entry.source} has {config.labels} labels; a reranker has one")
    if not scores and "score" in (entry.outputs or ()) and entry.score != "maxsim":
        raise UnsupportedModelError(f"{entry.source} has no classification head, and its score is a {entry.score}")
    own: Score = "probability" if config.sigmoid else "logit"
    if head == "tokens" and prompt is not None:
        own = prompt.score
    templates = entry.query_template, entry.doc_template
    if not scores and templates == (None, None):
        templates = templates_hint(folder)
    return replace(
        entry,
        architecture=config.architecture,
        outputs=entry.outputs or (("score",) if scores else (embeddings,)),
        score=entry.score or (own if scores else None),
        dims=entry.dims or (None if scores else config.vocab_size if head == "lexical" else config.hidden_size),
        prompt=None if prompt is None else prompt.name,
        query_template=templates[0],
        doc_template=templates[1],
        pooling=entry.pooling or pooling_hint(folder) or (None if config.decoder is None else "last"),
        max_length=min(entry.max_length or max_length_hint(folder) or config.max_positions, config.max_positions),
    )


def _used(entry: Entry, folder: Path, config: ModelConfig) -> tuple[type[Encoder], HeadKind | None]:
    """Class of the architecture, and which head of the checkpoint is used: a language model that is pooled has none."""
    encoder_class, head = resolve(config.architecture)
    pooled = pooling_hint(folder) is not None if entry.outputs is None else "dense" in entry.outputs
    return encoder_class, None if head == "tokens" and pooled else head


@torch.inference_mode()
def _warm_up(model: Model) -> None:
    """One forward: the first request does not pay for kernel set-up, and a model that can't compute is not loaded."""
    hidden, _ = model.encoder(Packed.of(model.tokenizer.singles(["warm up"]), model.device))
    if not torch.isfinite(hidden).all():
        raise UnsupportedModelError(f"{model.entry.source} computes values that are not finite in {model.dtype}")


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


def _fill(
    encoder: Encoder,
    folder: Path,
    files: Mapping[Path, Mapping[str, str]],
    device: torch.device,
    dtype: torch.dtype,
    answers: Items[int] = (),
) -> None:
    """Give every parameter of a meta-device module its values; strict in both directions.

    files: each with its table of names. A tensor of a sub-folder's file goes by `sub-folder/name`.
    answers: the rows of the output projection that the head keeps, where it is a language model's.
    """
    shapes = {name: meta.shape for name, meta in encoder.named_parameters()}
    parameters: dict[str, Tensor] = {}
    filled = dict.fromkeys(shapes, 0)
    unknown = []
    for hub_name, value, renames in _tensors(folder, files):
        name, block = _rename(hub_name, renames)
        if name not in shapes:
            if "/" in hub_name or not name.startswith(encoder.ignored):
                unknown.append(hub_name)
            continue
        owner = encoder.get_submodule(name.rpartition(".")[0])
        if name not in parameters:
            parameters[name] = torch.empty(shapes[name], dtype=_dtype(owner, name, value.dtype, dtype), device=device)
        target = parameters[name]
        if block is not None:
            assert isinstance(owner, Linear)
            blocks = owner.blocks
            target = target[sum(blocks[:block]) :][: blocks[block]]
        if name == _PROJECTION and answers:
            value = value[list(answers)]
        if target.shape != value.shape:
            raise UnsupportedModelError(f"{hub_name} has shape {tuple(value.shape)}, its config implies another")
        target.copy_(value)
        filled[name] += value.numel()
    for name, source in encoder.ties.items():
        if name in shapes and not filled[name] and source in parameters:
            value = parameters[source]
            owner = encoder.get_submodule(name.rpartition(".")[0])
            parameters[name] = (value[list(answers)] if answers else value).to(_dtype(owner, name, value.dtype, dtype))
            filled[name] = parameters[name].numel()
    missing = [name for name, count in filled.items() if count != shapes[name].numel()]
    if missing or unknown:
        raise UnsupportedModelError(
            f"the checkpoint does not fit its config: {len(missing)} weights missing {missing[:3]}, "
            f"{len(unknown)} not known {unknown[:3]}"
        )
    encoder.load_state_dict(parameters, assign=True, strict=True)


def _dtype(owner: nn.Module, parameter: str, stored: torch.dtype, chosen: torch.dtype) -> torch.dtype:
    """Products run in the chosen precision; norms and heads stay float32, where it costs nothing.

    An embedding keeps the precision of its file: its rows become float32 exactly when they are looked up.
    """
    if isinstance(owner, Embedding):
        return stored if stored in (torch.bfloat16, torch.float16) else torch.float32
    return chosen if isinstance(owner, Linear) and not parameter.startswith("head.") else torch.float32


def _tensors(folder: Path, files: Mapping[Path, Mapping[str, str]]) -> Iterator[tuple[str, Tensor, Mapping[str, str]]]:
    for path, renames in files.items():
        inside = path.parent.relative_to(folder)
        try:
            with safe_open(path, framework="pt") as checkpoint:
                for name in checkpoint.keys():  # noqa: SIM118 (not a dict)
                    yield (inside / name).as_posix(), checkpoint.get_tensor(name), renames
        except (OSError, ValueError, SafetensorError) as error:
            raise UnsupportedModelError(f"{path} is not a readable safetensors file: {error}") from error


def _rename(name: str, renames: Mapping[str, str]) -> tuple[str, int | None]:
    """Our name for a hub tensor, and which block of rows of a fused weight it is."""
    for theirs, ours in renames.items():
        name = name.replace(theirs, ours)
    if match := re.search(r"\[(\d)\]", name):
        return name.replace(match[0], ""), int(match[1])
    return name, None
