"""A checkpoint's files → a model on its device."""

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Items
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.cancellation import stop_if_given_up
from sie_server.checkpoints.chat_template_file import default_prompt, reads_messages
from sie_server.checkpoints.colbert import overridden
from sie_server.checkpoints.files import Version, read_json, version
from sie_server.checkpoints.hf_config import read_config, stated_layers
from sie_server.checkpoints.prompts import PLAIN, choose, prompt_name
from sie_server.checkpoints.score_activation import score_of
from sie_server.checkpoints.sentence_transformers import (
    answers_hint,
    head_files,
    max_length_hint,
    pooling_hint,
    templates_hint,
    with_modules,
)
from sie_server.checkpoints.source import found, locate, weight_files
from sie_server.checkpoints.tensor_file import TensorFile, open_tensors
from sie_server.checkpoints.tokenizer_file import read_tokenizer
from sie_server.checkpoints.weights import Weights
from sie_server.errors import LoadClass, LoadError, SIEError, UnsupportedModelError
from sie_server.machine.peak_memory import PeakMemory
from sie_server.models.encoder import Encoder
from sie_server.models.loaded_model import LoadedModel
from sie_server.models.model_config import ModelConfig
from sie_server.models.registry import HeadKind, resolve
from sie_server.nn.config import Projection
from sie_server.nn.device import resolve_precision
from sie_server.nn.linear import LibraryLinear, Linear
from sie_server.nn.linear_backends import RowCountTrials, use_linear_backends
from sie_server.nn.packed import Packed
from sie_server.nn.panel_linear import INT8_BYTES
from sie_server.nn.sparse import SpladeHead, TokenWeights
from sie_server.options import Output, Precision, Score
from sie_server.tokenization.chat_template import ChatTemplate
from sie_server.tokenization.config import LateInteraction, LengthLimits
from sie_server.tokenization.prompt import Prompt
from sie_server.tokenization.tokenizer import TextTokenizer

_LOG = logging.getLogger(__name__)

T = TypeVar("T")
# A load begins anew where its files have changed meanwhile.
_TRIES = 4
_PAUSE_S = 0.2
# In the names of every architecture's tensors.
_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")
# Few enough for the largest model to take no more than a moment, enough for what does not depend on them to be little.
_WARM_TOKENS = 64


def load(
    entry: Entry, device: torch.device, precision: Precision = "auto", trials: RowCountTrials | None = None
) -> LoadedModel:
    """Find, read, check and place a model's weights: files of one moment, also where they are replaced meanwhile.

    trials: what loads before it found out about this processor.

    Raises:
        LoadError: the files can't be had, don't fit the device, or are not what this server computes; STORAGE, they
            never stayed the same for as long as a load takes; TIMEOUT, the load was given up.
    """
    return _of_one_moment(entry, lambda: locate(entry), lambda folder: _load(entry, folder, device, precision, trials))


def weight_bytes(entry: Entry, device: torch.device, precision: Precision = "auto") -> int | None:
    """Memory that a model's weights will take, from what its files say of them; None where they are not here.

    Raises:
        LoadError: as `load`.
    """
    if (folder := found(entry)) is None:
        return None
    # A folder is looked at as for a load: where it holds something else than weights, that is what is to be said.
    find = (lambda: folder) if entry.folder is None else (lambda: locate(entry))
    return _of_one_moment(entry, find, lambda folder: _weight_bytes(entry, folder, device, precision))


