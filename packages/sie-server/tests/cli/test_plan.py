"""`sie-server plan`: formulas of queueing theory against known values, and the command."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sie_server.cli.main import app
from sie_server.cli.plan.queueing import Load, erlang_c, replicas_for, wait


@pytest.mark.parametrize(
    # Of tables of Erlang's C formula; one server: the load itself.
    ("servers", "load", "probability"),
    [(1, 0.6, 0.6), (2, 1.0, 1 / 3), (5, 4.0, 0.5541), (10, 8.0, 0.4092), (100, 80.0, 0.0196)],
)
def test_erlang_c(servers: int, load: float, probability: float) -> None:
    assert erlang_c(servers, load) == pytest.approx(probability, abs=5e-4)


def test_a_load_above_the_servers_is_refused() -> None:
    with pytest.raises(ValueError, match="a load of 2 needs more than 2 servers"):
        erlang_c(2, 2.0)


def test_one_replica_is_the_textbook_queue() -> None:
    # M/M/1 at 80 %: a mean wait of 4 services, and P(W > t) = 0.8 exp(-t / 5).
    for balancer in ("least", "random"):
        found = wait(Load(8.0, 0.1, arrivals=1.0, sizes=1.0), 1, balancer)
        assert found.mean_s == pytest.approx(0.4)
        assert found.percentile_s(0.95) == pytest.approx(0.5 * math.log(0.8 / 0.05))
    # M/D/1: half of it (Pollaczek and Khinchine).
    assert wait(Load(8.0, 0.1, sizes=0.0), 1, "least").mean_s == pytest.approx(0.2)


def test_a_random_balancer_waits_as_long_with_any_number() -> None:
    one, ten = (wait(Load(8.0 * count, 0.1), count, "random") for count in (1, 10))
    assert ten.mean_s == pytest.approx(one.mean_s)
    assert wait(Load(80.0, 0.1), 10, "least").mean_s < ten.mean_s / 5


@given(
    st.floats(0.1, 200),
    st.floats(0.001, 2),
    st.floats(1, 8),
    st.floats(0.001, 1),
    st.floats(0.3, 0.95),
    st.sampled_from(["least", "random"]),
)
def test_replicas_are_enough_and_one_less_is_not(
    rate: float, seconds: float, arrivals: float, wait_s: float, busy: float, balancer: str
) -> None:
    load = Load(rate, seconds, arrivals)
    count = replicas_for(load, wait_s, 0.95, busy, balancer)  # type: ignore[arg-type]

    def holds(replicas: int) -> bool:
        if load.replicas / replicas > busy:
            return False
        return wait(load, replicas, balancer).percentile_s(0.95) <= wait_s  # type: ignore[arg-type]

    assert holds(count)
    assert count == 1 or not holds(count - 1)


def run(capsys: pytest.CaptureFixture[str], *tokens: str) -> tuple[int, str, str]:
    status = app(["plan", *tokens], result_action="return_value")
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_a_plan_of_a_given_rate(capsys: pytest.CaptureFixture[str]) -> None:
    given_rate = ("--qps", "50", "--documents", "100", "--tokens", "140", "--tokens-per-second", "30000")
    status, printed, _ = run(capsys, *given_rate, "--price", "0.4", "--json")
    found = json.loads(printed)
    assert status == 0
    # 700,000 tokens per second are 23.3 replicas, 29.2 at 80 %.
    assert (found["replicas"], found["spare"]) == (31, 1)
    assert found["busy_without"] == pytest.approx(23.333 / 30, abs=1e-3)
    # 31 replicas at 0.4 an hour, for 18 million pairs.
    assert found["per_million_pairs"] == pytest.approx(31 * 0.4 / 18)
    status, printed, _ = run(capsys, *given_rate)
    assert status == 0
    assert "31, 1 of them spare" in printed
    assert "price" not in printed


def test_a_load_without_end_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed, said = run(capsys, "--qps", "1e9", "--tokens-per-second", "30000")
    assert (status, printed) == (2, "")
    assert said == "this load keeps 466,666,667 replicas busy; plans end at 100,000\n"


def test_the_rate_is_measured_here(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed, _ = run(capsys, "--qps", "1", "--documents", "2", "--tokens", "20", "--json")
    assert status == 0
    assert json.loads(printed)["tokens_per_s"] > 0


def test_an_unknown_model_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, said = run(capsys, "no/such-model", "--qps", "1")
    assert status == 1
    assert "no/such-model" in said
