"""The documentation is complete, its generated parts are current, and its site builds without a broken link."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from generate import PAGES, filled
from troubleshooting_page import LOADS, REMEDIES

from sie_server.catalog.catalog import shipped
from sie_server.errors import Code, LoadClass
from sie_testing.snippets import ROOT, pages

SITE = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]


class Links(HTMLParser):
    """The addresses in a page that a reader follows, those that a browser fetches, and the names of anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.followed: set[str] = set()
        self.fetched: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.followed.add(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.fetched.add(given["href"])
        elif "src" in given:
            self.fetched.add(given["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built in strict mode, where a link or an anchor that leads nowhere is an error."""
    folder = tmp_path_factory.mktemp("documentation")
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "zensical.toml", folder)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "site"


def test_links_of_the_site_lead_somewhere(site: Path) -> None:
    found = {path.resolve(): Links(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(found) >= len(list(_listed(SITE["nav"])))
    broken = []
    for path, links in found.items():
        for address in links.followed | links.fetched:
            target = urlsplit(address)
            if target.scheme or target.netloc:
                continue
            file = (path.parent / unquote(target.path)).resolve() if target.path else path
            file = file / "index.html" if file.is_dir() else file
            anchor = unquote(target.fragment)
            if not file.exists() or (anchor and file in found and anchor not in found[file].anchors):
                broken.append(f"{path.relative_to(site.resolve())}: {address}")
    assert broken == []


def test_the_site_requests_nothing_from_another_host(site: Path) -> None:
    fetched = {address for path in site.rglob("*.html") for address in Links(path).fetched}
    assert fetched
    assert [address for address in fetched if urlsplit(address).netloc] == []
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles
    assert [style for style in styles if "url(http" in style or "@import" in style] == []


def test_links_to_other_hosts_are_well_formed(site: Path) -> None:
    addresses = {address for path in site.rglob("*.html") for address in Links(path).followed}
    others = [urlsplit(address) for address in addresses if urlsplit(address).scheme or urlsplit(address).netloc]
    assert {target.scheme for target in others} <= {"https", "http"}
    assert [target.geturl() for target in others if target.scheme == "http" and not _is_local(target.hostname)] == []
    assert [target.geturl() for target in others if " " in target.geturl()] == []


def _is_local(host: str | None) -> bool:
    return host in ("localhost", "127.0.0.1")


def _markdown_links(text: str) -> Iterator[str]:
    """The targets of inline links, outside code."""
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"\]\(([^)\s]+)\)", prose)
    yield from re.findall(r"""(?:src|srcset|href)="([^"]+)\"""", prose)


def test_links_between_files_of_the_repository_lead_somewhere() -> None:
    """As a forge shows them: those of the READMEs too, which are no part of the site."""
    broken = []
    for path in pages():
        for address in _markdown_links(path.read_text(encoding="utf-8")):
            target = urlsplit(address)
            if not target.netloc and target.path and not (path.parent / unquote(target.path)).exists():
                broken.append(f"{path.relative_to(ROOT)}: {address}")
    assert broken == []


def test_every_page_is_in_the_navigation() -> None:
    listed = list(_listed(SITE["nav"]))
    there = sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md"))
    assert sorted(listed) == there


def _listed(entry: Any) -> Iterator[str]:
    match entry:
        case str():
            yield entry
        case list():
            for each in entry:
                yield from _listed(each)
        case dict():
            for each in entry.values():
                yield from _listed(each)


@pytest.mark.parametrize("name", PAGES)
def test_generated_parts_are_current(name: str) -> None:
    """`make docs` writes them."""
    text = (ROOT / name).read_text(encoding="utf-8")
    assert filled(text, PAGES[name]()) == text


def test_recommended_models_are_in_the_catalog() -> None:
    text = (ROOT / "docs" / "choose-a-model.md").read_text(encoding="utf-8")
    recommended = re.findall(r"`([\w.-]+/[\w.-]+)`", text.partition("<!-- ")[0])
    assert len(recommended) > 5
    assert set(recommended) <= shipped().keys()


def test_every_error_has_a_remedy() -> None:
    assert set(REMEDIES) == set(Code)
    assert set(LOADS) == set(LoadClass)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