def _of_one_moment(entry: Entry, find: Callable[[], Path], work: Callable[[Path], T]) -> T:
    """What comes of work with a folder whose files stay the same for as long as it takes; it is done again if not."""
    failure: Exception | None = None
    for _ in range(_TRIES):
        stop_if_given_up()
        before, failure = None, None
        try:
            folder = find()
            before = version(folder)
            result = work(folder)
            if version(folder) == before:
                return result
            _LOG.info("%s: %s has changed while it was read", entry.id, folder)
        except Exception as error:
            # Without its stack, which holds weights.
            failure = error.with_traceback(None)
            failure.__cause__ = failure.__context__ = None
        if failure is not None:
            if isinstance(failure, LoadError) and failure.kind is LoadClass.STORAGE:
                time.sleep(_PAUSE_S)  # what is just being replaced is back by then
            elif before is None:
                raise failure
            if before is not None and _version(folder) == before:
                raise failure
    raise failure or LoadError(
        LoadClass.STORAGE, f"{entry.source} has changed each of the {_TRIES} times that it was read"
    )


def _version(folder: Path) -> Version | None:
    """None where the folder has gone."""
    try:
        return version(folder)
    except LoadError:
        return None


def _weight_bytes(entry: Entry, folder: Path, device: torch.device, precision: Precision) -> int:
    dtype = resolve_precision(precision, device)
    with _opened(entry, folder) as opened:
        encoder = opened.encoder(special_ids=())
        weights = opened.weights(encoder, range(opened.answers))
        dtypes = weights.dtypes(resolve_precision("auto", device) if dtype == torch.int8 else dtype)
        total = sum(parameter.numel() * dtypes[name].itemsize for name, parameter in encoder.named_parameters())
        if dtype == torch.int8:
            total += sum(
                layer.weight.numel() * (INT8_BYTES - dtypes[f"layers.{name}.weight"].itemsize)
                for name, layer in encoder.layers.named_modules()
                if isinstance(layer, Linear)
            )
        return total


@dataclass(frozen=True)
class _Opened:
    """A checkpoint whose files are open, each with its table of names, and what they make.

    answers: tokens whose logits a decoder's head keeps.
    """

    folder: Path
    entry: Entry
    config: ModelConfig
    head: HeadKind | None
    prompt: Prompt | ChatTemplate | None
    files: Mapping[TensorFile, Mapping[str, str]]

    @property
    def scores(self) -> bool:
        """Whether it has a head that reads pairs."""
        return self.head in ("classifier", "tokens") or self.config.modular_head

    @property
    def answers(self) -> int:
        if self.head != "tokens":
            return 0
        return len(answers_hint(self.folder) or _answer_tokens(self.prompt))

    def encoder(self, special_ids: Items[int]) -> Encoder:
        """The module, without memory. special_ids: of the tokenizer.

        Raises:
            UnsupportedModelError: the config's sizes are none.
        """
        config, kind = self.config, resolve(self.config.architecture)[0]
        try:
            with torch.device("meta"):
                encoder = kind(config, self.answers or int(self.head == "classifier" or config.modular_head))
                if self.head == "lexical":
                    encoder.lexical = SpladeHead(
                        config.hidden_size, config.vocab_size, config.norm_eps, config.activation
                    )
                elif config.token_weights:
                    encoder.lexical = TokenWeights(config.hidden_size, special_ids)
        except (RuntimeError, TypeError, OverflowError) as error:  # of torch, for sizes it has no number for
            raise UnsupportedModelError(f"the sizes in config.json are not those of a model: {error}") from error
        encoder.has_own_head = self.head is not None
        return encoder

    def weights(self, encoder: Encoder, answers: Items[int]) -> Weights:
        """Where the files' tensors go in the module.

        Raises:
            UnsupportedModelError: as `Weights`.
        """
        renames = {**encoder.renames, **_head_renames(encoder, self.head)}
        if self.config.stanford:
            renames["linear."] = "projections.linear."
        files = [(file, names or renames) for file, names in self.files.items()]
        return Weights(encoder, self.folder, files, answers)


@contextmanager
def _opened(entry: Entry, folder: Path) -> Iterator[_Opened]:
    with ExitStack() as stack:
        files = [stack.enter_context(open_tensors(path)) for path in weight_files(folder, entry.pickled)]
        config = with_modules(read_config(folder), folder)
        _check_layers(folder, files)
        entry = complete(entry, folder, config)
        _, head = _used(entry, folder, config)
        heads = head_files(folder, config)
        yield _Opened(
            folder=folder,
            entry=entry,
            config=config,
            head=head,
            prompt=None if entry.prompt is None else _prompt(entry, folder, config, head),
            files={
                **{file: {} for file in files},
                **{stack.enter_context(open_tensors(path)): names for path, names in heads.items()},
            },
        )


