"""Fields of a body that nothing reads: their names, and the header that tells the client."""

from collections.abc import Iterable, Iterator

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from sie_server import codec, wire
from sie_server.errors import SIEError
from sie_server.large_bodies.outline import Body

IGNORED = "X-SIE-Ignored"
# Names in the header, and characters of one.
_MOST, _LONGEST = 20, 80


class Beside(Struct):
    """The parts of a native body that have options."""

    options: Raw | UnsetType = UNSET
    params: Raw | UnsetType = UNSET


def ignored_options(beside: Beside, *, msgpack: bool) -> list[str]:
    """Paths of the options that no native route has, in the order of the body."""
    names: list[str] = []
    if beside.options is not UNSET:
        names += _unknown(_fields(beside.options, msgpack), wire.ScoreOptions, "options.")
    if beside.params is not UNSET:
        params = _fields(beside.params, msgpack)
        names += _unknown(params, wire.EncodeParams, "params.")
        names += _unknown(_fields(params.get("options", Raw(b"")), msgpack), wire.EncodeOptions, "params.options.")
    return names


def ignored_fields(body: Body, kind: type[Struct]) -> list[str]:
    """Names of the fields of a JSON object that `kind` does not have."""
    return list(_unknown(_fields(body, msgpack=False), kind, ""))


def header(names: Iterable[str]) -> str:
    """The value of the header: at most 20 names, in printable ASCII, separated by commas."""
    shown = [_printable(name) for name in list(names)[:_MOST]]
    return ",".join(shown)


def _printable(name: str) -> str:
    text = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
    return "".join(char if char.isascii() and char.isprintable() and char != "," else "?" for char in text)


def _unknown(names: Iterable[str], kind: type[Struct], path: str) -> Iterator[str]:
    return (f"{path}{name}" for name in names if name not in kind.__struct_fields__)


def _fields(raw: Body | Raw, msgpack: bool) -> dict[str, Raw]:
    """The fields of an object; none if it is something else, such as null."""
    try:
        return codec.decode(bytes(raw), dict[str, Raw], msgpack=msgpack)
    except (SIEError, msgspec.MsgspecError):
        return {}
