"""The held list of calls, `clients.toml`: each client, what to set for it, and what becomes of its calls."""

import re
import tomllib
from pathlib import Path

import msgspec

FOLDER = Path(__file__).parent
# Of all calls, as many must work as 190 of 197.
LEAST = 190 / 197


class Fails(msgspec.Struct, forbid_unknown_fields=True):
    """A call that the server refuses. says: part of what the client's user is told. why: in docs/clients.md."""

    says: str
    why: str


class Client(msgspec.Struct, forbid_unknown_fields=True):
    """A client program.

    group: that its calls run in. packages: of its environment, whose versions docs/clients.md tells. set: what its user
    has to set. works: its calls that work. fails: those that do not. note: what else a user must know. snippet: a
    program in `snippets/` that uses it.
    """

    name: str
    group: str
    set: str
    works: list[str]
    packages: list[str] = []
    fails: dict[str, Fails] = {}
    note: str = ""
    snippet: str = ""

    def versions(self) -> str:
        """The packages and their pinned versions."""
        pins = pinned(self.group) if self.packages else {}
        return ", ".join(f"{package} {pins[package]}" for package in self.packages)


def pinned(group: str) -> dict[str, str]:
    """The versions of the packages of an environment."""
    if group == "node":
        packages = msgspec.json.decode((FOLDER / "node" / "package.json").read_bytes())
        return dict(packages["dependencies"])
    lines = (FOLDER / "requirements" / f"{group}.txt").read_text()
    return dict(re.findall(r"^([\w.-]+)(?:\[.*?\])?==(\S+)", lines, re.MULTILINE))


def clients() -> list[Client]:
    """Read the list."""
    listed = tomllib.loads((FOLDER / "clients.toml").read_text())
    return msgspec.convert(listed["clients"], list[Client])