def _check_layers(folder: Path, files: Items[TensorFile]) -> None:
    """Hold the number of layers against the names in the weights' files, before any layer is made.

    Raises:
        UnsupportedModelError: they have others.
    """
    key, stated = stated_layers(read_json(folder / "config.json"))
    names = (name for file in files for name in file.tensors)
    found = [int(match[1]) for name in names if (match := _LAYER.search(name))]
    if found and isinstance(stated, int) and stated != max(found) + 1:
        where = files[0].path.name if len(files) == 1 else f"{len(files)} files of weights"
        have = f"layers {min(found)} to {max(found)}" if len(set(found)) > 1 else f"layer {found[0]} alone"
        raise UnsupportedModelError(f"config.json says {key} {stated}; {where} has {have}")


def _load(
    entry: Entry, folder: Path, device: torch.device, precision: Precision, trials: RowCountTrials | None
) -> LoadedModel:
    started = time.perf_counter()
    dtype = resolve_precision(precision, device)
    with _opened(entry, folder) as opened:
        entry, config = opened.entry, opened.config
        tokenizer = _tokenizer(opened)
        stop_if_given_up()
        encoder = opened.encoder(tokenizer.special_ids())
        answers = _answers(folder, opened.prompt, tokenizer) if opened.head == "tokens" else []
        weights = opened.weights(encoder, answers)
        # What int8 does not compute in integers, it computes as `auto` does.
        stored = resolve_precision("auto", device) if dtype == torch.int8 else dtype
        try:
            weights.fill(device, stored)
        except torch.OutOfMemoryError as error:
            raise LoadError(LoadClass.OOM, f"{entry.id} does not fit into the memory of {device}") from error
    parameters = sum(p.numel() for p in encoder.parameters())
    if dtype == torch.int8:
        use_linear_backends(encoder.layers, int8=True, check_cancelled=stop_if_given_up, trials=trials)
    use_linear_backends(encoder, check_cancelled=stop_if_given_up, trials=trials)
    size = sum(t.numel() * t.dtype.itemsize for t in (*encoder.parameters(), *encoder.buffers()))
    model = LoadedModel(
        entry=entry,
        tokenizer=tokenizer,
        encoder=encoder.eval().requires_grad_(False),
        device=device,
        dtype=dtype,
        parameters=parameters,
        bytes=size,
        few_sizes=device.type == "cpu" and _compiled(encoder),
    )
    model = _warmed_up(model)
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


def _tokenizer(opened: _Opened) -> TextTokenizer:
    entry, config = opened.entry, opened.config
    assert entry.max_length is not None
    carried = read_tokenizer(opened.folder)
    try:
        tokenizer = TextTokenizer(
            carried.tokenizer,
            entry.max_length,
            token_types=carried.token_types and config.token_types > 1,
            prompt=opened.prompt,
            instruction=entry.instruction,
            late=overridden(config.late or LateInteraction(), entry.late_interaction),
            window=min((layer.window for layer in config.rotary_layers if layer.window is not None), default=None),
            rows=config.vocab_size,
            query_prompt=default_prompt(opened.folder) or "" if opened.prompt is None and opened.scores else "",
        )
    except SIEError as error:  # what it reads around every text
        raise UnsupportedModelError(error.message) from error
    if tokenizer.unembedded:
        (token, text), *_ = tokenizer.unembedded
        _LOG.warning(
            "%s: %d tokens of the tokenizer have no embedding, first %r with id %d of %d; texts with any are refused",
            entry.id,
            len(tokenizer.unembedded),
            text,
            token,
            config.vocab_size,
        )
    return tokenizer


