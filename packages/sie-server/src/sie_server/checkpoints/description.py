"""Describes a model by its catalogue entry and its checkpoint's files, before its weights are loaded."""

import logging
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace

from sie_server.catalog.catalog import Entry, Profile
from sie_server.checkpoints.activation_fn import score_of
from sie_server.checkpoints.chat_template_file import reads_messages
from sie_server.checkpoints.checkpoint import Checkpoint
from sie_server.checkpoints.hf_config import read_config
from sie_server.checkpoints.prompts import PLAIN, choose, prompt_name
from sie_server.checkpoints.sentence_transformers import (
    answers_hint,
    embeds,
    max_length_hint,
    pooling_hint,
    templates_hint,
    with_modules,
)
from sie_server.checkpoints.source import locate
from sie_server.errors import LoadError, UnsupportedModelError
from sie_server.models.encoder import Encoder
from sie_server.models.model_config import ModelConfig
from sie_server.models.registry import HeadKind, resolve
from sie_server.nn.config import Projection
from sie_server.options import MODES, Output, Score
from sie_server.tokenization.chat_template import ChatTemplate
from sie_server.tokenization.prompt import Prompt

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Description:
    """A model as its entry and its files describe it.

    entry: without gaps. head: the head of the checkpoint that is used. prompt: of a decoder that reads pairs.
    """

    entry: Entry
    config: ModelConfig
    encoder_class: type[Encoder]
    head: HeadKind | None
    prompt: Prompt | ChatTemplate | None

    @property
    def scores(self) -> bool:
        """Whether the model has a head that reads pairs."""
        return self.head in ("classifier", "tokens") or self.config.modular_head


def inspect(entry: Entry) -> tuple[Entry, LoadError | None]:
    """The entry with the facts that its folder's files give, and the fault of that folder, if it has one."""
    if entry.folder is None:
        return entry, None
    try:
        with locate(entry) as checkpoint:
            return describe(entry, checkpoint, read_model_config(checkpoint)).entry, None
    except LoadError as error:
        return entry, error
    except Exception as error:  # from any content of a file: one folder's fault must not stop the server
        _LOG.exception("%s: %s can't be parsed", entry.id, entry.folder)
        return entry, UnsupportedModelError(f"the files of {entry.source} can't be parsed: {error!r}")


def read_model_config(checkpoint: Checkpoint) -> ModelConfig:
    """The config in `config.json` and in the files of sentence-transformers.

    Raises:
        UnsupportedModelError: they ask for something unsupported.
        LoadError: STORAGE, a file is missing or can't be read.
    """
    return with_modules(read_config(checkpoint), checkpoint)


def describe(entry: Entry, checkpoint: Checkpoint, config: ModelConfig) -> Description:
    """Fill the gaps of an entry from the checkpoint's files.

    Raises:
        UnsupportedModelError: the entry asks for something that the checkpoint can't do.
        LoadError: STORAGE, a file is missing or can't be read.
    """
    encoder_class, head = resolve(config.architecture)
    pooled = pooling_hint(checkpoint) is not None if entry.outputs is None else "dense" in entry.outputs
    if head == "tokens" and pooled:  # a language model that is pooled does not use its head
        head = None
    if config.late and (config.decoder or config.disentangled):
        raise UnsupportedModelError(f"late interaction over {config.architecture} is not supported")
    scores = head in ("classifier", "tokens") or config.modular_head
    pairs = config.decoder is not None and head is not None
    prompt = choose(entry.prompt, config.architecture, checkpoint, head == "classifier") if pairs else None
    if not pairs:
        _check_plain(entry, checkpoint, scores)
    own_outputs, own_score = _own_outputs(config, head, scores)
    if entry.folder is not None and entry.repository:
        _check_fit(entry, config, own_outputs)
    if scores and head != "tokens" and config.labels != 1:
        raise UnsupportedModelError(f"{entry.source} has {config.labels} labels; a reranker has one")
    if not scores and "score" in (entry.outputs or ()) and entry.score not in ("maxsim", "similarity", own_score):
        raise UnsupportedModelError(f"{entry.source} has no classification head, but its score is a {entry.score}")
    if prompt is not None and config.decoder is not None and not config.decoder.causal:
        name = prompt_name(prompt)
        raise UnsupportedModelError(f"is_causal false with a prompt ({name}) is not supported; supported: true")
    saves_answers = answers_hint(checkpoint) is not None  # with a default of its own for the score
    if head == "tokens" and isinstance(prompt, Prompt) and config.score_activation is None and not saves_answers:
        own_score = prompt.score
    sparse = head == "sparse" or config.token_weights
    chain = (*config.projections.values(), *config.pooled.values())
    *_, width = config.hidden_size, *(layer.width for layer in chain if isinstance(layer, Projection))
    # PyLate saves the limit of the texts that it read last.
    limit = None if config.late else max_length_hint(checkpoint)
    templates = entry.query_template, entry.doc_template
    if not scores and not config.late and templates == (None, None):
        templates = templates_hint(checkpoint)
    pooling = entry.pooling or pooling_hint(checkpoint) or (None if config.decoder is None else "last")
    if own_score is None and entry.outputs is None and embeds(checkpoint):
        # In a mean, every token's vector counts: they rank better one by one than together, if nothing else is trained.
        by_tokens = pooling == "mean" and not (config.decoder or config.pooled or any(templates)) and not sparse
        own_outputs = (*own_outputs, *(("multivector",) if by_tokens else ()), "score")
        own_score = "maxsim" if by_tokens else "similarity"
    cuts = entry.matryoshka
    outputs = entry.outputs or own_outputs
    entry = replace(
        entry,
        architecture=config.architecture,
        outputs=outputs,
        profiles=entry.profiles or _own_profiles(outputs),
        score=entry.score or own_score,
        dims=entry.dims or (None if scores or head == "sparse" else width),
        matryoshka=cuts if isinstance(cuts, bool) else tuple(cut for cut in cuts if cut < width),
        sparse_dims=entry.sparse_dims or (config.vocab_size if sparse else None),
        prompt=prompt_name(prompt) if pairs else None,
        query_template=templates[0],
        doc_template=templates[1],
        pooling=pooling,
        max_length=min(entry.max_length or limit or config.max_positions, config.max_positions),
    )
    _check_profiles(entry)
    return Description(entry, config, encoder_class, head, prompt)


