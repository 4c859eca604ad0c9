"""What sentence-transformers' files in a checkpoint's folder say, beside `config.json`."""

from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import msgspec

from sie_server.checkpoints.colbert import pylate, sentence_transformers, stanford
from sie_server.checkpoints.files import read_json, read_json_list
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
# Heads of BGE-M3 as its authors' package saves them: pickled tensors.
BGE_M3_FILES = ("sparse_linear.pt", "colbert_linear.pt")
# Whose modules are read as they stand; those of another class sentence-transformers puts together anew.
_MODEL_TYPES = ("SentenceTransformer", "CrossEncoder", "SparseEncoder", "MultiVectorEncoder", "ColBERT")
_NO_LIMIT = 1e9
# So many special tokens may stand in every sequence; where there is room for no others, nothing is read of a text.
_SPECIAL = 2
_MAX_ID = 2**31 - 1
_NORM_EPS = 1e-5  # torch's default; sentence-transformers has no setting for it


class Module(msgspec.Struct, frozen=True):
    """One entry of `modules.json`: a class by its import path, and the sub-folder with its files."""

    type: str
    path: Annotated[str, msgspec.Meta(pattern=r"^[\w-]*$")]

    @property
    def kind(self) -> str:
        return _class_name(self.type, "sentence_transformers", "pylate")


class _Dense(msgspec.Struct, frozen=True):
    """A Dense module's `config.json`, with the defaults of its class."""

    out_features: Annotated[int, msgspec.Meta(ge=1, le=2**17)]
    bias: bool = True
    activation_function: str = "torch.nn.Tanh"
    module_input_name: str | None = None
    module_output_name: str | None = None
    use_residual: bool = False


def modules(folder: Path) -> list[Module]:
    """What `modules.json` lists, in order; nothing where there is no such file.

    Raises:
        UnsupportedModelError: it is not a list of modules, or names a folder outside the checkpoint.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return []
    try:
        listed = msgspec.convert(read_json_list(path), list[Module])
    except msgspec.ValidationError as error:
        raise UnsupportedModelError(f"modules.json is not a list of modules: {error}") from error
    for module in listed:
        if module.kind in ("Transformer", "MLMTransformer") and module.path:
            raise UnsupportedModelError(
                f"modules.json: the path {module.path!r} of {module.kind} is not supported; supported: '', the folder"
            )
    return listed


def needed_files(folder: Path) -> list[Path]:
    """Files in sub-folders without which the modules of `modules.json` are another model, or none.

    Raises:
        UnsupportedModelError: as `modules`.
    """
    names = {
        "Pooling": ["config.json"],
        "Dense": ["config.json", "model.safetensors"],
        "LayerNorm": ["model.safetensors"],
    }
    return [folder / module.path / name for module in modules(folder) for name in names.get(module.kind, ())]


def with_modules(config: ModelConfig, folder: Path) -> ModelConfig:
    """The config as the other files complete it: a head made of modules, late interaction, and what a score is.

    Raises:
        UnsupportedModelError: a file is broken, or modules are listed that we do not compute.
    """
    path = folder / "config_sentence_transformers.json"
    settings = read_json(path) if path.is_file() else {}
    Keys(settings, path.name).only("model_type", _MODEL_TYPES)
    config = _with_late_interaction(config, folder, settings)
    if config.late is None:
        config = _with_pooled(config, folder)
    # From release 5.4 on the name stands here, and goes before that in `config.json`.
    return replace(config, score_activation=Keys(settings, path.name).text("activation_fn") or config.score_activation)


def head_files(folder: Path, config: ModelConfig) -> dict[Path, Mapping[str, str]]:
    """Weights of heads with files of their own: each file, and the table from its tensors' names to ours."""
    if config.token_weights:
        return {
            folder / file: {name: f"{ours}.{name}" for name in ("weight", "bias")}
            for file, ours in zip(BGE_M3_FILES, ("lexical.out", "projections.colbert_linear"), strict=True)
        }
    names = {name: f"head.{name}." for name in (config.head.layers if config.modular_head else ())}
    names |= {name: f"pooled.{name}." for name, layer in config.pooled.items() if not isinstance(layer, UnitLength)}
    if not config.stanford:
        names |= {name: f"projections.{name}." for name in config.projections}
    return {
        folder / name / "model.safetensors": {
            f"{name}/residual.": f"{ours}residual.",
            f"{name}/linear.": ours,
            f"{name}/norm.": ours,
        }
        for name, ours in names.items()
    }