def inspect(entry: Entry) -> tuple[Entry, LoadError | None]:
    """What can be known of a model before it is loaded, and what is wrong with its folder, if something is."""
    if entry.folder is None:
        return entry, None
    try:
        locate(entry)
        config = with_modules(read_config(entry.folder), entry.folder)
        return complete(entry, entry.folder, config), None
    except LoadError as error:
        return entry, error
    except Exception as error:  # whatever a file holds: one folder's fault is not the server's
        _LOG.exception("%s: %s can't be understood", entry.id, entry.folder)
        return entry, UnsupportedModelError(f"the files of {entry.source} can't be understood: {error!r}")


def complete(entry: Entry, folder: Path, config: ModelConfig) -> Entry:
    """Fill what an entry leaves open from the checkpoint's own files.

    Raises:
        UnsupportedModelError: what the entry asks for is not what the checkpoint can do.
    """
    _, head = _used(entry, folder, config)
    if config.late and (config.decoder or config.disentangled):
        raise UnsupportedModelError(f"late interaction over {config.architecture} is not supported")
    scores = head in ("classifier", "tokens") or config.modular_head
    pairs = config.decoder is not None and head is not None
    prompt = _prompt(entry, folder, config, head) if pairs else None
    if not pairs:
        _check_plain(entry, folder, scores)
    own_outputs, own = _own(config, head, scores)
    if scores and head != "tokens" and config.labels != 1:
        raise UnsupportedModelError(f"{entry.source} has {config.labels} labels; a reranker has one")
    if not scores and "score" in (entry.outputs or ()) and entry.score not in ("maxsim", own):
        raise UnsupportedModelError(f"{entry.source} has no classification head, and its score is a {entry.score}")
    if prompt is not None and config.decoder is not None and not config.decoder.causal:
        name = prompt_name(prompt)
        raise UnsupportedModelError(f"is_causal false with a prompt ({name}) is not supported; supported: true")
    if (
        head == "tokens"
        and isinstance(prompt, Prompt)
        and config.score_activation is None
        and answers_hint(folder) is None
    ):
        own = prompt.score  # sentence-transformers, where it saved the answers, has a default of its own
    sparse = head == "lexical" or config.token_weights
    chain = (*config.projections.values(), *config.pooled.values())
    *_, width = config.hidden_size, *(layer.width for layer in chain if isinstance(layer, Projection))
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
        prompt=prompt_name(prompt) if pairs else None,
        query_template=templates[0],
        doc_template=templates[1],
        pooling=entry.pooling or pooling_hint(folder) or (None if config.decoder is None else "last"),
        max_length=min(entry.max_length or hint or config.max_positions, config.max_positions),
    )


def _prompt(entry: Entry, folder: Path, config: ModelConfig, head: HeadKind | None) -> Prompt | ChatTemplate | None:
    return choose(entry.prompt, config.architecture, folder, classifier=head == "classifier")


def _check_plain(entry: Entry, folder: Path, scores: bool) -> None:
    """Refuse what would be put into a template, of a model that reads texts as they are.

    Raises:
        UnsupportedModelError: the folder says so, or the entry.
    """
    if entry.prompt not in (None, PLAIN):
        raise UnsupportedModelError(f"prompt {entry.prompt!r} is for decoder rerankers, and this model is not one")
    if entry.prompt is None and (scores or (folder / "modules.json").is_file()) and reads_messages(folder):
        raise UnsupportedModelError(
            "the folder's texts go into a chat template, which is supported only for decoder rerankers; "
            f"prompt {PLAIN!r} reads them as they are"
        )


def _own(config: ModelConfig, head: HeadKind | None, scores: bool) -> tuple[tuple[Output, ...], Score | None]:
    """What a checkpoint gives by its own files, and what its score is."""
    if config.token_weights:
        return ("dense", "sparse", "multivector", "score"), "similarity"
    if config.late:
        return ("multivector", "score"), "maxsim"
    if scores:
        return ("score",), score_of(config.score_activation, config.labels if head == "classifier" else 1)
    return (("sparse",) if head == "lexical" else ("dense",)), None


