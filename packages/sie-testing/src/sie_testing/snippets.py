"""The code in the documentation: where it stands, its language, and the reason why a piece of it is not run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
_PAGES = ("*.md", "docs/**/*.md", "packages/*/README.md", "examples/*.md", "benchmarks/README.md", "reliability/*.md")
_FENCE = re.compile(
    r"(?:^<!-- (?:not run|run by): (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Snippet:
    """A fenced block. page: relative to the repository. reason: why the tests do not run it, or where they do."""

    page: str
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """All pages that users read, the changelog aside."""
    found = {path for pattern in _PAGES for path in ROOT.glob(pattern) if path.name != "CHANGELOG.md"}
    return sorted(found)


def snippets() -> Iterator[Snippet]:
    """All fenced blocks of all pages."""
    for path in pages():
        text = path.read_text(encoding="utf-8")
        for found in _FENCE.finditer(text):
            yield Snippet(
                page=str(path.relative_to(ROOT)),
                line=text.count("\n", 0, found.start("language")) + 1,
                language=found["language"],
                text=found["text"],
                reason=found["reason"],
            )


def programs() -> list[Snippet]:
    """The Python programs that run against a server; the parts of the SDK's README are one program."""
    whole = "packages/sie-sdk/README.md"
    found = [each for each in snippets() if each.language == "python" and each.reason is None]
    parts = [each for each in found if each.page == whole]
    one = Snippet(whole, parts[0].line, "python", "".join(each.text for each in parts), None)
    return [*(each for each in found if each.page != whole), one]
