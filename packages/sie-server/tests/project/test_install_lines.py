"""No install line fetches a package of ours from a registry: none is published, and two names are another vendor's."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
KINDS = {".md", ".py", ".ts", ".toml", ".json", ".yml", ".yaml", ".ipynb", ".cfg", ".conf", ""}
SKIPPED = {"node_modules", ".venv", ".git", "dist", ".programs", ".cache", "site"}
INSTALL = re.compile(
    r"\b(?:pip3?|pipx|uv|uvx|poetry|npm|npx|pnpm|yarn|bun|deno|conda)\b[^\n`]*\b(?:install|add|i|run|x)\b[^\n`]*"
)
OURS = re.compile(r"(?<![\w./-])@?sie[-_/](?:rerank[-_])?(?:sdk|server)\b(?!-)(?![\w-]*\.(?:tgz|whl))")


def lines() -> list[str]:
    found = []
    for folder, below, names in os.walk(ROOT):
        below[:] = [name for name in below if name not in SKIPPED]
        for path in (Path(folder, name) for name in names):
            if path.suffix in KINDS and path != Path(__file__):
                said = INSTALL.finditer(path.read_text("utf-8", "replace"))
                found += [f"{path.relative_to(ROOT)}: {each[0]}" for each in said]
    return found


def test_our_packages_are_installed_from_the_checkout() -> None:
    installs = lines()
    assert any("./packages/sie-sdk" in line for line in installs)
    assert [line for line in installs if OURS.search(line.partition(": ")[2])] == []


@pytest.mark.parametrize(
    "line",
    [
        "pip install sie-sdk",
        "pip install 'sie-server[tracing]'",
        "pip install sie-rerank-sdk",
        "npm install @sie/sdk",
        "uv add sie_sdk",
    ],
)
def test_such_a_line_would_be_found(line: str) -> None:
    assert (match := INSTALL.search(line)) is not None
    assert OURS.search(match[0])
