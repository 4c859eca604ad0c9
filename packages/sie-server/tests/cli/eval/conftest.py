"""A tiny dataset, a ranker without a model, and the command."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from judged_dataset import write_beir

from sie_server.cli import main as cli
from sie_server.cli.rankers.ranker import Ranked


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    return write_beir(tmp_path / "tiny")


class WordRanker:
    """Scores a document by how many words of the query it has. asked: the queries, one per request."""

    name = "words"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.before: Callable[[str], None] = lambda _: None

    async def rank(self, query: str, documents: Sequence[str]) -> Ranked:
        self.asked.append(query)
        self.before(query)
        await asyncio.sleep(0)  # where a cancellation arrives
        words = set(query.lower().split())
        scores = [float(len(words & set(text.lower().strip(".").split()))) for text in documents]
        return Ranked(scores, 0.01 * len(documents), 7 * len(documents), 1)


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> WordRanker:
    """What every `--model` is while a test runs."""
    ranker = WordRanker()

    @asynccontextmanager
    async def opened(*_: object, **__: object) -> AsyncIterator[WordRanker]:
        yield ranker

    monkeypatch.setattr("sie_server.cli.streaming.model_flags.open_ranker", opened)
    return ranker


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`sie-server eval`: its status, output and error output."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            cli.app.meta(["eval", *map(str, arguments)])
        said = capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return exit_.value.code, said.out, said.err

    return run
