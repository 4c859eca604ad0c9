"""Which replicas load a model: no more than it takes, and as few changes as it takes."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("ray", reason="Ray is not installed: make test-ray")

from sie_server.ray.placement import Placement, in_order, preference

pytestmark = pytest.mark.ray
NAMES = st.text("abcdefgh", min_size=1, max_size=3)
REPLICAS = st.lists(NAMES, min_size=1, max_size=8, unique=True)
MODELS = st.lists(NAMES, min_size=1, max_size=20, unique=True)


def owned(placement: Placement, models: list[str]) -> dict[str, list[str]]:
    return {model: placement.of(model) for model in models}


def ready(replicas: list[str]) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(replicas, ())


@given(REPLICAS, MODELS, st.integers(1, 3))
def test_a_model_has_as_many_owners_as_asked_for(replicas: list[str], models: list[str], owners: int) -> None:
    placement = Placement()
    placement.update(ready(replicas), owners)
    for chosen in owned(placement, models).values():
        assert len(set(chosen)) == len(chosen) == min(owners, len(replicas))
        assert set(chosen) <= set(replicas)


@given(REPLICAS, MODELS)
def test_no_replica_loads_more_than_it_must(replicas: list[str], models: list[str]) -> None:
    placement = Placement()
    placement.update(ready(replicas), 1)
    loads = Counter(chosen[0] for chosen in owned(placement, models).values())
    assert max(loads.values()) <= math.ceil(len(models) / len(replicas))


@given(REPLICAS, MODELS, st.integers(1, 3), st.data())
def test_a_replica_that_leaves_moves_only_its_models(
    replicas: list[str], models: list[str], owners: int, data: st.DataObject
) -> None:
    placement = Placement()
    placement.update(ready(replicas), owners)
    before = owned(placement, models)
    left = data.draw(st.sampled_from(replicas))
    rest = [replica for replica in replicas if replica != left]
    placement.update(ready(rest), owners)
    for model, chosen in owned(placement, models).items():
        stayed = [replica for replica in before[model] if replica != left]
        assert set(stayed) <= set(chosen)
        assert left not in chosen
        if left not in before[model]:
            assert chosen == before[model]


@given(REPLICAS, MODELS, st.data())
def test_a_replica_that_joins_takes_only_its_share(replicas: list[str], models: list[str], data: st.DataObject) -> None:
    placement = Placement()
    joined = data.draw(NAMES.filter(lambda name: name not in replicas))
    placement.update(ready(replicas), 1)
    before = owned(placement, models)
    placement.update(ready([*replicas, joined]), 1)
    after = owned(placement, models)
    assert all(after[model] in (before[model], [joined]) for model in models)
    loads = Counter(chosen[0] for chosen in after.values())
    assert max(loads.values()) <= math.ceil(len(models) / (len(replicas) + 1))


@given(REPLICAS, MODELS, st.integers(1, 3), st.randoms())
def test_proxies_agree_whatever_the_order_of_their_replicas(
    replicas: list[str], models: list[str], owners: int, random: "st.Random"
) -> None:
    one, other = Placement(), Placement()
    one.update(ready(replicas), owners)
    other.update(ready(random.sample(replicas, len(replicas))), owners)
    assert owned(one, models) == owned(other, models)


def test_a_model_stays_where_it_is_in_memory() -> None:
    placement = Placement()
    placement.update({"a": (), "b": ("m",), "c": ()}, 1)
    assert placement.of("m") == ["b"]


def test_the_preference_is_the_same_in_every_process() -> None:
    assert preference("BAAI/bge-reranker-v2-m3", "k3x9") == 1748750454552243696


def test_the_owner_with_the_least_work_comes_first_and_others_only_above_the_bound() -> None:
    work = {"a": (0.3, 0), "b": (0.1, 5), "c": (0.0, 0), "d": (0.0, 1)}
    assert in_order(["a", "b"], work, work.__getitem__, 2.0) == ["b", "a", "c", "d"]
    work["a"] = work["b"] = (2.5, 0)
    assert in_order(["a", "b"], work, work.__getitem__, 2.0) == ["c", "a", "b", "d"]
    work["c"] = work["d"] = (3.0, 0)
    assert in_order(["a", "b"], work, work.__getitem__, 2.0) == ["a", "b", "c", "d"]
    assert in_order([], work, work.__getitem__, 2.0) == ["a", "b", "c", "d"]
    assert in_order(["a"], ["a"], work.__getitem__, 2.0) == ["a"]
