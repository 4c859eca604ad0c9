"""Writes `results.json` and `report.html`."""

import base64
import hashlib
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import msgspec
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sie_server.cli.eval.changes import excerpt
from sie_server.cli.eval.figures import Comparison, Results
from sie_server.cli.eval.report import plots
from sie_server.cli.eval.significance import Mean
from sie_server.cli.eval.table import SIGNIFICANT, better_than, headline, notes, speed

RESULTS, REPORT = "results.json", "report.html"


def write(results: Results, folder: Path) -> None:
    """Write both files; each is there whole, or as it was. Raises OSError."""
    encoded = msgspec.json.format(msgspec.json.encode(results), indent=2)
    for name, content in ((RESULTS, encoded + b"\n"), (REPORT, page(results).encode())):
        unfinished = folder / f".{name}.unfinished"
        unfinished.write_bytes(content)
        unfinished.replace(folder / name)


def page(results: Results) -> str:
    """The page: no scripts, no requests, and a policy that allows neither. All texts are escaped."""
    folder = files(__package__)
    style = folder.joinpath("report.css").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"p": p_text, "excerpt": excerpt, "signed": lambda value: f"{value:+.3f}".replace("-", "−")}
    template = environment.from_string(folder.joinpath("report.html.j2").read_text("utf-8"))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return template.render(
        results=results,
        main=results.measures[0],
        title=results.titles[results.measures[0]],
        headline=headline(results),
        verdict=verdict(results),
        notes=list(notes(results)),
        better_than=better_than,
        speed=speed,
        best={measure: results.best(measure) for measure in results.measures},
        tradeoff=plots.tradeoff(results),
        changes=[(each, plots.bars(results, each)) for each in results.changes],
        spreads=plots.spreads(results),
        heights={"tradeoff": plots.HEIGHT, "bars": plots.BARS_HEIGHT, "spread": plots.SPREAD_HEIGHT},
        style=Markup(style),
        style_hash=digest,
    )


def verdict(results: Results) -> list[str]:
    """The result in a few sentences."""
    measure = results.measures[0]
    title, first = results.titles[measure], results.rows[0]
    winner = max(results.models, key=lambda row: row.means[measure].value)
    value = winner.means[measure].value
    against = _comparison(results, winner.letter, first.letter)
    gain = against.difference.value
    leads = {row.name: _comparison(results, winner.letter, row.letter) for row in results.models if row is not winner}
    tied = [name for name, lead in leads.items() if lead.difference.value == 0]
    beaten = [name for name, lead in leads.items() if name not in tied and _is_certain(lead)]
    unsure = [name for name in leads if name not in (*tied, *beaten)]
    if gain == 0:
        sentences = [f"{winner.name} ranks as well as {first.name}: {title} is {value:.3f} with both."]
    else:
        side = "above" if gain > 0 else "below"
        distance = f"{abs(gain):.3f} {side} {first.name}{_certainty(against)}"
        best = " is the best model. It" if beaten and not (tied or unsure) else ""
        sentences = [f"{winner.name}{best} reaches {title} {value:.3f}, {distance}."]
    if tied:
        sentences.append(f"{_listed([winner.name, *tied])} are equal: {title} is {value:.3f} with each.")
    if beaten:
        sentences.append(f"{'It' if not tied else winner.name} is significantly better than {_listed(beaten)}.")
    if unsure:
        sentences.append(f"The difference between {winner.name} and {_listed(unsure)} is not significant.")
    return sentences


def p_text(p: float | None) -> str:
    """A p-value as people read it."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _certainty(comparison: Comparison) -> str:
    difference = comparison.difference
    if comparison.p_holm is None or difference.low is None or difference.high is None:
        return ""
    shown = p_text(comparison.p_holm)
    relation = shown if shown.startswith("<") else f"= {shown}"
    interval = f"95% interval {difference.low:+.3f} to {difference.high:+.3f}".replace("-", "−")
    interval += f", without a correction; p {relation} after Holm's correction"
    return f" ({interval})" if _is_certain(comparison) else f", but the difference is not significant ({interval})"


def _is_certain(comparison: Comparison) -> bool:
    return comparison.p_holm is not None and comparison.p_holm < SIGNIFICANT


def _comparison(results: Results, one: str, other: str) -> Comparison:
    """The comparison of two rows by the main measure: the first minus the second."""
    measure = results.measures[0]
    found = next(
        each for each in results.comparisons if each.measure == measure and {each.one, each.other} == {one, other}
    )
    if found.one == one:
        return found
    mean = found.difference
    turned = Mean(-mean.value, None if mean.high is None else -mean.high, None if mean.low is None else -mean.low)
    return replace(found, one=one, other=other, difference=turned)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
