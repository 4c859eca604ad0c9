"""Translates a checkpoint's `config.json`. Only this file, `rope_parameters.py` and `architecture.py` know its keys.

A key that changes the computation is honoured as in the reference, or refused by name. transformers does not read any
other key in the inference of these models either.
"""

from collections.abc import Mapping
from typing import Any

from sie_server.checkpoints.architecture import STANFORD, architecture, model_type
from sie_server.checkpoints.checkpoint import Checkpoint
from sie_server.checkpoints.json_fields import Keys
from sie_server.checkpoints.rope_parameters import layer_types, local_and_global, rotary
from sie_server.errors import UnsupportedModelError
from sie_server.models.model_config import Biases, DecoderConfig, ModelConfig, RotaryLayer
from sie_server.nn.config import Disentangled, HeadConfig, Norm, Projection
from sie_server.options import Activation, HeadActivation, Pooling

# Limits of sizes: a few times those of the largest models.
_MAX_VOCABULARY = 2**24
_MAX_WIDTH = 2**17
_MAX_LAYERS = 1024
_MAX_HEADS = 1024
_MAX_POSITIONS = 2**24
_MAX_LABELS = 2**16

_DECODERS = {"qwen2", "qwen3", "gemma"}
# Alibaba-NLP/new-impl: under its first name on the hub, under the other in transformers.
_GTE = {"new", "gte"}
# In these, the rows of the position table up to the padding id are reserved.
_PADDED_POSITIONS = {"roberta", "xlm-roberta", "camembert"}
# In MPNet, the rows up to this one, regardless of its padding id.
_MPNET_PADDING = 1
_NO_TOKEN_TYPES = {"distilbert", "modernbert", "mpnet"} | _DECODERS

# By their names in transformers, whose "gelu" is the exact form with erf.
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}
# Gemma's first releases wrote "gelu" for the tanh approximation, and the reference reads it that way.
_GEMMA_ACTIVATIONS = _ACTIVATIONS | {"gelu": "gelu_tanh"}
_HEAD_ACTIVATIONS: dict[str, HeadActivation] = {"electra": "gelu", "distilbert": "relu"}
# Model type → common name of a key → its own name.
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
# Epsilon of the norms: the key, and the reference's default.
_NORM_EPS: dict[str, tuple[str, float]] = {
    **dict.fromkeys(("modernbert",), ("norm_eps", 1e-5)),
    **dict.fromkeys(_DECODERS, ("rms_norm_eps", 1e-6)),
    "deberta-v2": ("layer_norm_eps", 1e-7),
}

# Keys that change the computation, and their supported values: of all models, …
_ONLY: dict[str, tuple[Any, ...]] = {
    "quantization_config": (None, {}),
    "compression_config": (None, {}),
    "pruned_heads": (None, {}),
    "add_cross_attention": (False,),
    "is_encoder_decoder": (False,),
    "lora_adaptations": (None, []),
}
# … of encoders, …
_ENCODERS_ONLY: dict[str, tuple[Any, ...]] = {
    **_ONLY,
    "is_decoder": (False,),
    "is_causal": (False,),
    "position_embedding_type": ("absolute", None),
}
# … and of one family.
_GTE_ONLY: dict[str, tuple[Any, ...]] = {
    "layer_norm_type": ("layer_norm",),
    "logn_attention_scale": (False,),
    "position_embedding_type": ("rope", None),
}
_FAMILY_ONLY: dict[str, dict[str, tuple[Any, ...]]] = {
    "xlm-roberta": {
        "rotary_emb_interleaved": (False, None),
        "rotary_emb_scale_base": (None,),
        "rotary_emb_fraction": (1, 1.0, None),
    },
    "modernbert": {"classifier_activation": ("gelu",)},
    "mpnet": {"relative_attention_num_buckets": (32,)},
    "deberta-v2": {"conv_kernel_size": (0, None)},
    **dict.fromkeys(_GTE, _GTE_ONLY),
}


