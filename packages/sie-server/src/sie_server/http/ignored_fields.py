"""Fields of a body that nothing reads: their names, and the header that tells the client."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import islice

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from sie_server import codec, wire
from sie_server.errors import SIEError
from sie_server.large_bodies.outline import Body

IGNORED = "X-SIE-Ignored"
# Names in the header, characters of one, and of one that is compared with the names that there are.
_MOST, _LONGEST, _LONGEST_COMPARED = 20, 100, 32


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


def ignored_fields(names: Iterable[str], kind: type[Struct]) -> list[str]:
    """Find the names of a JSON object's fields that `kind` does not have; each with the one that may be meant."""
    return list(_unknown(names, kind, ""))


def header(names: Iterable[str]) -> str:
    """The value of the header: at most 20 names, in printable ASCII, separated by commas."""
    shown = [_printable(name) for name in list(names)[:_MOST]]
    return ",".join(shown)


def _printable(name: str) -> str:
    text = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
    return "".join(char if char.isascii() and char.isprintable() and char != "," else "?" for char in text)


def _unknown(names: Iterable[str], kind: type[Struct], path: str) -> Iterator[str]:
    known = kind.__struct_fields__
    for name in islice((name for name in names if name not in known), _MOST):
        similar = get_close_matches(name, known, n=1) if len(name) <= _LONGEST_COMPARED else ()
        yield f"{path}{name}" + "".join(f" (did you mean {other}?)" for other in similar)


def _fields(raw: Body | Raw, msgpack: bool) -> dict[str, Raw]:
    """The fields of an object; none if it is something else, such as null."""
    try:
        return codec.decode(bytes(raw), dict[str, Raw], msgpack=msgpack)
    except (SIEError, msgspec.MsgspecError):
        return {}