def pooling_hint(folder: Path) -> Pooling | None:
    """How sentence-transformers pools this checkpoint, if it says: in the module that `modules.json` lists.

    Raises:
        UnsupportedModelError: it pools in another way than by mean, first or last token.
    """
    path = folder / _pooling_path(folder) / "config.json"
    return _pooling(path) if path.is_file() else None


def _pooling_path(folder: Path) -> str:
    return next((module.path for module in modules(folder) if module.kind == "Pooling"), "1_Pooling")


class _Prompts(msgspec.Struct, frozen=True):
    """What `config_sentence_transformers.json` puts in front of texts; a null is no prompt."""

    query: str | None = None
    document: str | None = None


def templates_hint(folder: Path) -> tuple[str | None, str | None]:
    """Templates for queries and documents that read as sentence-transformers' `encode_query` and `encode_document` do.

    Neither falls back on the prompt that `default_prompt_name` names, nor on one of another name.

    Raises:
        UnsupportedModelError: the prompts are none, or pooling is to leave their tokens out.
    """
    path = folder / "config_sentence_transformers.json"
    if not path.is_file():
        return None, None
    try:
        prompts = msgspec.convert(read_json(path).get("prompts") or {}, _Prompts)
    except msgspec.ValidationError as error:
        raise UnsupportedModelError(f"{path.name}: prompts: {error}") from error
    pooling = folder / "1_Pooling" / "config.json"
    if (prompts.query or prompts.document) and pooling.is_file() and read_json(pooling).get("include_prompt") is False:
        raise UnsupportedModelError("1_Pooling leaves the prompt out (include_prompt is false), which is not supported")
    return _template(prompts.query), _template(prompts.document)


def answers_hint(folder: Path) -> list[int] | None:
    """Ids of the answer tokens as sentence-transformers saved them in its LogitScore module, if it did.

    Raises:
        UnsupportedModelError: they are no ids, or the module reads something else than a language model's logits.
    """
    place = next((module.path for module in modules(folder) if module.kind == "LogitScore"), "1_LogitScore")
    path = folder / place / "config.json"
    if not path.is_file():
        return None
    keys = Keys(read_json(path), f"{place}/{path.name}")
    keys.only("module_input_name", ("causal_logits",))
    yes = keys.integer("true_token_id", low=0, high=_MAX_ID)
    return [yes, keys.integer("false_token_id", low=0, high=_MAX_ID)] if keys.given("false_token_id") else [yes]


def max_length_hint(folder: Path) -> int | None:
    """The limit in tokens that sentence-transformers or the tokenizer sets, if either does.

    Raises:
        UnsupportedModelError: it is no number that leaves room for a text.
    """
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        if (folder / name).is_file():
            keys = Keys(read_json(folder / name), name)
            if keys.given(key):
                # transformers writes 1e30 for "no limit", as a whole number or not.
                limit = keys.number(key, above=_SPECIAL, high=1e300)
                return int(limit) if limit < _NO_LIMIT else None
    return None


def _template(prompt: str | None) -> str | None:
    return prompt.replace("{", "{{").replace("}", "}}") + "{text}" if prompt else None


def _with_late_interaction(config: ModelConfig, folder: Path, settings: Mapping[str, Any]) -> ModelConfig:
    """The config of a model that was trained for late interaction."""
    listed = modules(folder)
    match [module.kind for module in listed]:
        case ["Transformer", "Dense", *more] if set(more) <= {"Dense"}:  # as PyLate saves it
            return replace(config, late=pylate(settings), projections=_projections(folder, listed[1:]))
        case ["Transformer", *more, "MultiVectorMask", "Normalize"] if set(more) <= {"Dense"}:
            late = sentence_transformers(folder, listed[-2].path, settings.get("prompts") or {})
            return replace(config, late=late, projections=_projections(folder, listed[1:-2]))
    if config.stanford:
        late, width = stanford(folder)
        return replace(config, late=late, projections={"linear": Projection(width, bias=False)})
    if all((folder / name).is_file() for name in BGE_M3_FILES):
        # FlagEmbedding leaves out the vector of the first token, and nothing else.
        projections = {"colbert_linear": Projection(config.hidden_size)}
        return replace(config, late=LateInteraction(first=1), projections=projections, token_weights=True)
    return config


def _projections(folder: Path, listed: Items[Module]) -> dict[str, Projection]:
    return {module.path: _projection(folder / module.path, "token_embeddings") for module in listed}


