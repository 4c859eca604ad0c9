"""The results as a table in the terminal."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sie_server.cli.eval.figures import Results, Row
from sie_server.cli.eval.judged_lists import ORDER_GIVEN

SIGNIFICANT = 0.05
_SPEEDS = ("p50, ms", "p95, ms", "docs/s", "tokens", "cut")
_NAME = 13
_WIDEST = 1000


def tables(results: Results, console: Console) -> list[Table]:
    """A row per ranking: measures, then speed; two tables where one is too wide for the console.

    A letter behind a value: significantly better than the row of that letter.
    """
    quality: dict[str, Sequence[str | Text]] = {
        results.titles[measure]: [_value(results, row, measure) for row in results.rows] for measure in results.measures
    }
    speeds: dict[str, Sequence[str | Text]] = dict(
        zip(_SPEEDS, zip(*map(speed, results.rows), strict=True), strict=True)
    )
    whole = _table(results, quality | speeds)
    if console.measure(whole, options=console.options.update(width=_WIDEST)).maximum <= console.width:
        return [whole]
    return [_table(results, quality), _table(results, speeds)]


def _table(results: Results, columns: Mapping[str, Sequence[str | Text]]) -> Table:
    shown = Table(title=headline(results), title_justify="left", title_style="bold", box=None, pad_edge=False)
    shown.add_column("")
    shown.add_column("ranking", overflow="fold", min_width=_NAME)
    for name in columns:
        shown.add_column(name, justify="right", no_wrap=True)
    for row, *cells in zip(results.rows, *columns.values(), strict=True):
        shown.add_row(row.letter, row.name, *cells, style="dim" if row.kind == "perfect order" else "")
    return shown


def headline(results: Results) -> str:
    """The dataset in a line."""
    dataset = results.dataset
    source = dataset.first_stage
    source = f"in {source}" if source == ORDER_GIVEN else f"from {source}"
    return f"{dataset.name}: {_queries(dataset.queries)}, {dataset.candidates:,} candidates {source}"


def better_than(results: Results, row: Row, measure: str) -> str:
    """Letters of the rows than which this one is significantly better."""
    letters = []
    for each in results.comparisons:
        if each.measure != measure or each.p_holm is None or each.p_holm >= SIGNIFICANT:
            continue
        if each.one == row.letter and each.difference.value > 0:
            letters.append(each.other)
        elif each.other == row.letter and each.difference.value < 0:
            letters.append(each.one)
    return "".join(sorted(letters))


def speed(row: Row) -> list[str]:
    """p50, p95, documents per second, tokens, and the share of documents that were cut; empty if unknown."""
    if row.speed is None:
        return [""] * 5
    known = row.speed
    return [
        f"{known.p50_ms:,.1f}",
        f"{known.p95_ms:,.1f}",
        f"{known.documents_per_s:,.0f}",
        "" if known.tokens is None else f"{known.tokens:,}",
        "" if known.truncated is None else f"{known.truncated / known.documents:.1%}",
    ]


def notes(results: Results) -> Iterator[str]:
    """Explanations of the table, a sentence each."""
    dataset, counts = results.dataset, results.dataset.counts
    share = f" ({dataset.found / dataset.relevant:.0%})" if dataset.relevant else ""
    yield (
        f"{dataset.found:,} of the {dataset.relevant:,} relevant documents{share} are candidates; 'perfect order' has "
        "them first, and no reranker can do better."
    )
    if dataset.relevance_level > 1:
        yield f"A document is relevant from grade {dataset.relevance_level}; nDCG uses all grades."
    if len(results.rows) > 2:
        yield (
            "A letter behind a value names a row that is worse, with p < 0.05 in a paired t-test over the queries, "
            "after Holm's correction."
        )
    if counts.unjudged:
        yield f"{_queries(counts.unjudged)} without judgments: left out, as trec_eval does."
    if counts.unknown:
        yield f"{_queries(counts.unknown)} with judgments, but without a text: left out."
    if dataset.empty:
        yield f"{_queries(dataset.empty)} without candidates: counted as 0."
    if counts.absent:
        yield f"{counts.absent:,} relevant documents are not in the corpus."
    if counts.contradictory:
        yield f"{_queries(counts.contradictory)} whose ranks in the run contradict the scores: the scores counted."
    for row in results.models:
        if row.failures:
            yield (
                f"'{row.name}' refused {len(row.failures):,} of the queries, whose candidates keep the order of the "
                f"first stage. The first of them is '{row.failures[0].query}': {row.failures[0].message}"
            )


def _value(results: Results, row: Row, measure: str) -> Text:
    value = row.means[measure].value
    is_best = value == results.best(measure) and row.kind != "perfect order" and len(results.rows) > 2
    return Text.assemble(
        (f"{value:.4f}", "bold" if is_best else ""), (f" {better_than(results, row, measure):<1}", "dim")
    )


def _queries(count: int) -> str:
    return f"{count:,} query" if count == 1 else f"{count:,} queries"
