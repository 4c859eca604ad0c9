"""The self-check: a model that gives its published scores passes, one that does not is named and refused."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx2
import pytest
import torch

from sie_server.catalog.catalog import Entry, Example, shipped
from sie_server.checkpoints.load import load
from sie_server.errors import LoadClass, LoadError
from sie_server.models.loaded_model import LoadedModel
from sie_server.options import Precision, Score
from sie_server.score_check import compare, load_verified, verify
from sie_testing.serving import EMBEDDED, Server, connect, error, in_process, scores

CPU = torch.device("cpu")
DOCUMENTS = ("a", "b", "c")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sie_server.checkpoints.hub.is_offline_mode", lambda: True)


@pytest.fixture
def wrong() -> Entry:
    """The embedded model with scores that it does not give."""
    [example] = shipped()[EMBEDDED].examples
    first, *others = example.scores
    return replace(shipped()[EMBEDDED], examples=(replace(example, scores=(first + 0.5, *others)),))


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_real_weights_give_their_published_scores(precision: str) -> None:
    model = load(shipped()[EMBEDDED], CPU, precision)
    [outcome] = verify(model)
    assert outcome.passed
    if precision == "float32":
        assert max(abs(pair.difference) for pair in outcome.compared) < 1e-5


def test_the_checked_model_is_the_served_model() -> None:
    """Bit for bit: the check goes the way of a request."""
    [example] = shipped()[EMBEDDED].examples
    [outcome] = verify(load(shipped()[EMBEDDED], CPU, "float32"))
    with in_process(precision="float32") as running, connect(running.url) as api:
        served = scores(api, EMBEDDED, example.query, example.documents)
    assert served == [pair.got for pair in outcome.compared]


def test_wrong_scores_refuse_the_model_with_both_numbers(wrong: Entry) -> None:
    with pytest.raises(LoadError, match=r"expected \[5\.95\d+, .* got \[5\.45\d+, ") as refused:
        load_verified(wrong, CPU, "float32")
    assert refused.value.kind is LoadClass.SCORES
    assert refused.value.permanent


def test_a_server_that_verifies_answers_for_a_refused_model(wrong: Entry) -> None:
    def loader(entry: Entry, device: torch.device, precision: Precision, **_: Any) -> LoadedModel:
        return load_verified(replace(entry, examples=wrong.examples), device, precision)

    with in_process(loader) as running, connect(running.url) as api:
        answer = _score(api)
        status, code, message = error(answer)
    assert (status, code, answer.json()["detail"]["error_class"]) == (502, "MODEL_LOAD_FAILED", "SCORES")
    assert "differ from the published ones" in message


def test_the_flag_verifies_and_models_that_pass_are_served() -> None:
    with Server("--preload", EMBEDDED, "--verify", "--log-level=info") as server, connect(server.url) as api:
        assert "gives its 4 published scores" in server.log
        assert _score(api).status_code == 200


def test_a_model_without_published_scores_passes_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        load_verified(replace(shipped()[EMBEDDED], examples=()), CPU)
    assert caplog.text.count("no published scores to compare with") == 1


def test_an_example_that_can_not_be_scored_refuses_the_model() -> None:
    long = Example("berlin " * 300, ("a",), (1.0,), "nobody")
    with pytest.raises(LoadError, match="can't score its examples: Field 'query' has 300 tokens"):
        load_verified(replace(shipped()[EMBEDDED], examples=(long,)), CPU)


@pytest.mark.parametrize(
    ("score", "expected", "got", "dtype", "passed"),
    [
        ("logit", 8.607, 8.617, "float32", True),
        ("logit", 8.607, 8.707, "float32", False),
        ("logit", 8.607, 8.707, "bfloat16", True),
        ("logit", 8.607, 9.607, "bfloat16", False),
        ("maxsim", 8.917, 8.927, "float32", False),
        ("maxsim", 8.917, 8.927, "bfloat16", True),
        # The same probability to two digits, and far off as a logit: -5.3 and -6.2.
        ("probability", 0.005, 0.002, "float32", False),
        ("probability", 0.005, 0.002, "bfloat16", False),
        ("probability", 0.99998, 0.99998, "float32", True),
    ],
)
def test_a_difference_is_measured_as_the_logit_sees_it(
    score: Score, expected: float, got: float, dtype: str, passed: bool
) -> None:
    example = Example("q", ("d",), (expected,), "nobody")
    assert compare(example, [got], score, dtype).passed is passed


def test_the_published_precision_counts_too() -> None:
    example = Example("q", ("d",), (5.4062,), "nobody", "bfloat16")
    assert compare(example, [5.3], "logit", "float32").passed


@pytest.mark.parametrize(
    ("got", "ordered"),
    [([3.0, 2.0, 1.96], True), ([3.0, 1.96, 1.97], True), ([2.0, 3.0, 1.9], False), ([math.nan, 2.0, 1.9], False)],
)
def test_documents_with_clearly_different_scores_rank_as_published(got: Sequence[float], ordered: bool) -> None:
    example = Example("q", DOCUMENTS, (3.0, 2.0, 1.995), "nobody")
    assert compare(example, got, "logit", "float32").ordered is ordered


def _score(api: httpx2.Client) -> httpx2.Response:
    return api.post(f"/v1/score/{EMBEDDED}", json={"query": {"text": "what"}, "items": [{"text": "it"}]})