def _used(entry: Entry, folder: Path, config: ModelConfig) -> tuple[type[Encoder], HeadKind | None]:
    """Class of the architecture, and which head of the checkpoint is used: a language model that is pooled has none."""
    encoder_class, head = resolve(config.architecture)
    pooled = pooling_hint(folder) is not None if entry.outputs is None else "dense" in entry.outputs
    return encoder_class, None if head == "tokens" and pooled else head


@torch.inference_mode()
def _warmed_up(model: LoadedModel) -> LoadedModel:
    """The model with what its batches take; the first request does not pay for kernel set-up, and a model that can't
    compute is not loaded.

    Tensors grow with the tokens, of whatever sequences, but for attention by relative position (DeBERTa, MPNet), which
    takes the square of a sequence's length beside it. What does not grow with them counts once: tables of positions,
    and what a batch of one token needs too.
    """
    few, few_bytes = _forward(model, 1)
    if model.encoder.rotary.bytes:  # made in it, and to stay
        few, few_bytes = _forward(model, 1)
    many, many_bytes = _forward(model, _WARM_TOKENS)
    # Where the tokenizer takes any text for one token, there is nothing to compare.
    token_bytes = max(many_bytes - few_bytes, 0) // (many - few) if many > few else many_bytes // many
    constant = max(few_bytes - few * token_bytes, 0) + model.encoder.rotary.bytes
    return replace(model, bytes=model.bytes + constant, token_bytes=token_bytes)


def _forward(model: LoadedModel, words: int) -> tuple[int, int]:
    """Tokens of a batch, and the bytes of the tensors that it took at its peak."""
    stop_if_given_up()
    encoder, limits = model.encoder, LengthLimits(_WARM_TOKENS)
    try:
        sequences = model.tokenizer.encode_documents(["warm " * words], limits)
    except SIEError as error:
        raise UnsupportedModelError(error.message) from error
    peak = PeakMemory()
    with peak:
        hidden, rows = encoder(Packed.of(sequences, model.device))
        for head in (encoder.head, encoder.lexical):
            if head is not None:
                head(hidden, rows, sequences)
    if not torch.isfinite(hidden).all():
        raise UnsupportedModelError(f"{model.entry.source} computes values that are not finite in {model.dtype}")
    return sum(map(len, sequences)), peak.bytes


def _compiled(encoder: Encoder) -> bool:
    """Whether oneDNN, or MKL, multiplies all tokens of a batch somewhere, not only the rows that a head reads."""
    modules = encoder.named_modules()
    return any(isinstance(layer, LibraryLinear) for name, layer in modules if not name.startswith(("head.", "pooled.")))


def _head_renames(encoder: Encoder, head: HeadKind | None) -> Mapping[str, str]:
    match head:
        case None:
            return {}
        case "lexical":
            return encoder.lexical_renames
        case "classifier" | "tokens":
            return encoder.head_renames


def _answers(folder: Path, prompt: Prompt | ChatTemplate | None, tokenizer: TextTokenizer) -> list[int]:
    """Ids of the tokens whose logits make the score."""
    own = answers_hint(folder)
    if own is not None and not isinstance(prompt, Prompt):
        return own
    answers = [tokenizer.token_id(answer) for answer in _answer_tokens(prompt)]
    if own not in (None, answers):
        raise UnsupportedModelError(
            f"{folder} answers with tokens {own}, but the prompt {prompt_name(prompt)!r} with {answers}: "
            "it was trained with another prompt"
        )
    return answers


def _answer_tokens(prompt: Prompt | ChatTemplate | None) -> tuple[str, ...]:
    """The answers; sentence-transformers' own where nothing says another."""
    return prompt.answers if isinstance(prompt, Prompt) else ("yes", "no")
