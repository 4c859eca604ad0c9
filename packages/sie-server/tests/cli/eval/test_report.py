"""`report.html`: one page, without scripts and requests, in which all texts are escaped."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from judged_dataset import write_lines

from sie_server.cli.eval.figures import Changes, Comparison, Results, Row
from sie_server.cli.eval.report.page import verdict
from sie_server.cli.eval.report.plots import bars
from sie_server.cli.eval.significance import Mean

EVIL = "</style><script>alert(1)</script><img src=http://example.com/x onerror=alert(2)>'\"&"
Evaluate = Callable[..., tuple[int, str, str]]
VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """Tags with their attributes, which of them are not closed, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


@pytest.fixture
def report(evaluate: Evaluate, words: Any, tmp_path: Path) -> Path:
    """The report on queries, documents, ids and a model's name that try to get out of the text."""
    assert words.asked == []
    lists = write_lines(
        tmp_path / "lists.jsonl",
        [
            {"id": f"{EVIL}{at}", "query": f"bees {EVIL}", "documents": ["x", {"id": EVIL, "text": f"bees {EVIL}"}],
             "relevant": [at % 2]}
            for at in range(12)
        ],
    )  # fmt: skip
    out = tmp_path / "out"
    status, _, said = evaluate(lists, "-m", "words", "-m", EVIL, "--url", "http://127.0.0.1:9", "-o", out)
    assert status == 0, said
    return out / "report.html"


def test_the_page_is_whole_and_asks_for_nothing(report: Path) -> None:
    found = Page()
    found.feed(report.read_text())
    found.close()
    assert found.open == []
    names = {tag for tag, _ in found.tags}
    assert names.isdisjoint({"script", "img", "iframe", "object", "embed", "base", "form", "a"})
    for tag, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert attributes.get(name, "data:,") == "data:,", (tag, attributes)
    assert "url(" not in report.read_text()
    assert "@import" not in report.read_text()


def test_texts_are_texts(report: Path) -> None:
    source = report.read_text()
    assert "<script" not in source
    assert "<img" not in source
    found = Page()
    found.feed(source)
    assert EVIL in found.text  # as it was, for who reads it
    assert "bees" in found.text


def test_all_parts_are_there(report: Path) -> None:
    found = Page()
    found.feed(report.read_text())
    for heading in ("Results", "Quality and latency", "Which queries gain, and which lose", "Scores", "Comparisons"):
        assert heading in found.text
    assert "rank 2 → 1" in found.text
    assert found.text.count("Gained most") == 3
    circles = [attributes for tag, attributes in found.tags if tag == "circle"]
    assert len(circles) == 2


def test_chromium_opens_it_without_a_complaint(report: Path, tmp_path: Path) -> None:
    program = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs Chromium")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    shown = subprocess.run(
        [program, *flags, "--enable-logging=stderr", "--dump-dom", report.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert not [line for line in shown.stderr.splitlines() if "CONSOLE" in line]
    assert "<title>lists: nDCG@10 of 2 models</title>" in shown.stdout
    assert shown.stdout.count("<circle") == 2


def test_its_policy_has_the_hash_of_its_style(report: Path) -> None:
    import base64
    import hashlib

    source = report.read_text()
    [style] = re.findall(r"<style>(.*?)</style>", source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in source


def rows(*values: list[float]) -> list[Row]:
    return [
        Row(letter, name, kind, {"AP": Mean.of(each)}, {"AP": each}, {})  # type: ignore[arg-type]
        for letter, name, kind, each in zip(
            "abc", ("first", "one", "two"), ("first stage", "model", "model"), values, strict=False
        )
    ]


def compared(one: str, other: str, difference: float, p: float) -> Comparison:
    return Comparison("AP", one, other, Mean(difference, difference - 0.1, difference + 0.1), p, p)


@pytest.mark.parametrize(
    ("comparisons", "sentences"),
    [
        (
            [compared("b", "a", 0.2, 0.001), compared("c", "a", 0.3, 0.0001), compared("c", "b", 0.1, 0.04)],
            [
                "two is the best model. It reaches MAP 0.500, 0.300 above first (95% interval +0.200 to +0.400, "
                "without a correction; p < 0.001 after Holm's correction).",
                "It is significantly better than one.",
            ],
        ),
        (
            [compared("b", "a", 0.2, 0.01), compared("c", "a", 0.3, 0.2), compared("c", "b", 0.1, 0.6)],
            [
                "two reaches MAP 0.500, 0.300 above first, but the difference is not significant (95% interval +0.200 "
                "to +0.400, without a correction; p = 0.200 after Holm's correction).",
                "The difference between two and one is not significant.",
            ],
        ),
        (
            [compared("b", "a", 0.3, 0.0001), compared("c", "a", 0.3, 0.0001), compared("c", "b", 0, 1)],
            [
                "two reaches MAP 0.500, 0.300 above first (95% interval +0.200 to +0.400, without a correction; "
                "p < 0.001 after Holm's correction).",
                "two and one are equal: MAP is 0.500 with each.",
            ],
        ),
    ],
)
def test_the_verdict_claims_no_more_than_the_test_says(comparisons: list[Comparison], sentences: list[str]) -> None:
    found = results(rows([0.2, 0.2], [0.4, 0.4], [0.5, 0.5]), comparisons)
    assert verdict(found) == sentences


def results(rows: list[Row], comparisons: list[Comparison], queries: int = 2) -> Results:
    texts = [(str(at), f"query {at}") for at in range(queries)]
    dataset: Any = None
    return Results("0", "2026", dataset, ["AP"], {"AP": "MAP"}, rows, comparisons, [], texts)


def test_many_queries_share_bars_whose_mean_stays() -> None:
    before, after = [0.0] * 1000, [at / 1000 for at in range(1000)]
    found = results(rows(before, after), [], queries=1000)
    plot = bars(found, Changes("a", "b", "AP", 999, 0, [], []))
    assert plot.grouped
    assert len(plot.bars) == 300
    assert sum(bar.width for bar in plot.bars) == pytest.approx(100, abs=0.5)
    assert plot.bars[0].label.startswith("+0.998 on average: queries 1 to 3 ")
    assert plot.bars[0].height > plot.bars[-1].height


@pytest.mark.usefixtures("words")
def test_one_query_is_enough_for_a_page(evaluate: Evaluate, tmp_path: Path) -> None:
    lists = write_lines(tmp_path / "l.jsonl", [{"query": "bees", "documents": ["x"], "relevant": [0]}])
    status, _, said = evaluate(lists, "-m", "words", "--url", "http://127.0.0.1:9", "-o", tmp_path / "out")
    assert status == 0, said
    assert "ranks as well as the order given" in (tmp_path / "out" / "report.html").read_text()
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [each["p"] for each in found["comparisons"]] == [None] * 4
