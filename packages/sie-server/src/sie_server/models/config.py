"""What a checkpoint's config files say, in our words: the only place that knows the hub's key names and quirks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import msgspec

from sie_server.errors import UnsupportedModelError
from sie_server.nn.heads import HeadActivation, HeadConfig, Pooling

# transformers' "gelu" is the exact erf form. The tanh approximations are other functions and would change scores.
_ACTIVATIONS = {"gelu"}
# Position tables of these keep rows up to the padding id for padding.
_PADDED_POSITIONS = {"roberta", "xlm-roberta", "camembert", "mpnet"}
_NO_TOKEN_TYPES = {"distilbert", "modernbert", "mpnet"}
_HEAD_ACTIVATIONS: dict[str, HeadActivation] = {"electra": "gelu", "distilbert": "relu"}
# Model type → its own names for what the others call by the key.
_OTHER_NAMES: dict[str, dict[str, str]] = {
    "distilbert": {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
    },
    "modernbert": {"hidden_act": "hidden_activation"},
}


@dataclass(frozen=True, slots=True)
class Biases:
    """Which layers have a bias."""

    attention: bool = True
    mlp: bool = True
    norm: bool = True


@dataclass(frozen=True, slots=True)
class RotaryLayer:
    """One layer's positions: base of the angles, and how far a token sees to either side (None: everywhere)."""

    theta: float
    window: int | None


@dataclass(frozen=True, slots=True)
class Disentangled:
    """DeBERTa's attention: by content and by relative position.

    span: a distance is one of `2 · span` rows of a table. max_distance: the furthest with a row of its own, or of its
    bucket where `buckets` of them are shared logarithmically (0: each distance has its own). terms: of "c2p", content
    to position, and "p2c", position to content. own_projections: positions have their own, not those of the content.
    """

    buckets: int
    max_distance: int
    terms: frozenset[str]
    own_projections: bool
    norm: bool

    @property
    def span(self) -> int:
        return self.buckets or self.max_distance


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shape and numerics of an encoder, plus what its config says about its scores.

    positions_in_input: there is a table of absolute positions. project_before_norm: where embeddings are narrower than
    the layers.
    """

    architecture: str
    vocab_size: int
    embedding_size: int
    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    norm_eps: float
    token_types: int
    position_rows: int
    position_offset: int
    labels: int
    sigmoid: bool
    head: HeadConfig
    bias: Biases
    rotary_layers: tuple[RotaryLayer, ...] = ()
    positions_in_input: bool = True
    project_before_norm: bool = False
    disentangled: Disentangled | None = None

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.heads

    @property
    def max_positions(self) -> int:
        """Longest sequence the position table allows, in tokens."""
        return self.position_rows - self.position_offset

    @classmethod
    def from_folder(cls, folder: Path) -> "ModelConfig":
        """Read `config.json`.

        Raises:
            UnsupportedModelError: the file is missing, is no JSON object, or asks for something we do not compute.
        """
        return cls.from_hf(read_json(folder / "config.json"))

    @classmethod
    def from_hf(cls, hf: Mapping[str, Any]) -> "ModelConfig":
        """Translate a transformers `config.json`."""
        kind = hf.get("model_type", "")
        hf = {**hf, **{ours: hf[theirs] for ours, theirs in _OTHER_NAMES.get(kind, {}).items() if theirs in hf}}
        architectures = hf.get("architectures") or []
        if len(architectures) != 1:
            raise UnsupportedModelError(f"config.json names {len(architectures)} architectures; exactly one is needed")
        if (activation := hf.get("hidden_act", "gelu")) not in _ACTIVATIONS:
            raise UnsupportedModelError(
                f"hidden_act {activation!r} is not supported; supported: {sorted(_ACTIVATIONS)}"
            )
        # transformers 5 no longer writes the key for BERT; where it stands, only this value is plain attention.
        if (positions := hf.get("position_embedding_type", "absolute")) != "absolute":
            raise UnsupportedModelError(
                f"position_embedding_type {positions!r} is not supported; supported: 'absolute'"
            )
        deberta = kind == "deberta-v2"
        try:
            return cls(
                architecture=architectures[0],
                vocab_size=hf["vocab_size"],
                embedding_size=hf.get("embedding_size", hf["hidden_size"]),
                hidden_size=hf["hidden_size"],
                layers=hf["num_hidden_layers"],
                heads=hf["num_attention_heads"],
                intermediate_size=hf["intermediate_size"],
                norm_eps=hf.get("norm_eps", hf.get("layer_norm_eps", 1e-12)),
                token_types=0 if kind in _NO_TOKEN_TYPES else hf.get("type_vocab_size", 0 if deberta else 2),
                position_rows=hf["max_position_embeddings"],
                position_offset=hf.get("pad_token_id", 1) + 1 if kind in _PADDED_POSITIONS else 0,
                labels=_labels(hf),
                sigmoid=_sigmoid(hf),
                head=_head(kind, hf),
                bias=_biases(hf) if kind == "modernbert" else Biases(),
                rotary_layers=_rotary_layers(hf) if kind == "modernbert" else (),
                positions_in_input=hf.get("position_biased_input", True),
                project_before_norm=deberta,
                disentangled=_disentangled(hf) if deberta else None,
            )
        except KeyError as error:
            raise UnsupportedModelError(f"config.json lacks {error.args[0]!r}") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        UnsupportedModelError: the file is missing or holds something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        raise UnsupportedModelError(f"{path.name} is missing from {path.parent}") from None
    except msgspec.DecodeError as error:
        raise UnsupportedModelError(f"{path.name} is not a JSON object: {error}") from None


def pooling_hint(folder: Path) -> Pooling | None:
    """How sentence-transformers pools this checkpoint (`1_Pooling/config.json`), if it says.

    Raises:
        UnsupportedModelError: it pools in another way than by mean or first token.
    """
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return None
    pooling = read_json(path)
    # Releases before 6 wrote one boolean per mode, later ones the mode's name.
    modes = [key.removeprefix("pooling_mode_") for key, on in pooling.items() if key.startswith("pooling_mode_") and on]
    modes = [pooling["pooling_mode"]] if "pooling_mode" in pooling else modes
    match modes:
        case ["mean_tokens" | "mean"]:
            return "mean"
        case ["cls_token" | "cls"]:
            return "cls"
    raise UnsupportedModelError(f"pooling {modes} is not supported; supported: mean, cls")


def max_length_hint(folder: Path) -> int | None:
    """The limit in tokens that sentence-transformers or the tokenizer sets, if either does."""
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        if (folder / name).is_file() and isinstance(limit := read_json(folder / name).get(key), int | float):
            # transformers writes 1e30 for "no limit".
            return int(limit) if limit < 1e9 else None
    return None


def _labels(hf: Mapping[str, Any]) -> int:
    # transformers writes num_labels only through id2label; without either its default is two.
    if "id2label" in hf:
        return len(hf["id2label"])
    labels: int = hf.get("num_labels", 2)
    return labels


def _head(kind: str, hf: Mapping[str, Any]) -> HeadConfig:
    if kind == "deberta-v2":
        if (activation := hf.get("pooler_hidden_act", "gelu")) not in get_args(HeadActivation):
            supported = ", ".join(get_args(HeadActivation))
            raise UnsupportedModelError(f"pooler_hidden_act {activation!r} is not supported; supported: {supported}")
        return HeadConfig(activation)
    if kind != "modernbert":
        return HeadConfig(_HEAD_ACTIVATIONS.get(kind, "tanh"))
    if (activation := hf.get("classifier_activation", "gelu")) not in _ACTIVATIONS:
        raise UnsupportedModelError(f"classifier_activation {activation!r} is not supported; supported: gelu")
    if (pooling := hf.get("classifier_pooling", "cls")) not in ("cls", "mean"):
        raise UnsupportedModelError(f"classifier_pooling {pooling!r} is not supported; supported: cls, mean")
    return HeadConfig(
        activation="gelu",
        pooling=pooling,
        dense_bias=hf.get("classifier_bias", False),
        norm_eps=hf.get("norm_eps", 1e-5),
        norm_bias=hf.get("norm_bias", False),
    )


def _biases(hf: Mapping[str, Any]) -> Biases:
    return Biases(hf.get("attention_bias", False), hf.get("mlp_bias", False), hf.get("norm_bias", False))


def _rotary_layers(hf: Mapping[str, Any]) -> tuple[RotaryLayer, ...]:
    """ModernBERT's layers: every third is global; up to transformers 4 the config says so in keys of its own."""
    rope = hf.get("rope_parameters") or {}
    for parameters in rope.values():
        if (kind := parameters.get("rope_type", "default")) != "default":
            raise UnsupportedModelError(f"rope_type {kind!r} is not supported; supported: 'default'")
    every = hf.get("global_attn_every_n_layers", 3)
    layers = range(hf["num_hidden_layers"])
    types = hf.get("layer_types") or ["sliding_attention" if i % every else "full_attention" for i in layers]
    every_layer = RotaryLayer(
        rope.get("full_attention", {}).get("rope_theta", hf.get("global_rope_theta", 160_000.0)), None
    )
    local_layer = RotaryLayer(
        rope.get("sliding_attention", {}).get("rope_theta", hf.get("local_rope_theta", 10_000.0)),
        hf.get("local_attention", 128) // 2,
    )
    return tuple(every_layer if kind == "full_attention" else local_layer for kind in types)


