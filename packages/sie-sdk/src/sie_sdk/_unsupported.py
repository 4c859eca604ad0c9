"""Parts of the public SDK that have no counterpart here. Each is ignored with a warning, or refused, by name."""

import warnings
from typing import Any, NoReturn

from sie_sdk._caller import level_of_caller

_ONE_SERVER = "this SDK talks to one server, not to a gateway in front of several"
_GATEWAY_METHODS = {"get_capacity", "wait_for_capacity", "create_pool", "get_pool", "delete_pool"}
_GATEWAY_TYPES = {"CapacityInfo", "PoolInfo", "PoolSpec", "PoolStatus", "WorkerInfo"}


def warn_ignored(**arguments: object) -> None:
    """Issues one DeprecationWarning that names every argument that is not None, at the line of the caller's program."""
    names = [name for name, value in arguments.items() if value is not None]
    if names:
        verb = "has" if len(names) == 1 else "have"
        warnings.warn(f"{', '.join(names)} {verb} no effect: {_ONE_SERVER}", DeprecationWarning, level_of_caller())


def gateway_method(owner: type, name: str) -> None:
    """Raises AttributeError, with the reason, if `name` is a method that the public SDK has for gateways."""
    if name in _GATEWAY_METHODS:
        raise AttributeError(f"{owner.__name__} has no method {name!r}: {_ONE_SERVER}")


def gateway_type(name: str) -> Any:
    """Returns dict, with a warning, for a TypedDict that the public SDK has for gateways.

    Raises AttributeError for any other name.
    """
    if name not in _GATEWAY_TYPES:
        raise AttributeError(f"module 'sie_sdk.types' has no attribute {name!r}")
    warnings.warn(f"sie_sdk.types.{name} is a plain dict: {_ONE_SERVER}", DeprecationWarning, level_of_caller())
    return dict


def media_function(module: str, name: str) -> NoReturn:
    """Raises ImportError for a function of the public SDK's `images` or `documents` module."""
    if name.startswith("__"):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    raise ImportError(f"{module}.{name} does not exist: this SDK sends text only")