def read_config(checkpoint: Checkpoint) -> ModelConfig:
    """The config in `config.json`, for the architecture that the other files decide on.

    Raises:
        UnsupportedModelError: it is not a JSON object, or asks for something unsupported.
        LoadError: STORAGE, it is missing or can't be read.
    """
    return from_hf(checkpoint.json("config.json"), checkpoint)


def from_hf(hf: Mapping[str, Any], checkpoint: Checkpoint | None = None) -> ModelConfig:
    """Translate a transformers `config.json`. checkpoint: the files next to it, as `architecture` reads them."""
    kind = model_type(hf)
    keys = Keys(hf, names=_OTHER_NAMES.get(kind, {}))
    _require_supported(kind, keys)
    deberta = kind == "deberta-v2"
    vocabulary = keys.integer("vocab_size", high=_MAX_VOCABULARY)
    rows = keys.integer("max_position_embeddings", high=_MAX_POSITIONS)
    turned = kind in _GTE | _DECODERS | {"modernbert"} or _turned(kind, keys)
    eps_key, eps = _NORM_EPS.get(kind, ("layer_norm_eps", 1e-12))
    least_types = 0 if deberta or kind in _GTE else 1
    hidden, heads, layers = (
        keys.integer(key, high=most)
        for key, most in (
            ("hidden_size", _MAX_WIDTH),
            ("num_attention_heads", _MAX_HEADS),
            ("num_hidden_layers", _MAX_LAYERS),
        )
    )
    return ModelConfig(
        architecture=architecture(hf, checkpoint),
        vocab_size=vocabulary,
        embedding_size=_embedding_size(kind, keys, hidden),
        hidden_size=hidden,
        layers=layers,
        heads=heads,
        head_dim=_head_dim(kind, keys, hidden, heads),
        intermediate_size=keys.integer("intermediate_size", high=4 * _MAX_WIDTH),
        norm_eps=keys.number(eps_key, eps, high=1.0),
        activation=keys.choice("hidden_act", _GEMMA_ACTIVATIONS if kind == "gemma" else _ACTIVATIONS, "gelu")
        if kind not in _DECODERS
        else "none",
        token_types=0
        if kind in _NO_TOKEN_TYPES
        else keys.integer("type_vocab_size", _token_types(kind), low=least_types, high=_MAX_HEADS),
        position_rows=rows,
        position_offset=0 if turned else _position_offset(kind, keys, rows),
        labels=_labels(keys),
        score_activation=_score_activation(keys),
        head=_head(kind, keys, hidden),
        bias=_biases(keys) if kind == "modernbert" else Biases(),
        rotary_layers=_rotary_layers(kind, keys, layers, hidden // heads),
        gated_mlp=kind in _GTE,
        positions_in_input=not turned and (not deberta or keys.flag("position_biased_input", True)),
        project_before_norm=deberta,
        disentangled=_disentangled(keys, rows) if deberta else None,
        decoder=_decoder(kind, keys, hidden, heads, layers) if kind in _DECODERS else None,
        stanford=keys.texts("architectures") == [STANFORD],
    )


def stated_layers(hf: Mapping[str, Any]) -> tuple[str, Any]:
    """The key for the number of layers, and its value."""
    key = _OTHER_NAMES.get(str(hf.get("model_type")), {}).get("num_hidden_layers", "num_hidden_layers")
    return (key, hf[key]) if key in hf else ("num_hidden_layers", hf.get("num_hidden_layers"))


def _require_supported(kind: str, keys: Keys) -> None:
    tables = [_ONLY if kind in _DECODERS else _ENCODERS_ONLY, _FAMILY_ONLY.get(kind, {})]
    supported = {key: values for table in tables for key, values in table.items()}
    if kind == "xlm-roberta":  # jina's may have rotary positions
        supported["position_embedding_type"] = ("absolute", "rotary", None)
    for key, values in supported.items():
        keys.only(key, values)


def _turned(kind: str, keys: Keys) -> bool:
    return kind == "xlm-roberta" and keys.raw("position_embedding_type") == "rotary"


def _token_types(kind: str) -> int:
    return {"deberta-v2": 0, "new": 1, "gte": 1}.get(kind, 2)


def _embedding_size(kind: str, keys: Keys, hidden: int) -> int:
    match kind:
        case "electra":
            return keys.integer("embedding_size", 128, high=_MAX_WIDTH)
        case "deberta-v2":
            return keys.integer("embedding_size", hidden, high=_MAX_WIDTH)
    return hidden


def _head_dim(kind: str, keys: Keys, hidden: int, heads: int) -> int:
    """Width of an attention head, which only decoders may choose freely."""
    if kind in _DECODERS and keys.given("head_dim"):
        head_dim = keys.integer("head_dim", high=_MAX_WIDTH)
    elif kind in ("qwen3", "gemma"):
        head_dim = {"qwen3": 128, "gemma": 256}[kind]
    elif hidden % heads:
        raise UnsupportedModelError(
            f"config.json: {keys.name('hidden_size')} {hidden} is not a multiple of "
            f"{keys.name('num_attention_heads')} {heads}"
        )
    else:
        head_dim = hidden // heads
    if kind in _GTE | {"modernbert"}:
        keys.only("head_dim", (None, head_dim))
    if kind == "deberta-v2":
        keys.only("attention_head_size", (None, head_dim))
        keys.only("pooler_hidden_size", (None, hidden))
    rotates = kind in _GTE | _DECODERS | {"modernbert"} or _turned(kind, keys)
    if rotates and head_dim % 2:
        raise UnsupportedModelError(f"config.json: heads are {head_dim} wide; rotary positions need an even number")
    return head_dim


def _position_offset(kind: str, keys: Keys, rows: int) -> int:
    if kind == "mpnet":
        offset = _MPNET_PADDING + 1
    elif kind in _PADDED_POSITIONS:
        offset = keys.integer("pad_token_id", 1, low=0, high=_MAX_VOCABULARY) + 1
    else:
        return 0
    if offset >= rows:
        raise UnsupportedModelError(
            f"config.json: max_position_embeddings {rows} leaves no position after the {offset} reserved for padding"
        )
    return offset


def _labels(keys: Keys) -> int:
    """Number of outputs of a classifier: that of id2label, or num_labels, or else transformers' default of two."""
    named = keys.object("id2label")
    given = keys.integer("num_labels", len(named) or 2, high=_MAX_LABELS, optional=True)
    if len(named) and given != len(named):
        raise UnsupportedModelError(f"config.json: num_labels is {given}, but id2label has {len(named)} labels")
    return given


def _head(kind: str, keys: Keys, hidden: int) -> HeadConfig:
    if kind == "deberta-v2":
        poolers: dict[str, HeadActivation] = {"gelu": "gelu", "tanh": "tanh", "relu": "relu"}
        activation = keys.choice("pooler_hidden_act", poolers, "gelu")
        return HeadConfig({"dense": Projection(hidden, activation), "out": Projection(1)})
    if kind != "modernbert":
        activation = _HEAD_ACTIVATIONS.get(kind, "tanh")
        return HeadConfig({"dense": Projection(hidden, activation), "out": Projection(1)})
    poolings: dict[str, Pooling] = {"cls": "cls", "mean": "mean"}
    layers: dict[str, Projection | Norm] = {
        "dense": Projection(hidden, "gelu", keys.flag("classifier_bias", False)),
        "norm": Norm(keys.number("norm_eps", 1e-5, high=1.0), keys.flag("norm_bias", False)),
        "out": Projection(1),
    }
    return HeadConfig(layers, keys.choice("classifier_pooling", poolings, "cls"))


def _decoder(kind: str, keys: Keys, hidden: int, heads: int, layers: int) -> DecoderConfig:
    gemma = kind == "gemma"
    if gemma:  # read by transformers 4 but not 5; published models mean the same in both
        keys.only("hidden_activation", (None, "gelu", "gelu_pytorch_tanh"))
    activation = keys.choice(
        "hidden_act", _GEMMA_ACTIVATIONS if gemma else _ACTIVATIONS, "gelu_pytorch_tanh" if gemma else "silu"
    )
    _require_full_attention(kind, keys, layers)
    head_dim = _head_dim(kind, keys, hidden, heads)
    kv_heads = keys.integer("num_key_value_heads", heads, high=_MAX_HEADS, optional=True)
    if heads % kv_heads:
        raise UnsupportedModelError(
            f"config.json: num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
        )
    positions = rotary(keys, 10_000.0, head_dim)
    bias = kind != "qwen2" and keys.flag("attention_bias", False)
    return DecoderConfig(
        kv_heads=kv_heads,
        activation=activation,
        theta=positions.theta,
        rotary_scale=positions.scale,
        causal=keys.flag("is_causal", True),
        qkv_bias=kind == "qwen2" or bias,
        out_bias=bias,
        qk_norm=kind == "qwen3",
        norm_offset=1.0 if gemma else 0.0,
        embedding_scale=hidden**0.5 if gemma else 1.0,
        tied=keys.flag("tie_word_embeddings", gemma),
    )


def _require_full_attention(kind: str, keys: Keys, layers: int) -> None:
    """Refuse decoders with sliding-window layers. They have none unless `use_sliding_window` is set."""
    if kind == "gemma":
        keys.only("use_bidirectional_attention", (False, None))
        return
    default = {}
    if keys.flag("use_sliding_window", False):
        nearby = keys.integer("max_window_layers", 28, low=0, high=_MAX_LAYERS)
        if keys.given("sliding_window") or "sliding_window" not in keys:
            default = dict.fromkeys(range(nearby, layers), "sliding_attention")
    if "sliding_attention" in layer_types(keys, layers, default):
        raise UnsupportedModelError(
            "config.json: sliding_attention in the layers of a decoder (use_sliding_window, layer_types) is not "
            "supported; supported: full_attention in all"
        )


def _biases(keys: Keys) -> Biases:
    return Biases(keys.flag("attention_bias", False), keys.flag("mlp_bias", False), keys.flag("norm_bias", False))


def _rotary_layers(kind: str, keys: Keys, layers: int, head_dim: int) -> tuple[RotaryLayer, ...]:
    if kind in _GTE:
        return (rotary(keys, 160_000.0, head_dim),) * layers
    if _turned(kind, keys):
        return (RotaryLayer(keys.number("rotary_emb_base", 10_000.0, high=1e15)),) * layers
    if kind != "modernbert":
        return ()
    # Every third layer attends globally, which configs up to transformers 4 say in this key.
    every = keys.integer("global_attn_every_n_layers", 3, high=_MAX_LAYERS)
    everywhere, nearby = local_and_global(keys)
    types = layer_types(keys, layers, {layer: "sliding_attention" for layer in range(layers) if layer % every})
    return tuple(everywhere if each == "full_attention" else nearby for each in types)


def _score_activation(keys: Keys) -> str | None:
    """Import path of the function from logit to score, if the config names one."""
    settings = keys.object("sentence_transformers")
    if "activation_fn" in settings:  # null means the default
        return settings.text("activation_fn")
    return keys.text("sbert_ce_default_activation_function")


def _disentangled(keys: Keys, rows: int) -> Disentangled:
    if isinstance(terms := keys.raw("pos_att_type"), str):
        terms = terms.lower().split("|")
    else:
        terms = keys.texts("pos_att_type") or []
    terms = frozenset(term.strip() for term in terms)
    relative = keys.flag("relative_attention", False)
    if not relative or not terms or not terms <= {"c2p", "p2c"}:
        raise UnsupportedModelError(
            f"relative_attention {relative} with pos_att_type {sorted(terms)} is not "
            "supported; supported: True with c2p, p2c or both"
        )
    max_distance = keys.integer("max_relative_positions", -1, low=-1, high=_MAX_POSITIONS)
    return Disentangled(
        buckets=max(keys.integer("position_buckets", -1, low=-1, high=_MAX_POSITIONS), 0),
        max_distance=max_distance if max_distance > 0 else rows,
        terms=terms,
        separate_projections=not keys.flag("share_att_key", False),
        norm="layer_norm" in (keys.text("norm_rel_ebd") or "none").lower(),
    )