def _check_plain(entry: Entry, checkpoint: Checkpoint, scores: bool) -> None:
    """Check a model that reads texts without a prompt.

    Raises:
        UnsupportedModelError: the entry or the checkpoint asks for a prompt or a chat template.
    """
    if entry.prompt not in (None, PLAIN):
        raise UnsupportedModelError(f"prompt {entry.prompt!r} is for decoder rerankers, and this model is not one")
    if entry.prompt is None and (scores or checkpoint.has("modules.json")) and reads_messages(checkpoint):
        raise UnsupportedModelError(
            "the folder's texts go into a chat template, which is supported only for decoder rerankers; "
            f"prompt {PLAIN!r} reads them as they are"
        )


def _check_fit(entry: Entry, config: ModelConfig, own_outputs: tuple[Output, ...]) -> None:
    """Check that the folder given for a model of the catalogue holds such a model, of whatever size.

    Raises:
        UnsupportedModelError: it has another architecture, or lacks one of the entry's outputs.
    """
    trouble = None
    wanted = entry.outputs or own_outputs
    # Those of a head or of several heads, and those that can be made of any encoder's tokens.
    able = {*own_outputs, "multivector", "score"} if own_outputs == ("dense",) and "dense" in wanted else {*own_outputs}
    if entry.architecture and resolve(entry.architecture)[0] is not resolve(config.architecture)[0]:
        trouble = f"it holds a {config.architecture}, and the model is a {entry.architecture}"
    elif missing := [output for output in wanted if output not in able]:
        trouble = f"it holds a model for {_listed(own_outputs)}, without {_listed(missing)}"
    if trouble is not None:
        raise UnsupportedModelError(f"{entry.folder} does not fit {entry.id}: {trouble}")


def _own_profiles(outputs: Items[Output]) -> dict[str, Profile]:
    """A profile for each output of a model with embeddings of three kinds, as the catalogue has them for BGE-M3."""
    return {output: Profile(output_types=(output,)) for output in MODES} if set(MODES).issubset(outputs) else {}


def _check_profiles(entry: Entry) -> None:
    """Raises UnsupportedModelError: a profile is for outputs that the model does not have."""
    for name, profile in entry.profiles.items():
        able = {"score", *(entry.outputs or ())}
        if missing := [output for output in profile.output_types or () if output not in able]:
            raise UnsupportedModelError(
                f"profile '{name}' of {entry.id} is for {_listed(missing)}; the model's outputs are "
                f"{_listed(entry.outputs or ())}"
            )


def _listed(outputs: Items[str]) -> str:
    *front, last = outputs
    return f"{', '.join(front)} and {last}" if front else last


def _own_outputs(config: ModelConfig, head: HeadKind | None, scores: bool) -> tuple[tuple[Output, ...], Score | None]:
    """The outputs of a checkpoint by its own files, and the kind of its score."""
    if config.token_weights:
        return ("dense", "sparse", "multivector", "score"), "similarity"
    if config.late:
        return ("multivector", "score"), "maxsim"
    if scores:
        return ("score",), score_of(config.score_activation, config.labels if head == "classifier" else 1)
    return (("sparse",) if head == "sparse" else ("dense",)), None
