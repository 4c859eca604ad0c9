"""Measures, intervals and tests: the values of the definitions, and those of scipy."""

import math
from array import array
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from sie_server.cli.eval import measures
from sie_server.cli.eval.dataset import Candidates, Query
from sie_server.cli.eval.ranking import order
from sie_server.cli.eval.significance import Mean, holm, p_value
from sie_server.cli.streaming.lines import FaultError

GRADES = {"d2": 2, "d4": 1, "d3": 0}


def query(name: str = "q1", grades: dict[str, int] = GRADES, ids: Sequence[str] = ("d1", "d2", "d4")) -> Query:
    return Query(name, "why", Candidates(list(ids), array("q", [0] * len(ids)), None), grades)


def measured(names: Sequence[str], ranking: Sequence[str], level: int = 1) -> dict[str, float]:
    chosen = measures.parse(names, level)
    found = measures.values(chosen, [query()], {"q1": ranking})
    return {str(measure): value for measure, [value] in found.items()}


def test_values_are_those_of_the_definitions() -> None:
    values = measured([], ["d1", "d2", "d4"])
    gain = 2 / math.log2(3) + 1 / math.log2(4)
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    assert values == {
        "nDCG@10": pytest.approx(gain / ideal),
        "RR@10": pytest.approx(1 / 2),
        "R@10": pytest.approx(2 / 2),
        "AP": pytest.approx((1 / 2 + 2 / 3) / 2),
    }


def test_a_relevance_level_counts_for_all_but_ndcg() -> None:
    values = measured([], ["d4", "d1", "d2"], level=2)
    assert values["RR(rel=2)@10"] == pytest.approx(1 / 3)
    assert values["AP(rel=2)"] == pytest.approx(1 / 3)
    assert values["R(rel=2)@10"] == 1
    assert values["nDCG@10"] == measured(["nDCG@10"], ["d4", "d1", "d2"])["nDCG@10"]
    assert measured(["RR(rel=1)@10"], ["d4", "d1", "d2"], level=2) == {"RR@10": 1}


def test_queries_without_a_ranking_count_as_zero() -> None:
    chosen = measures.parse([], 1)
    found = measures.values(chosen, [query(), query("q2")], {"q1": ["d2", "d4"], "q2": []})
    assert list(found.values()) == [[1, 0]] * 4
    assert list(measures.values(chosen, [query()], {"q1": []}).values()) == [[0]] * 4


def test_names_and_titles() -> None:
    chosen = measures.parse(["MRR@5", "Recall@100", "MAP", "P@1", "Success@5", "nDCG(gains={1:3})"], 1)
    assert [measures.title(measure) for measure in chosen][:5] == ["MRR@5", "Recall@100", "MAP", "P@1", "Success@5"]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["nDCG@ten"], "ir-measures has no measure 'nDCG@ten'"),
        (["__import__('os')"], "ir-measures has no measure"),
        (["NumRet"], "The measure NumRet is no mean over the queries"),
        (["alpha_nDCG@10"], "The measure alpha_nDCG@10 needs a program"),
        (["AP", "MAP"], "The measure AP is there twice"),
    ],
)
def test_measures_that_can_not_be_computed_are_refused_by_name(names: list[str], sentence: str) -> None:
    with pytest.raises(FaultError) as error:
        measures.parse(names, 1)
    assert sentence in str(error.value)


def test_equal_scores_are_ordered_by_descending_id_as_in_trec_eval() -> None:
    assert [("a", "c", "b")[at] for at in order(["a", "c", "b"], [1.0, 1.0, 2.0])] == ["b", "c", "a"]
    # trec_eval has scores in float32.
    assert order(["a", "b"], [1.0 + 1e-9, 1.0]) == [1, 0]
    assert measures.reranked(query(), [0.0, 0.0, 0.0]) == ["d4", "d2", "d1"]
    assert measures.first_stage(query()) == ["d1", "d2", "d4"]
    assert measures.perfect(query()) == ["d2", "d4", "d1"]


@pytest.fixture
def pair() -> tuple[list[float], list[float]]:
    rng = np.random.default_rng(1)
    one = rng.random(40)
    return one.tolist(), np.clip(one + rng.normal(0.05, 0.1, 40), 0, 1).tolist()


def test_p_is_that_of_scipys_paired_t_test(pair: tuple[list[float], list[float]]) -> None:
    one, other = pair
    assert p_value(one, other) == stats.ttest_rel(one, other).pvalue
    assert p_value(one, one) == 1
    assert p_value([0.5, 0.6], [0.25, 0.35]) == pytest.approx(0, abs=1e-12)
    assert p_value([1.0], [0.0]) is None


def test_intervals_are_those_of_scipys_bootstrap_and_the_same_every_time(pair: tuple[list[float], list[float]]) -> None:
    found = Mean.of(pair[0])
    expected = stats.bootstrap((np.array(pair[0]),), np.mean, method="percentile", rng=7).confidence_interval
    assert found == Mean.of(pair[0])
    assert found.value == np.mean(pair[0])
    assert (found.low, found.high) == (pytest.approx(expected.low, abs=0.01), pytest.approx(expected.high, abs=0.01))
    assert Mean.of([0.3]) == Mean(0.3, None, None)
    assert Mean.of([0.5] * 5) == Mean(0.5, 0.5, 0.5)


def test_holms_correction() -> None:
    # Holm 1979: the least times the number of tests, the next times one less, and never less than the one before.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []
