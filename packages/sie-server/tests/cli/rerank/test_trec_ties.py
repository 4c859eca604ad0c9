"""Equal scores of a TREC run: the same first documents as in an evaluation, which has them from trec_eval."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sie_server.cli.eval.trec import read_run
from sie_server.cli.rerank.trec_run import TrecRun


def test_of_equal_scores_the_largest_id_is_first(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("".join(f"q Q0 {name} 1 {score} x\n" for name, score in (("a", 1), ("c", 1), ("b", 1), ("d", 2))))
    with TrecRun(path, lambda *_: None) as run:
        assert [each.documents for each in run.candidates(3)] == [["d", "c", "b"]]
        assert [each.documents for each in run.candidates(None)] == [["d", "c", "b", "a"]]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ties") / "run"


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.sampled_from([0.5, 1.0, 1.0 + 1e-12, 2.0]), min_size=1),
    st.integers(1, 6),
)
def test_the_order_is_that_of_an_evaluation(path: Path, scores: dict[str, float], depth: int) -> None:
    path.write_text("".join(f"q Q0 {name} 1 {score!r} x\n" for name, score in scores.items()))
    with TrecRun(path, lambda *_: None) as run:
        [candidates] = run.candidates(depth)
    assert candidates.documents == read_run(path, {"q"}, depth).documents["q"][0]
