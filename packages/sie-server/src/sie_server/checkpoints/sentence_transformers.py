"""Reads the files of sentence-transformers next to `config.json`: modules, prompts and limits."""

from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import replace
from typing import Annotated, Any

import msgspec

from sie_server.checkpoints.checkpoint import WEIGHTS, Checkpoint
from sie_server.checkpoints.colbert import TRANSFORMER_FILE, pylate, sentence_transformers, stanford
from sie_server.checkpoints.json_fields import Keys
from sie_server.errors import UnsupportedModelError
from sie_server.models.model_config import ModelConfig
from sie_server.nn.config import HeadConfig, Norm, Projection, UnitLength
from sie_server.options import HeadActivation, Pooling
from sie_server.tokenization.config import LateInteraction

_SUPPORTED = (
    "Transformer and Pooling, then Dense, LayerNorm and Normalize, for embeddings; the same with a Dense to scores "
    "last, and no Normalize, for scores; Transformer and LogitScore for decoders; Transformer, Dense, MultiVectorMask "
    "and Normalize for late interaction"
)
_POOLINGS: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS: dict[str, HeadActivation] = {"Identity": "identity", "Tanh": "tanh", "GELU": "gelu", "ReLU": "relu"}
# The heads of BGE-M3, saved by its authors' package as pickled tensors.
BGE_M3_FILES = ("sparse_linear.pt", "colbert_linear.pt")
# The modules of these are used as listed; for any other class, sentence-transformers builds its own.
_MODEL_TYPES = ("SentenceTransformer", "CrossEncoder", "SparseEncoder", "MultiVectorEncoder", "ColBERT")
_MODULES_FILE = "modules.json"
_NO_LIMIT = 1e9
# Special tokens of a sequence. A limit must leave room for more than these.
_SPECIAL = 2
_MAX_ID = 2**31 - 1
SETTINGS_FILE = "config_sentence_transformers.json"
_NORM_EPS = 1e-5  # torch's default; sentence-transformers has no setting for it


class Module(msgspec.Struct, frozen=True):
    """An entry of `modules.json`: the import path of a class, and the sub-folder with its files."""

    type: str
    path: Annotated[str, msgspec.Meta(pattern=r"^[\w-]*$")]

    @property
    def kind(self) -> str:
        return _class_name(self.type, "sentence_transformers", "pylate")


class _Dense(msgspec.Struct, frozen=True):
    """The `config.json` of a Dense module, with the defaults of its class."""

    out_features: Annotated[int, msgspec.Meta(ge=1, le=2**17)]
    bias: bool = True
    activation_function: str = "torch.nn.Tanh"
    module_input_name: str | None = None
    module_output_name: str | None = None
    use_residual: bool = False


def modules(checkpoint: Checkpoint) -> list[Module]:
    """The modules of `modules.json` in order; none if there is no such file.

    Raises:
        UnsupportedModelError: it is not a list of modules, or names a folder outside the checkpoint.
    """
    if not checkpoint.has(_MODULES_FILE):
        return []
    try:
        listed = msgspec.convert(checkpoint.json_list(_MODULES_FILE), list[Module])
    except msgspec.ValidationError as error:
        raise UnsupportedModelError(f"modules.json is not a list of modules: {error}") from error
    for module in listed:
        if module.kind in ("Transformer", "MLMTransformer") and module.path:
            raise UnsupportedModelError(
                f"modules.json: the path {module.path!r} of {module.kind} is not supported; supported: ''"
            )
    return listed


def needed_files(checkpoint: Checkpoint) -> list[str]:
    """Names of the files in sub-folders that the modules of `modules.json` need.

    Raises:
        UnsupportedModelError: as `modules`.
    """
    names = {
        "Pooling": ["config.json"],
        "Dense": ["config.json", WEIGHTS],
        "LayerNorm": [WEIGHTS],
    }
    return [_inside(module, name) for module in modules(checkpoint) for name in names.get(module.kind, ())]


