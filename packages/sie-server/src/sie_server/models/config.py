"""What a checkpoint's `config.json` says, in our words: the only place that knows its key names and quirks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec

from sie_server.choices import Activation, HeadActivation
from sie_server.errors import UnsupportedModelError
from sie_server.models.files import read_file
from sie_server.models.shape import (
    Biases,
    DecoderConfig,
    Disentangled,
    HeadConfig,
    ModelConfig,
    Norm,
    Projection,
    RotaryLayer,
)

# Keys that change what is computed, and the one value that we compute. transformers' "gelu" is the exact erf form; the
# tanh approximations are other functions. transformers 5 no longer writes `position_embedding_type` for BERT.
_ONLY: dict[str, Any] = {
    "hidden_act": "gelu",
    "classifier_activation": "gelu",
    "position_embedding_type": "absolute",
    "layer_norm_type": "layer_norm",
    "logn_attention_scale": False,
}
# Position tables of these keep rows up to the padding id for padding.
_PADDED_POSITIONS = {"roberta", "xlm-roberta", "camembert", "mpnet"}
_NO_TOKEN_TYPES = {"distilbert", "modernbert", "mpnet", "qwen2", "qwen3", "gemma"}
# Gemma's first releases wrote "gelu" where the tanh approximation was meant, and the reference takes it so.
_DECODER_ACTIVATIONS: dict[str, dict[str, Activation]] = {
    "qwen2": {"silu": "silu"},
    "qwen3": {"silu": "silu"},
    "gemma": {"gelu": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"},
}
# Alibaba-NLP/new-impl: under its first name on the hub, under the other in transformers.
_GTE = {"new", "gte"}
# ColBERT's own package names the architecture after itself; the layers are those of the model type.
_STANFORD = {"bert": "BertModel", "xlm-roberta": "XLMRobertaModel"}
_HEAD_ACTIVATIONS: dict[str, HeadActivation] = {"electra": "gelu", "distilbert": "relu"}
# Far above any model; each layer costs a little even before the weights' file is looked at.
_MOST_LAYERS = 10_000
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


def read_config(folder: Path) -> ModelConfig:
    """Read `config.json`.

    Raises:
        UnsupportedModelError: the file is missing, is no JSON object, or asks for something we do not compute.
    """
    return from_hf(read_json(folder / "config.json"))


def from_hf(hf: Mapping[str, Any]) -> ModelConfig:
    """Translate a transformers `config.json`."""
    kind = hf.get("model_type", "")
    hf = {**hf, **{ours: hf[theirs] for ours, theirs in _OTHER_NAMES.get(kind, {}).items() if theirs in hf}}
    architectures = hf.get("architectures") or []
    if len(architectures) != 1:
        raise UnsupportedModelError(f"config.json names {len(architectures)} architectures; exactly one is needed")
    for key, only in _only(kind, hf).items():
        if (value := hf.get(key, only)) != only:
            raise UnsupportedModelError(f"{key} {value!r} is not supported; supported: {only!r}")
    if isinstance(layers := hf.get("num_hidden_layers"), int) and layers > _MOST_LAYERS:
        raise UnsupportedModelError(f"num_hidden_layers {layers} is not supported; the limit is {_MOST_LAYERS}")
    deberta = kind == "deberta-v2"
    stanford = architectures == ["HF_ColBERT"]
    if stanford and kind not in _STANFORD:
        raise UnsupportedModelError(f"HF_ColBERT over {kind!r} is not supported; supported: {', '.join(_STANFORD)}")
    try:
        return ModelConfig(
            architecture=_STANFORD[kind] if stanford else architectures[0],
            vocab_size=hf["vocab_size"],
            embedding_size=hf.get("embedding_size", hf["hidden_size"]),
            hidden_size=hf["hidden_size"],
            layers=hf["num_hidden_layers"],
            heads=hf["num_attention_heads"],
            head_dim=hf.get("head_dim") or hf["hidden_size"] // hf["num_attention_heads"],
            intermediate_size=hf["intermediate_size"],
            norm_eps=_norm_eps(hf),
            token_types=0 if kind in _NO_TOKEN_TYPES else hf.get("type_vocab_size", 0 if deberta else 2),
            position_rows=hf["max_position_embeddings"],
            position_offset=hf.get("pad_token_id", 1) + 1 if kind in _PADDED_POSITIONS and not _rotary(hf) else 0,
            labels=_labels(hf),
            score_activation=_score_activation(hf),
            head=_head(kind, hf),
            bias=_biases(hf) if kind == "modernbert" else Biases(),
            rotary_layers=_rotary_layers(kind, hf),
            gated_mlp=kind in _GTE,
            positions_in_input=kind not in _GTE and not _rotary(hf) and hf.get("position_biased_input", True),
            project_before_norm=deberta,
            disentangled=_disentangled(hf) if deberta else None,
            decoder=_decoder(kind, hf) if kind in _DECODER_ACTIVATIONS else None,
            stanford=stanford,
        )
    except KeyError as error:
        raise UnsupportedModelError(f"config.json lacks {error.args[0]!r}") from None


def stated_layers(hf: Mapping[str, Any]) -> tuple[str, Any]:
    """The key that says how many layers there are, and what it says."""
    key = _OTHER_NAMES.get(str(hf.get("model_type")), {}).get("num_hidden_layers", "num_hidden_layers")
    return (key, hf[key]) if key in hf else ("num_hidden_layers", hf.get("num_hidden_layers"))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        LoadError: STORAGE, the file is missing or can't be read.
        UnsupportedModelError: it holds something else.
    """
    try:
        return msgspec.json.decode(read_file(path), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise UnsupportedModelError(f"{path.name} is not a JSON object: {error}") from None


def _only(kind: str, hf: Mapping[str, Any]) -> dict[str, Any]:
    if kind in _DECODER_ACTIVATIONS:
        return {}
    if kind in _GTE:
        return _ONLY | {"position_embedding_type": "rope"}
    # jina's XLM-R may have rotary positions.
    return _ONLY | ({"position_embedding_type": "rotary"} if kind == "xlm-roberta" and _rotary(hf) else {})


def _rotary(hf: Mapping[str, Any]) -> bool:
    return hf.get("position_embedding_type") == "rotary"


def _labels(hf: Mapping[str, Any]) -> int:
    # transformers writes num_labels only through id2label; without either its default is two.
    if "id2label" in hf:
        return len(hf["id2label"])
    labels: int = hf.get("num_labels", 2)
    return labels


def _head(kind: str, hf: Mapping[str, Any]) -> HeadConfig:
    hidden = hf["hidden_size"]
    if kind == "deberta-v2":
        if (activation := hf.get("pooler_hidden_act", "gelu")) not in get_args(HeadActivation):
            supported = ", ".join(get_args(HeadActivation))
            raise UnsupportedModelError(f"pooler_hidden_act {activation!r} is not supported; supported: {supported}")
        return HeadConfig({"dense": Projection(hidden, activation), "out": Projection(1)})
    if kind != "modernbert":
        activation = _HEAD_ACTIVATIONS.get(kind, "tanh")
        return HeadConfig({"dense": Projection(hidden, activation), "out": Projection(1)})
    if (pooling := hf.get("classifier_pooling", "cls")) not in ("cls", "mean"):
        raise UnsupportedModelError(f"classifier_pooling {pooling!r} is not supported; supported: cls, mean")
    layers: dict[str, Projection | Norm] = {
        "dense": Projection(hidden, "gelu", hf.get("classifier_bias", False)),
        "norm": Norm(hf.get("norm_eps", 1e-5), hf.get("norm_bias", False)),
        "out": Projection(1),
    }
    return HeadConfig(layers, pooling)


def _norm_eps(hf: Mapping[str, Any]) -> float:
    eps: float = next((hf[key] for key in ("norm_eps", "layer_norm_eps", "rms_norm_eps") if key in hf), 1e-12)
    return eps


def _decoder(kind: str, hf: Mapping[str, Any]) -> DecoderConfig:
    activation, activations = hf.get("hidden_activation") or hf["hidden_act"], _DECODER_ACTIVATIONS[kind]
    if activation not in activations:
        raise UnsupportedModelError(f"hidden_act {activation!r} is not supported; supported: {sorted(activations)}")
    if hf.get("use_sliding_window") and hf.get("sliding_window"):
        raise UnsupportedModelError("use_sliding_window is not supported in decoders")
    # transformers 5 writes rope_parameters, earlier releases rope_theta and rope_scaling.
    rope = hf.get("rope_parameters") or {"rope_theta": hf.get("rope_theta", 10_000.0), **(hf.get("rope_scaling") or {})}
    if (scaling := rope.get("rope_type", rope.get("type", "default"))) != "default":
        raise UnsupportedModelError(f"rope_type {scaling!r} is not supported; supported: 'default'")
    gemma = kind == "gemma"
    return DecoderConfig(
        kv_heads=hf.get("num_key_value_heads") or hf["num_attention_heads"],
        activation=activations[activation],
        theta=rope["rope_theta"],
        qkv_bias=kind == "qwen2" or hf.get("attention_bias", False),
        out_bias=kind != "qwen2" and hf.get("attention_bias", False),
        qk_norm=kind == "qwen3",
        norm_offset=1.0 if gemma else 0.0,
        embedding_scale=hf["hidden_size"] ** 0.5 if gemma else 1.0,
        tied=hf.get("tie_word_embeddings", True),
    )


def _biases(hf: Mapping[str, Any]) -> Biases:
    return Biases(hf.get("attention_bias", False), hf.get("mlp_bias", False), hf.get("norm_bias", False))


def _rotary_layers(kind: str, hf: Mapping[str, Any]) -> tuple[RotaryLayer, ...]:
    if kind in _GTE:
        return tuple([_gte_layer(hf)] * hf["num_hidden_layers"])
    if _rotary(hf):
        return tuple([RotaryLayer(hf.get("rotary_emb_base", 10_000.0))] * hf["num_hidden_layers"])
    return _modernbert_layers(hf) if kind == "modernbert" else ()


def _gte_layer(hf: Mapping[str, Any]) -> RotaryLayer:
    """mGTE's layers, all alike. Its NTK scaling (kexue.fm/archives/9706, eq. 6) is a larger base and a linear scale,
    which is how transformers 5 writes it.
    """
    rope = hf.get("rope_parameters") or {"rope_theta": hf["rope_theta"], **(hf.get("rope_scaling") or {})}
    theta, kind, mixed = rope["rope_theta"], rope.get("rope_type", rope.get("type", "default")), rope.get("mixed_b")
    match kind:
        case "default":
            return RotaryLayer(theta)
        case "linear":
            return RotaryLayer(theta, scale=rope["factor"])
        case "ntk" if mixed is None:
            head_dim = hf["hidden_size"] // hf["num_attention_heads"]
            return RotaryLayer(theta * rope["factor"], scale=rope["factor"] ** (2 / head_dim))
    raise UnsupportedModelError(
        f"rope_type {kind!r} with mixed_b {mixed} is not supported; supported: default, linear, ntk without mixed_b"
    )


def _modernbert_layers(hf: Mapping[str, Any]) -> tuple[RotaryLayer, ...]:
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


def _score_activation(hf: Mapping[str, Any]) -> str | None:
    """Import path of the function between logit and score, where the config names one."""
    named: str | None = (hf.get("sentence_transformers") or {}).get("activation_fn")
    return named or hf.get("sbert_ce_default_activation_function")


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