def _disentangled(hf: Mapping[str, Any]) -> Disentangled:
    if (kernel := hf.get("conv_kernel_size", 0)) > 0:
        raise UnsupportedModelError(f"conv_kernel_size {kernel} is not supported; supported: 0")
    terms = hf.get("pos_att_type") or []
    terms = frozenset(term.strip() for term in (terms.lower().split("|") if isinstance(terms, str) else terms))
    if not hf.get("relative_attention", False) or not terms or not terms <= {"c2p", "p2c"}:
        raise UnsupportedModelError(
            f"relative_attention {hf.get('relative_attention', False)} with pos_att_type {sorted(terms)} is not "
            "supported; supported: True with c2p, p2c or both"
        )
    max_distance = hf.get("max_relative_positions", -1)
    return Disentangled(
        buckets=max(hf.get("position_buckets", -1), 0),
        max_distance=max_distance if max_distance > 0 else hf["max_position_embeddings"],
        terms=terms,
        own_projections=not hf.get("share_att_key", False),
        norm="layer_norm" in hf.get("norm_rel_ebd", "none").lower(),
    )


def _sigmoid(hf: Mapping[str, Any]) -> bool:
    """Whether a cross-encoder's score is a probability: sentence-transformers' rule for its default activation."""
    named = (hf.get("sentence_transformers") or {}).get("activation_fn")
    named = named or hf.get("sbert_ce_default_activation_function")
    if named is not None:
        return "Sigmoid" in named
    return _labels(hf) == 1