def with_modules(config: ModelConfig, checkpoint: Checkpoint) -> ModelConfig:
    """The config with the facts of the other files: a head made of modules, late interaction, the kind of score.

    Raises:
        UnsupportedModelError: a file is broken, or a listed module is not supported.
    """
    settings = checkpoint.optional_json(SETTINGS_FILE)
    Keys(settings, SETTINGS_FILE).only("model_type", _MODEL_TYPES)
    config = _with_late_interaction(config, checkpoint, settings)
    if config.late is None:
        config = _with_pooled(config, checkpoint)
        if settings.get("model_type") == "CrossEncoder" and config.pooled and not config.modular_head:
            raise UnsupportedModelError(
                f"{[*config.pooled][-1]}: a CrossEncoder's last module must have module_output_name 'scores'"
            )
    # Since release 5.4 the name is here, where it takes precedence over that in `config.json`.
    activation = Keys(settings, SETTINGS_FILE).text("activation_fn")
    return replace(config, score_activation=activation or config.score_activation)


def head_files(config: ModelConfig) -> dict[str, Mapping[str, str]]:
    """The files of heads that have their own: by name, the table from their tensors' names to ours."""
    if config.token_weights:
        return {
            file: {name: f"{ours}.{name}" for name in ("weight", "bias")}
            for file, ours in zip(BGE_M3_FILES, ("sparse.out", "projections.colbert_linear"), strict=True)
        }
    names = {name: f"head.{name}." for name in (config.head.layers if config.modular_head else ())}
    names |= {name: f"pooled.{name}." for name, layer in config.pooled.items() if not isinstance(layer, UnitLength)}
    if not config.stanford:
        names |= {name: f"projections.{name}." for name in config.projections}
    return {
        f"{name}/{WEIGHTS}": {
            f"{name}/residual.": f"{ours}residual.",
            f"{name}/linear.": ours,
            f"{name}/norm.": ours,
        }
        for name, ours in names.items()
    }


def pooling_hint(checkpoint: Checkpoint) -> Pooling | None:
    """The pooling of the listed Pooling module, or of `1_Pooling` if none is listed; None if there is neither.

    Raises:
        LoadError: STORAGE, the listed module has no `config.json`.
        UnsupportedModelError: it is not by mean, first or last token.
    """
    file = _config_of(checkpoint, "Pooling", "1_Pooling")
    return None if file is None else _pooling(checkpoint, file)


def embeds(checkpoint: Checkpoint) -> bool:
    """Whether the modules say how a text becomes a vector, dense or sparse. Raises as `pooling_hint`."""
    return pooling_hint(checkpoint) is not None or any(each.kind == "SpladePooling" for each in modules(checkpoint))


def _config_of(checkpoint: Checkpoint, kind: str, default: str) -> str | None:
    """The `config.json` of the first module of a kind, there or not; if none is listed, that in `default`, if there."""
    listed = next((_inside(module, "config.json") for module in modules(checkpoint) if module.kind == kind), None)
    file = f"{default}/config.json"
    return file if listed is None and checkpoint.has(file) else listed


class _Prompts(msgspec.Struct, frozen=True):
    """The prompts in `config_sentence_transformers.json`, which are put in front of texts; null is no prompt."""

    query: str | None = None
    document: str | None = None


def templates_hint(checkpoint: Checkpoint) -> tuple[str | None, str | None]:
    """Templates for queries and documents, equivalent to sentence-transformers' `encode_query` and `encode_document`.

    Neither falls back on the prompt of `default_prompt_name`, or on a prompt of another name.

    Raises:
        UnsupportedModelError: the prompts are not strings, or pooling is to leave their tokens out.
    """
    try:
        prompts = msgspec.convert(checkpoint.optional_json(SETTINGS_FILE).get("prompts") or {}, _Prompts)
    except msgspec.ValidationError as error:
        raise UnsupportedModelError(f"{SETTINGS_FILE}: prompts: {error}") from error
    if not prompts.query and not prompts.document:
        return None, None
    if checkpoint.optional_json("1_Pooling/config.json").get("include_prompt") is False:
        raise UnsupportedModelError("1_Pooling/config.json: include_prompt false is not supported; supported: true")
    return _template(prompts.query), _template(prompts.document)


