"""The entries of `GET /v1/models`."""

from sie_server import wire
from sie_server.engine.engine import Engine
from sie_server.errors import LoadError
from sie_server.nn.precision import dtype_name
from sie_server.residency.address import ModelAddress
from sie_server.residency.slot import Slot


def model_list(engine: Engine) -> wire.ModelList:
    """All models, and the precision in which they are loaded."""
    choice, names = engine.precision, engine.residency.names
    return wire.ModelList(
        [model_info(address) for address in names],
        wire.ServerPrecision(choice.name, choice.setting, choice.reason, choice.rates),
        [wire.ModelName(name) for name in (*names.aliases, *(address.id for address in names))],
    )


def model_info(address: ModelAddress) -> wire.Model:
    """Limits, state, and the meaning of the scores of a model. A profile has the state of its model."""
    entry, slot, error = address.entry, address.slot, address.slot.error
    return wire.Model(
        name=entry.id,
        inputs=["text"],
        outputs=entry.outputs or (),
        dims=entry.widths,
        loaded=slot.model is not None,
        state=slot.state,
        last_error=None if error is None else _load_error(slot, error),
        max_sequence_length=entry.max_length,
        profiles={name: wire.ModelProfile(is_default=name == "default") for name in entry.every_profile},
        revision=entry.revision,
        score=entry.score,
        prompt=entry.prompt,
        license=entry.license,
        precision=None if slot.model is None else dtype_name(slot.model.dtype),
        id=entry.id,
        model_type="embedding" if "dense" in (entry.outputs or ()) else "rerank",
    )


def _load_error(slot: Slot, error: LoadError) -> wire.ModelLoadError:
    return wire.ModelLoadError(error.kind, str(error), slot.attempts, slot.permanent)
