"""What `/v1/models` says of a model."""

from typing import Any

from sie_server.residency.address import ModelAddress


def describe(address: ModelAddress) -> dict[str, Any]:
    """One entry of the list: limits, state, and what its scores mean. A profile has the state of its model."""
    entry, slot, error = address.entry, address.slot, address.slot.error
    return {
        "name": entry.id,
        "inputs": ["text"],
        "outputs": list(entry.outputs or ()),
        "dims": entry.widths,
        "loaded": slot.model is not None,
        "state": slot.state,
        "last_error": None
        if error is None
        else {
            "code": str(error.kind),
            "message": str(error),
            "attempts": slot.attempts,
            "permanent": slot.permanent,
        },
        "max_sequence_length": entry.max_length,
        "profiles": {name: {"is_default": name == "default"} for name in entry.every_profile},
        "revision": entry.revision,
        "score": entry.score,
        "prompt": entry.prompt,
        "license": entry.license,
    }