def answers_hint(checkpoint: Checkpoint) -> list[int] | None:
    """Ids of the answer tokens, if sentence-transformers saved them in its LogitScore module.

    Raises:
        LoadError: STORAGE, the listed module has no `config.json`.
        UnsupportedModelError: they are not ids, or the module does not read a language model's logits.
    """
    file = _config_of(checkpoint, "LogitScore", "1_LogitScore")
    if file is None:
        return None
    keys = Keys(checkpoint.json(file), file)
    keys.only("module_input_name", ("causal_logits",))
    yes = keys.integer("true_token_id", low=0, high=_MAX_ID)
    return [yes, keys.integer("false_token_id", low=0, high=_MAX_ID)] if keys.given("false_token_id") else [yes]


def max_length_hint(checkpoint: Checkpoint) -> int | None:
    """The limit in tokens that sentence-transformers or the tokenizer sets, if either does.

    Raises:
        UnsupportedModelError: it is not a number that leaves room for a text.
    """
    for file, key in ((TRANSFORMER_FILE, "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        keys = Keys(checkpoint.optional_json(file), file)
        if keys.given(key):
            # transformers writes 1e30 for "no limit", as an integer or a float.
            limit = keys.number(key, above=_SPECIAL, high=1e300)
            return int(limit) if limit < _NO_LIMIT else None
    return None


def _template(prompt: str | None) -> str | None:
    return prompt.replace("{", "{{").replace("}", "}}") + "{text}" if prompt else None


def _with_late_interaction(config: ModelConfig, checkpoint: Checkpoint, settings: Mapping[str, Any]) -> ModelConfig:
    """The config of a model for late interaction; that of any other model is unchanged."""
    listed = modules(checkpoint)
    match [module.kind for module in listed]:
        case ["Transformer", "Dense", *more] if set(more) <= {"Dense"}:  # as PyLate saves it
            return replace(config, late=pylate(settings), projections=_projections(checkpoint, listed[1:]))
        case ["Transformer", *more, "MultiVectorMask", "Normalize"] if set(more) <= {"Dense"}:
            late = sentence_transformers(checkpoint, listed[-2].path, settings.get("prompts") or {})
            return replace(config, late=late, projections=_projections(checkpoint, listed[1:-2]))
    if config.stanford:
        late, width = stanford(checkpoint)
        return replace(config, late=late, projections={"linear": Projection(width, bias=False)})
    if all(checkpoint.has(name) for name in BGE_M3_FILES):
        # FlagEmbedding drops the vector of the first token only.
        projections = {"colbert_linear": Projection(config.hidden_size)}
        return replace(config, late=LateInteraction(first=1), projections=projections, token_weights=True)
    return config


def _projections(checkpoint: Checkpoint, listed: Items[Module]) -> dict[str, Projection]:
    return {module.path: _projection(checkpoint, module, "token_embeddings") for module in listed}


def _with_pooled(config: ModelConfig, checkpoint: Checkpoint) -> ModelConfig:
    """The config with the modules after Pooling: a head, or an embedding's last layers.

    A Normalize at the end is left to the request, which scales vectors to length 1 unless told otherwise.
    """
    listed = [module for module in modules(checkpoint) if module.kind != "Dropout"]
    match kinds := [module.kind for module in listed]:
        case ["MLMTransformer" | "Transformer", "SpladePooling"]:
            splade = _module_keys(checkpoint, listed[1])
            splade.only("pooling_strategy", ("max",))
            splade.only("activation_function", ("relu",))
            return config
        case [] | ["Transformer"] | ["Transformer", "LogitScore"]:
            return config
        case ["Transformer", "Pooling", *after] if {"Dense", "LayerNorm", "Normalize"}.issuperset(after):
            _, pooling, *chain = listed
            if chain and _scores(checkpoint, chain[-1]):
                return _with_head(config, checkpoint, pooling, chain)
            while chain and chain[-1].kind == "Normalize":
                _unit(checkpoint, chain.pop())
            layers = {module.path: _layer(checkpoint, module) for module in chain}
            return replace(config, pooled=layers)
    raise UnsupportedModelError(f"modules.json lists {', '.join(kinds)}; supported: {_SUPPORTED}")


def _with_head(config: ModelConfig, checkpoint: Checkpoint, pooling: Module, chain: Items[Module]) -> ModelConfig:
    if config.decoder is not None:
        raise UnsupportedModelError(f"a head of modules over {config.architecture} is not supported")
    *between, last = chain
    if normalized := [module.path for module in between if module.kind == "Normalize"]:
        raise UnsupportedModelError(f"{normalized[0]} in front of a score is not supported; supported: {_SUPPORTED}")
    layers = {module.path: _layer(checkpoint, module) for module in between}
    out = _projection(checkpoint, last, "sentence_embedding", "scores")
    if out.width != 1:
        raise UnsupportedModelError(f"{last.path} has {out.width} outputs; a reranker has one")
    head: dict[str, Projection | Norm] = {n: each for n, each in layers.items() if not isinstance(each, UnitLength)}
    pooled_by = _pooling(checkpoint, _inside(pooling, "config.json"))
    return replace(config, head=HeadConfig({**head, last.path: out}, pooled_by), modular_head=True, labels=1)


def _scores(checkpoint: Checkpoint, module: Module) -> bool:
    """Whether a module's output is a score."""
    return module.kind == "Dense" and _module_keys(checkpoint, module).raw("module_output_name") == "scores"


def _layer(checkpoint: Checkpoint, module: Module) -> Projection | Norm | UnitLength:
    match module.kind:
        case "LayerNorm":
            return Norm(_NORM_EPS)
        case "Normalize":
            return _unit(checkpoint, module)
    return _projection(checkpoint, module, "sentence_embedding")


def _unit(checkpoint: Checkpoint, module: Module) -> UnitLength:
    if module.path and checkpoint.has(_inside(module, "config.json")):
        keys = _module_keys(checkpoint, module)
        for key in ("module_input_name", "module_output_name"):
            keys.only(key, ("sentence_embedding", None))
    return UnitLength()


def _inside(module: Module, file: str) -> str:
    """Name of a module's file, relative to the checkpoint's folder."""
    return f"{module.path}/{file}" if module.path else file


def _module_keys(checkpoint: Checkpoint, module: Module) -> Keys:
    file = _inside(module, "config.json")
    return Keys(checkpoint.json(file), file)


def _pooling(checkpoint: Checkpoint, file: str) -> Pooling:
    """The pooling in a Pooling module's `config.json`: before release 6 one boolean per mode, later its name."""
    keys = Keys(checkpoint.json(file), file)
    if "pooling_mode" in keys:
        modes = keys.raw("pooling_mode")
    else:
        modes = [mode for flag, mode in _POOLING_FLAGS.items() if keys.flag(flag, False)] or ["mean"]
    modes = modes if isinstance(modes, list) else [modes]
    if len(modes) != 1 or not isinstance(modes[0], str) or modes[0] not in _POOLINGS:
        raise UnsupportedModelError(
            f"{keys.where}: pooling {modes!r:.200} is not supported; supported: one of {', '.join(_POOLINGS)}"
        )
    return _POOLINGS[modes[0]]


def _projection(checkpoint: Checkpoint, module: Module, reads: str, writes: str | None = None) -> Projection:
    """A Dense module from features named `reads` to those named `writes`, by default the same."""
    file = _inside(module, "config.json")
    try:
        dense = msgspec.convert(checkpoint.json(file), _Dense)
    except msgspec.ValidationError as error:
        raise UnsupportedModelError(f"{file}: {error}") from error
    if (function := _class_name(dense.activation_function, "torch.nn")) not in _ACTIVATIONS:
        raise UnsupportedModelError(
            f"{module.path}: activation_function {function!r} is not supported; supported: {', '.join(_ACTIVATIONS)}"
        )
    # PyLate names neither: all of its modules are for token vectors.
    given = dense.module_input_name or reads
    names, supported = (given, dense.module_output_name or given), (reads, writes or reads)
    if names != supported:
        raise UnsupportedModelError(
            f"{module.path} maps {names[0]!r} to {names[1]!r} (module_input_name, module_output_name); supported: "
            f"{supported[0]!r} to {supported[1]!r}"
        )
    return Projection(dense.out_features, _ACTIVATIONS[function], dense.bias, dense.use_residual)


def _class_name(path: str, *packages: str) -> str:
    """Name of a class; for a class of another package, the whole import path."""
    return path.rpartition(".")[2] if path.startswith(tuple(f"{package}." for package in packages)) else path
