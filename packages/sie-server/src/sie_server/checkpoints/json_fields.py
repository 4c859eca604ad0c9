"""Typed reads of the keys of a JSON object. A wrong value is refused by the name of its key."""

import math
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from sie_server.errors import UnsupportedModelError

T = TypeVar("T")

_SHOWN = 60  # characters of a value in a message


class Keys:
    """A JSON object with typed access to its keys.

    A missing key has the default; a key without a default is required. `null` is a value like any other, except with
    `optional`, where it counts as missing. Every method raises UnsupportedModelError, with the name of the key, for a
    value of the wrong type, out of range, or not supported.

    where: name of the object in messages. names: common name of a key → its name in this object.
    """

    def __init__(self, values: Mapping[str, Any], where: str = "config.json", names: Mapping[str, str] = {}) -> None:
        self.where = where
        self._values = values
        self._names = names

    def name(self, key: str) -> str:
        """Name of `key` in this object."""
        theirs = self._names.get(key, key)
        return theirs if theirs in self._values else key if key in self._values else theirs

    def given(self, key: str) -> bool:
        """Whether the key is present and not null."""
        return self._values.get(self.name(key)) is not None

    def raw(self, key: str) -> Any:
        return self._values.get(self.name(key))

    def integer(self, key: str, default: int | None = None, *, low: int = 1, high: int, optional: bool = False) -> int:
        """A whole number from `low` to `high`."""
        value = self._value(key, default, optional)
        if type(value) is not int or not low <= value <= high:
            raise self._refused(key, value, f"a whole number from {low:,} to {high:,}")
        return value

    def number(
        self, key: str, default: float | None = None, *, above: float = 0.0, high: float, optional: bool = False
    ) -> float:
        """A number greater than `above`, up to `high`."""
        value = self._value(key, default, optional)
        if type(value) not in (int, float) or not math.isfinite(value) or not above < value <= high:
            raise self._refused(key, value, f"a number above {above:g}, up to {high:g}")
        return float(value)

    def flag(self, key: str, default: bool, *, optional: bool = False) -> bool:
        """true or false."""
        value = self._value(key, default, optional)
        if type(value) is not bool:
            raise self._refused(key, value, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str | None:
        """A string, or None for null or a missing key."""
        value = self._value(key, default, optional=True, needed=False)
        if value is not None and not isinstance(value, str):
            raise self._refused(key, value, "a string")
        return value

    def texts(self, key: str) -> list[str] | None:
        """A list of strings, or None for null or a missing key."""
        value = self.raw(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self._refused(key, value, "a list of strings")
        return value

    def choice(self, key: str, table: Mapping[str, T], default: str, *, optional: bool = False) -> T:
        """The entry of `table` for the key's value."""
        value = self._value(key, default, optional)
        if not isinstance(value, str) or value not in table:
            raise self._refused(key, value, ", ".join(map(repr, table)))
        return table[value]

    def object(self, key: str) -> "Keys":
        """An object, empty for null or a missing key."""
        value = self.raw(key)
        if value is None:
            return Keys({}, f"{self.where}: {key}")
        if not isinstance(value, dict):
            raise self._refused(key, value, "an object")
        return Keys(value, f"{self.where}: {key}")

    def only(self, key: str, supported: Collection[Any]) -> None:
        """Refuse a value that is not one of those supported; the key may be missing. `true` is not 1."""
        if self.name(key) not in self._values:
            return
        value = self.raw(key)
        if not any(type(value) is type(each) and value == each for each in supported):
            raise self._refused(key, value, " or ".join("null" if each is None else repr(each) for each in supported))

    def __contains__(self, key: str) -> bool:
        return self.name(key) in self._values

    def __len__(self) -> int:
        return len(self._values)

    def _value(self, key: str, default: Any, optional: bool, needed: bool = True) -> Any:
        name = self.name(key)
        if name in self._values and not (optional and self._values[name] is None):
            return self._values[name]
        if default is None and needed:
            raise UnsupportedModelError(f"{self.where} lacks {name!r}")
        return default

    def _refused(self, key: str, value: Any, supported: str) -> UnsupportedModelError:
        shown = "null" if value is None else repr(value)
        shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
        return UnsupportedModelError(f"{self.where}: {self.name(key)} {shown} is not supported; supported: {supported}")