def _with_pooled(config: ModelConfig, folder: Path) -> ModelConfig:
    """The config of a model whose layers are followed by Pooling and what stands behind that: a head, or an embedding's
    last layers. A Normalize at the end is left to the request, which scales vectors to length 1 unless told not to.
    """
    listed = [module for module in modules(folder) if module.kind != "Dropout"]
    match kinds := [module.kind for module in listed]:
        case ["MLMTransformer" | "Transformer", "SpladePooling"]:
            splade = Keys(read_json(folder / listed[1].path / "config.json"), f"{listed[1].path}/config.json")
            splade.only("pooling_strategy", ("max",))
            splade.only("activation_function", ("relu",))
            return config
        case [] | ["Transformer"] | ["Transformer", "LogitScore"]:
            return config
        case ["Transformer", "Pooling", *behind] if {"Dense", "LayerNorm", "Normalize"}.issuperset(behind):
            _, pooling, *chain = listed
            if chain and _scores(folder, chain[-1]):
                return _with_head(config, folder, pooling, chain)
            while chain and chain[-1].kind == "Normalize":
                _normalizes_pooled(folder, chain.pop())
            layers = {module.path: _layer(folder, module, "sentence_embedding") for module in chain}
            return replace(config, pooled=layers)
    raise UnsupportedModelError(f"modules.json lists {', '.join(kinds)}; supported: {_SUPPORTED}")


def _with_head(config: ModelConfig, folder: Path, pooling: Module, chain: Items[Module]) -> ModelConfig:
    if config.decoder is not None:
        raise UnsupportedModelError(f"a head of modules over {config.architecture} is not supported")
    *between, last = chain
    if normalized := [module.path for module in between if module.kind == "Normalize"]:
        raise UnsupportedModelError(f"{normalized[0]} in front of a score is not supported; supported: {_SUPPORTED}")
    layers = {module.path: _layer(folder, module, "sentence_embedding") for module in between}
    out = _projection(folder / last.path, "sentence_embedding", "scores")
    if out.width != 1:
        raise UnsupportedModelError(f"{last.path} has {out.width} outputs; a reranker has one")
    head: dict[str, Projection | Norm] = {n: each for n, each in layers.items() if not isinstance(each, UnitLength)}
    pooled_by = _pooling(folder / pooling.path / "config.json")
    return replace(config, head=HeadConfig({**head, last.path: out}, pooled_by), modular_head=True, labels=1)


def _scores(folder: Path, module: Module) -> bool:
    """Whether a module's output is a score."""
    path = folder / module.path / "config.json"
    return module.kind == "Dense" and read_json(path).get("module_output_name") == "scores"


def _layer(folder: Path, module: Module, features: str) -> Projection | Norm | UnitLength:
    match module.kind:
        case "LayerNorm":
            return Norm(_NORM_EPS)
        case "Normalize":
            return _normalizes_pooled(folder, module)
    return _projection(folder / module.path, features)


def _normalizes_pooled(folder: Path, module: Module) -> UnitLength:
    path = folder / module.path / "config.json"
    if module.path and path.is_file():
        keys = Keys(read_json(path), f"{module.path}/{path.name}")
        for key in ("module_input_name", "module_output_name"):
            keys.only(key, ("sentence_embedding", None))
    return UnitLength()


def _pooling(path: Path) -> Pooling:
    """As a Pooling module's `config.json` says it: before 6 one boolean per mode, later its name."""
    keys = Keys(read_json(path), f"{path.parent.name}/{path.name}")
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


def _projection(folder: Path, reads: str, writes: str | None = None) -> Projection:
    """A Dense module that maps features named `reads` to those named `writes`, by default the same."""
    try:
        dense = msgspec.convert(read_json(folder / "config.json"), _Dense)
    except msgspec.ValidationError as error:
        raise UnsupportedModelError(f"{folder.name}/config.json: {error}") from error
    if (function := _class_name(dense.activation_function, "torch.nn")) not in _ACTIVATIONS:
        raise UnsupportedModelError(
            f"{folder.name}: activation_function {function!r} is not supported; supported: {', '.join(_ACTIVATIONS)}"
        )
    # PyLate names neither: all of its modules are for token vectors.
    given = dense.module_input_name or reads
    names, supported = (given, dense.module_output_name or given), (reads, writes or reads)
    if names != supported:
        raise UnsupportedModelError(
            f"{folder.name} maps {names[0]!r} to {names[1]!r} (module_input_name, module_output_name); supported: "
            f"{supported[0]!r} to {supported[1]!r}"
        )
    return Projection(dense.out_features, _ACTIVATIONS[function], dense.bias, dense.use_residual)


def _class_name(path: str, *packages: str) -> str:
    """Name of a class; the whole import path of one that is of another package."""
    return path.rpartition(".")[2] if path.startswith(tuple(f"{package}." for package in packages)) else path
