"""Reads the rotary positions in `config.json`, whose keys differ between releases of transformers."""

from collections.abc import Mapping
from typing import Any

from sie_server.checkpoints.json_fields import Keys
from sie_server.errors import UnsupportedModelError
from sie_server.models.model_config import RotaryLayer

_MAX_THETA = 1e15
_MAX_FACTOR = 1e6
_LAYERS = ("full_attention", "sliding_attention")


def rotary(keys: Keys, theta: float, head_dim: int) -> RotaryLayer:
    """The positions of a model whose layers are all alike. theta: the reference's default.

    As in transformers 5, `rope_scaling` takes precedence over `rope_parameters`, and `rope_theta` may be in either or
    next to them. mGTE's NTK scaling (kexue.fm/archives/9706, eq. 6) is a larger base and a linear scale.

    Raises:
        UnsupportedModelError: the scaling is not supported.
    """
    scaling = keys.object("rope_scaling")
    parameters = scaling if len(scaling) else keys.object("rope_parameters")
    beside = keys.number("rope_theta", theta, high=_MAX_THETA)
    return _layer(parameters, beside, head_dim, partial=keys)


def local_and_global(keys: Keys) -> tuple[RotaryLayer, RotaryLayer]:
    """The positions of ModernBERT's global and local layers, which have their own keys up to transformers 4."""
    scaling = keys.object("rope_scaling")
    if len(scaling):
        _layer(scaling, 1.0, 1, kinds=("default",))
    parameters = keys.object("rope_parameters")
    if unknown := [key for key in ("rope_theta", "rope_type", "type") if parameters.given(key)]:
        raise UnsupportedModelError(
            f"{parameters.where} has {unknown[0]!r} for all layers; supported: one object for each of "
            f"{', '.join(_LAYERS)}"
        )
    window = keys.integer("local_attention", 128, low=2, high=2**20) // 2
    if keys.given("sliding_window") and keys.raw("sliding_window") != window:
        keys.only("sliding_window", (window,))
    everywhere, nearby = (
        _layer(parameters.object(layer), keys.number(old, default, high=_MAX_THETA), 1, kinds=("default",))
        for layer, old, default in zip(
            _LAYERS, ("global_rope_theta", "local_rope_theta"), (160_000.0, 10_000.0), strict=True
        )
    )
    return everywhere, RotaryLayer(nearby.theta, window)


def _layer(
    parameters: Keys,
    theta: float,
    head_dim: int,
    kinds: tuple[str, ...] = ("default", "linear", "ntk"),
    partial: Keys | None = None,
) -> RotaryLayer:
    theta = parameters.number("rope_theta", theta, high=_MAX_THETA, optional=True)
    for keys in (parameters, partial):
        if keys is not None:
            keys.only("partial_rotary_factor", (None, 1, 1.0))
    kind = parameters.choice(
        "rope_type" if parameters.given("rope_type") else "type", dict(zip(kinds, kinds, strict=True)), "default"
    )
    if kind == "default":
        return RotaryLayer(theta)
    factor = parameters.number("factor", high=_MAX_FACTOR)
    if kind == "linear":
        return RotaryLayer(theta, scale=factor)
    parameters.only("mixed_b", (None,))
    return RotaryLayer(theta * factor, scale=factor ** (2 / head_dim))


def layer_types(keys: Keys, layers: int, default: Mapping[int, str] | None = None) -> tuple[str, ...]:
    """The attention of each layer, full or sliding.

    Raises:
        UnsupportedModelError: `layer_types` is not a list of these words, one per layer.
    """
    types = keys.texts("layer_types")
    if types is None:
        return tuple((default or {}).get(layer, _LAYERS[0]) for layer in range(layers))
    if len(types) != layers or not set(types) <= set(_LAYERS):
        found: Any = len(types) if len(types) != layers else sorted(set(types) - set(_LAYERS))
        raise UnsupportedModelError(
            f"{keys.where}: layer_types {found!r} is not supported; supported: {', '.join(_LAYERS)} for each of "
            f"{layers} layers"
        )
    return tuple(types)
