"""Writes the generated parts of the documentation of the server and the SDKs.

    python packages/sie-server/pages/generate.py        # or: make docs

A part stands between `<!-- NAME -->` and `<!-- /NAME -->`; what is around it is written by hand.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import choose_page
import cli_page
import http_page
import measured_speed
import metrics_page
import models_page
import python_page
import settings_page
import troubleshooting_page
import typescript_page

ROOT = Path(__file__).resolve().parents[3]
PAGES: Mapping[str, Callable[[], dict[str, str]]] = {
    "README.md": lambda: {"models": models_page.selection(), "speed": measured_speed.summary()},
    "docs/choose-a-model.md": choose_page.parts,
    "docs/models.md": models_page.parts,
    "docs/metrics.md": metrics_page.parts,
    "docs/performance.md": lambda: {"ratios": measured_speed.ratios()},
    "docs/troubleshooting.md": troubleshooting_page.parts,
    "docs/reference/cli.md": cli_page.parts,
    "docs/reference/http.md": http_page.parts,
    "docs/reference/python.md": python_page.parts,
    "docs/reference/settings.md": settings_page.parts,
    "docs/reference/typescript.md": typescript_page.parts,
}


def filled(page: str, parts: Mapping[str, str]) -> str:
    """The page with these parts between their markers.

    Raises:
        ValueError: the page has no such part.
    """
    for name, part in parts.items():
        before, opening, rest = page.partition(f"<!-- {name} -->\n")
        _, closing, after = rest.partition(f"<!-- /{name} -->\n")
        if not closing:
            raise ValueError(f"the page has no part {name!r}")
        page = f"{before}{opening}\n{part}\n\n{closing}{after}"
    return page


if __name__ == "__main__":
    for name, parts in PAGES.items():
        path = ROOT / name
        path.write_text(filled(path.read_text(), parts()))
