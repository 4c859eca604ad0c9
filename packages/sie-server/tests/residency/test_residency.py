"""Many models on one device: who is loaded, who has to go, who waits, and what is remembered of failures."""

import asyncio
import gc
import random
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.cancellation import stop_if_given_up
from sie_server.checkpoints.load import Weighed
from sie_server.errors import Code, LoadClass, LoadError, SIEError
from sie_server.metrics import Metrics
from sie_server.models.loaded_model import LoadedModel
from sie_server.residency import eviction
from sie_server.residency.housekeeping import Housekeeper
from sie_server.residency.memory_budget import Footprint, MemoryBudget
from sie_server.residency.models_folder import Changes
from sie_server.residency.residency import Residency
from sie_server.settings import Settings

pytestmark = pytest.mark.asyncio
SIZE = 100
MODELS = [Entry(name, repository=name, parameters=SIZE // 4) for name in "abcde"]


class Loaded:
    """A model without weights."""

    token_bytes, device = 0, torch.device("cpu")

    def __init__(self, entry: Entry, size: int = SIZE, encoder: object = None) -> None:
        self.entry, self.id, self.bytes, self.encoder = entry, entry.id, size, encoder or object()


def weighed(size: int, encoder: Any = None) -> Weighed:
    return Weighed(size, cast(Any, None), encoder)


class Models:
    """A residency over models that load as told: they count, wait, fail, or are larger than was to be expected."""

    def __init__(self, budget: int = 10_000, **options: Any) -> None:
        self.now = 1000.0
        self.calls: list[str] = []
        self.failures: dict[str, list[Exception]] = {}
        self.gates: dict[str, threading.Event] = {}
        self.sizes: dict[str, int] = {}
        # Of models that share weights.
        self.encoders: dict[str, object] = {}
        self.metrics = Metrics()
        self.at_once = Counter[str]()
        options = {"load_wait_s": 20.0, "load_timeout_s": 20.0, "batch_tokens": 512, **options}
        self.residency = Residency(
            MODELS, self._load, MemoryBudget(budget, 1), self.metrics, clock=lambda: self.now, **options
        )

    def _load(self, entry: Entry, _: Weighed | None) -> LoadedModel:
        self.calls.append(entry.id)
        self.at_once[entry.id] += 1
        assert self.at_once[entry.id] == 1, "two loads of one model"
        try:
            if entry.id in self.gates:
                assert self.gates[entry.id].wait(20)
            if self.failures.get(entry.id):
                raise self.failures[entry.id].pop(0)
            return Loaded(entry, self.sizes.get(entry.id, SIZE), self.encoders.get(entry.id))  # type: ignore[return-value]
        finally:
            self.at_once[entry.id] -= 1

    async def get(self, model_id: str) -> LoadedModel:
        self.now += 1
        return await served(self.residency, model_id)

    async def use(self, model_id: str, until: asyncio.Event) -> str:
        async with self.residency.serving(model_id) as model:
            await until.wait()
            return model.id

    def loaded(self) -> set[str]:
        return {model_id for model_id, slot in self.residency.slots.items() if slot.state == "loaded"}

    def state(self, model_id: str) -> str:
        return self.residency.slots[model_id].state

    def gauge(self, name: str, model_id: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"model": model_id, "device": "cpu"})


async def served(residency: Residency, model_id: str) -> LoadedModel:
    """The model, as a request gets it."""
    async with residency.serving(model_id) as model:
        return model


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


async def refusal(work: Any) -> SIEError:
    with pytest.raises(SIEError) as refused:
        await work
    return refused.value


# --- making room -----------------------------------------------------------------------------------------------------


async def test_the_least_recently_used_model_is_unloaded() -> None:
    models = Models(budget=2 * SIZE)
    for model_id in "aba":
        await models.get(model_id)
    await models.get("c")
    assert models.loaded() == {"a", "c"}
    await models.get("b")
    assert models.loaded() == {"b", "c"}
    assert models.calls == ["a", "b", "c", "b"]
    assert [models.gauge("sie_model_loaded", model_id) for model_id in "abc"] == [0, 1, 1]
    assert [models.gauge("sie_model_memory_bytes", model_id) for model_id in "abc"] == [0, SIZE, SIZE]


def sharing(budget: int, *names: str, **options: Any) -> Models:
    """Models of which those with these names have the same weights, which are found when a second one is weighed."""
    shared = object()

    def weigh(entry: Entry) -> Weighed:
        in_memory = entry.id in names and any(models.residency.slots[name].model for name in names)
        return weighed(SIZE, shared if in_memory else None)

    models = Models(budget, weigh=weigh, **options)
    models.encoders = dict.fromkeys(names, shared)
    return models


async def test_shared_weights_count_once() -> None:
    models = sharing(2 * SIZE, "a", "b", "c")
    for model_id in "abcd":
        await models.get(model_id)
    assert models.loaded() == {"a", "b", "c", "d"}
    assert [models.gauge("sie_model_memory_bytes", model_id) for model_id in "abcd"] == [SIZE, 0, 0, SIZE]
    models.residency.unload("a")
    await until(lambda: models.state("a") == "available")
    assert [models.gauge("sie_model_memory_bytes", model_id) for model_id in "abcd"] == [0, SIZE, 0, SIZE]


async def test_all_users_of_shared_weights_are_unloaded_to_make_room_and_none_for_nothing() -> None:
    models = sharing(2 * SIZE, "a", "b")
    for model_id in "acb":
        await models.get(model_id)
    await models.get("d")
    assert models.loaded() == {"a", "b", "d"}, "a is older than c, but frees nothing without b"
    await models.get("c")
    assert models.loaded() == {"c", "d"}


async def test_weights_of_a_pinned_model_are_not_unloaded_by_another_name() -> None:
    models = sharing(2 * SIZE, "a", "b", pinned=("b",))
    for model_id in "abcd":
        await models.get(model_id)
    assert models.loaded() == {"a", "b", "d"}


async def test_a_name_in_use_keeps_its_weights() -> None:
    models, ended = sharing(2 * SIZE, "a", "b"), asyncio.Event()
    for model_id in "abc":
        await models.get(model_id)
    using = asyncio.create_task(models.use("a", ended))
    await until(lambda: models.residency.slots["a"].resident.users)  # type: ignore[union-attr]
    await models.get("d")
    assert models.loaded() == {"a", "b", "d"}
    ended.set()
    assert await using == "a"


async def test_pinned_models_stay() -> None:
    models = Models(budget=2 * SIZE, pinned=("a",))
    for model_id in "abcd":
        await models.get(model_id)
    assert models.loaded() == {"a", "d"}


async def test_a_model_that_does_not_fit_beside_pinned_models_is_refused() -> None:
    models = Models(budget=SIZE + 49, pinned=("a",))
    await models.get("a")
    refused = await refusal(models.get("b"))
    assert refused.answer.status == 502
    assert (refused.extras["error_class"], refused.extras["permanent"]) == ("OOM", False)
    assert "memory budget" in refused.message
    assert models.calls == ["a"]
    assert models.residency.slots["b"].retry_at == models.now + 60


async def test_nothing_is_unloaded_for_a_model_that_does_not_fit_all_the_same() -> None:
    sizes = {"c": 3 * SIZE, "d": 2 * SIZE + 1}
    models = Models(budget=3 * SIZE, pinned=("a",), weigh=lambda entry: weighed(sizes.get(entry.id, SIZE)))
    for model_id in "ab":
        await models.get(model_id)
    for model_id in "cd":
        assert "memory budget" in (await refusal(models.get(model_id))).message
        assert models.loaded() == {"a", "b"}
    assert models.calls == ["a", "b"]


async def test_nothing_is_unloaded_for_a_model_whose_files_are_refused() -> None:
    def weigh(entry: Entry) -> Weighed:
        if entry.id == "b":
            raise LoadError(LoadClass.CONFIG, "no such architecture")
        return weighed(SIZE)

    models = Models(budget=SIZE, weigh=weigh)
    await models.get("a")
    assert (await refusal(models.get("b"))).extras["error_class"] == "CONFIG"
    assert models.loaded() == {"a"}


async def test_a_model_that_turns_out_too_large_is_not_made_room_for() -> None:
    models = Models(budget=3 * SIZE)
    models.sizes = {"c": 3 * SIZE + 1}
    for model_id in "ab":
        await models.get(model_id)
    assert (await refusal(models.get("c"))).extras["error_class"] == "OOM"
    assert models.loaded() == {"a", "b"}


async def test_a_model_that_may_fit_is_tried_and_its_measured_size_counts() -> None:
    models = Models(budget=SIZE + 60, pinned=("a",))
    models.sizes = {"b": 60}  # a file of float32, loaded in half of that and a bit
    for model_id in "ab":
        await models.get(model_id)
    assert models.loaded() == {"a", "b"}
    models.sizes = {"c": 61}
    assert (await refusal(models.get("c"))).extras["error_class"] == "OOM"
    assert models.loaded() == {"a"}


async def test_a_model_that_is_larger_than_its_files_makes_room_afterwards() -> None:
    models = Models(budget=3 * SIZE)
    models.sizes = {"c": 2 * SIZE}
    for model_id in "abc":
        await models.get(model_id)
    assert models.loaded() == {"b", "c"}
    models.calls.clear()
    for model_id in "ac":  # by now it is known
        await models.get(model_id)
    assert models.loaded() == {"a", "c"}


async def test_batches_take_memory_once_per_device_thread() -> None:
    memory = MemoryBudget(1000, device_threads=3)
    needs = [Footprint(300, 50), Footprint(400, 100)]
    assert memory.excess(needs) == 0
    assert memory.excess([*needs, Footprint(10, 20)]) == 10


async def test_a_refused_model_needs_a_batch_for_each_device_thread() -> None:
    models = Models()
    residents = eviction.ResidentModels(models.residency.slots, MemoryBudget(2 * 2**20, 3), models.metrics, lambda: 0.0)
    needed = Footprint(2**20, 2**20)
    with pytest.raises(LoadError, match=r"a needs 4\.0 MB; that is 2\.0 MB over the memory budget of 2\.0 MB"):
        await residents.make_room(models.residency.slots["a"], needed, needed)


async def test_a_model_in_use_is_unloaded_last_and_its_requests_are_answered() -> None:
    models = Models(budget=2 * SIZE)
    done = asyncio.Event()
    using = [asyncio.create_task(models.use("a", done)) for _ in range(3)]
    await until(lambda: models.loaded() == {"a"})
    for model_id in "bcd":
        await models.get(model_id)
    assert models.loaded() == {"a", "d"}
    busy = asyncio.create_task(models.use("d", done))
    loading = asyncio.create_task(models.get("b"))
    await until(lambda: "unloading" in (models.state("a"), models.state("d")))
    assert models.calls == list("abcd"), "not while what it waits for is in use"
    done.set()
    assert await asyncio.gather(*using, busy) == ["a", "a", "a", "d"]
    assert (await loading).id == "b"


async def test_a_drain_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "_DRAIN_S", 0.05)
    models = Models(budget=SIZE)
    using = asyncio.create_task(models.use("a", asyncio.Event()))
    await until(lambda: models.loaded() == {"a"})
    assert (await models.get("b")).id == "b"
    refused = await refusal(using)
    assert (refused.answer.status, refused.answer.wire) == (503, "MODEL_LOADING")
    assert refused.retry_after == 5


async def test_a_request_that_is_cancelled_in_a_drain_is_cancelled() -> None:
    models = Models()
    using = asyncio.create_task(models.use("a", asyncio.Event()))
    await until(lambda: models.loaded() == {"a"})
    leaving = models.residency.unload("a")
    await asyncio.sleep(0)
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    await leaving
    assert models.state("a") == "available"


async def test_requests_for_a_model_that_is_being_unloaded_load_it_again() -> None:
    models = Models()
    done = asyncio.Event()
    using = asyncio.create_task(models.use("a", done))
    await until(lambda: models.loaded() == {"a"})
    leaving = models.residency.unload("a")
    assert models.state("a") == "unloading"
    late = asyncio.create_task(models.get("a"))
    await asyncio.sleep(0.01)
    assert not late.done()
    done.set()
    assert await using == "a"
    await leaving
    assert (await late).id == "a"
    assert models.calls == ["a", "a"]


async def test_a_request_is_not_held_for_longer_than_the_load_wait() -> None:
    models = Models(load_wait_s=0.01)
    models.gates["a"] = threading.Event()
    assert (await refusal(models.get("a"))).answer.wire == "MODEL_LOADING"
    models.gates["a"].set()
    await until(lambda: models.loaded() == {"a"})


# --- loading ---------------------------------------------------------------------------------------------------------


async def test_a_model_is_loaded_once_for_everybody() -> None:
    models = Models()
    models.gates["a"] = threading.Event()
    asked = [asyncio.create_task(models.get("a")) for _ in range(50)]
    await until(lambda: models.calls)
    models.gates["a"].set()
    assert len({id(model) for model in await asyncio.gather(*asked)}) == 1
    assert models.calls == ["a"]


async def test_a_download_holds_up_no_other_model() -> None:
    gate = threading.Event()
    models = Models(fetch=lambda entry: entry.id == "a" and gate.wait(20))
    slow = asyncio.create_task(models.get("a"))
    assert (await models.get("b")).id == "b"
    assert models.state("a") == "loading"
    gate.set()
    assert (await slow).id == "a"


OUT_OF_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
    LoadError(LoadClass.OOM, "does not fit"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
async def test_out_of_memory_in_a_load_costs_one_other_model_and_one_more_try(error: Exception) -> None:
    models = Models()
    models.failures["c"] = [error]
    for model_id in "abc":
        await models.get(model_id)
    assert models.loaded() == {"b", "c"}
    assert models.calls == ["a", "b", "c", "c"]


async def test_out_of_memory_twice_is_a_failure() -> None:
    models = Models()
    models.failures["c"] = [MemoryError(), MemoryError()]
    for model_id in "ab":
        await models.get(model_id)
    refused = await refusal(models.get("c"))
    assert (refused.extras["error_class"], refused.extras["attempts"]) == ("OOM", 1)
    assert models.loaded() == {"b"}
    assert models.calls == ["a", "b", "c", "c"]
    models.now += 60
    assert (await models.get("c")).id == "c"


async def test_cooldowns_double_up_to_half_an_hour_and_end_with_the_eighth() -> None:
    models = Models()
    models.failures["a"] = [LoadError(LoadClass.NETWORK, "no route")] * 8
    cooldowns = []
    for attempt in range(1, 9):
        for _ in range(2):  # the second time nothing is tried
            refused = await refusal(served(models.residency, "a"))
            assert refused.extras == {"error_class": "NETWORK", "attempts": attempt, "permanent": attempt == 8}
        cooldowns.append(models.residency.slots["a"].retry_at - models.now)
        models.now += cooldowns[-1]
    assert cooldowns == [30, 60, 120, 240, 480, 960, 1800, 1800]
    models.now += 1e6
    assert (await refusal(models.get("a"))).extras["permanent"]
    assert len(models.calls) == 8


async def test_a_load_that_hangs_holds_up_no_other_and_is_not_begun_twice() -> None:
    models = Models(load_timeout_s=0.1)
    models.gates["a"] = threading.Event()
    hung = await refusal(models.get("a"))
    assert (hung.code, hung.extras["error_class"]) == (Code.MODEL_LOAD_FAILED, "TIMEOUT")
    assert "was not loaded within 0.1 s" in hung.message
    assert (await models.get("b")).id == "b"
    models.now += 31
    assert "an earlier load of a has not ended yet" in (await refusal(models.get("a"))).message
    assert models.calls == ["a", "b"]

    models.gates.pop("a").set()
    await until(lambda: not models.residency.slots["a"].hanging)
    assert models.state("a") == "failed", "whoever was told that it failed must not find it loaded a moment later"
    models.now += 61
    assert (await models.get("a")).id == "a"
    assert models.calls == ["a", "b", "a"]


@pytest.mark.parametrize("how", ["time-out", "removed", "closed"])
async def test_a_load_without_waiters_is_cancelled(how: str) -> None:
    began, ended = threading.Event(), threading.Event()

    def load(_: Entry, __: Weighed | None) -> LoadedModel:
        began.set()
        try:
            while True:
                stop_if_given_up()
                time.sleep(0.002)
        finally:
            ended.set()

    timeout_s = 0.1 if how == "time-out" else 20.0
    residency = Residency(
        MODELS, load, MemoryBudget(1000, 1), Metrics(), batch_tokens=1, load_wait_s=20, load_timeout_s=timeout_s
    )
    waiting = asyncio.ensure_future(served(residency, "a"))
    await until(began.is_set)
    if how == "removed":
        residency.remove("a")
    elif how == "closed":
        await residency.close()
    await refusal(waiting)
    await until(ended.is_set)


async def test_a_failed_load_leaves_nothing_in_memory() -> None:
    class Weights:
        pass

    made: list[weakref.ref[Weights]] = []

    def load(_: Entry, __: Weighed | None) -> LoadedModel:
        weights = Weights()
        made.append(weakref.ref(weights))
        raise LoadError(LoadClass.STORAGE, "cut off") from KeyError(id(weights))

    residency = Residency(
        MODELS, load, MemoryBudget(1000, 1), Metrics(), batch_tokens=1, load_wait_s=20, load_timeout_s=20
    )
    await refusal(served(residency, "a"))
    gc.collect()
    assert made[0]() is None


async def test_models_that_come_and_go_under_many_requests() -> None:
    """Room for two of five: every request is answered by its own model, which is in memory as long as it computes."""
    models = Models(budget=2 * SIZE)
    rng = random.Random(5)
    answered = Counter[str]()

    def in_memory() -> int:
        return sum(resident.footprint.weights for resident in models.residency._resident_models._residents.values())

    async def ask() -> None:
        for _ in range(8):
            model_id = rng.choice("abcde")
            assert await compute(model_id) == model_id
            answered[model_id] += 1

    async def compute(model_id: str) -> str:
        async with models.residency.serving(model_id) as model:
            for _ in range(rng.randrange(4)):
                assert models.residency._resident_models._residents[id(model)].model is model
                assert in_memory() <= 2 * SIZE
                await asyncio.sleep(0.001)
            return model.id

    await asyncio.gather(*(ask() for _ in range(8)))
    assert answered.total() == 64
    assert len(models.calls) > 5
    assert not any(slot.waiting for slot in models.residency.slots.values())


# --- idle models -----------------------------------------------------------------------------------------------------


async def test_idle_models_go_but_for_pinned_ones_and_those_in_use() -> None:
    models = Models(pinned=("c",))
    housekeeper = Housekeeper(models.residency, Settings(idle_evict_s=60), models.metrics, lambda: 0.0)
    for model_id in "bcd":
        await models.get(model_id)
    done = asyncio.Event()
    using = asyncio.create_task(models.use("a", done))
    await until(lambda: "a" in models.loaded())
    models.now += 59
    await models.get("d")
    housekeeper.evict_idle()
    await until(lambda: models.loaded() == {"a", "c", "d"})
    models.now += 60
    housekeeper.evict_idle()
    await until(lambda: models.loaded() == {"a", "c"})
    done.set()
    await using
    housekeeper.evict_idle()
    assert models.state("a") == "loaded", "it was used up to now"
    idle = models.metrics.registry.get_sample_value
    assert [idle("sie_idle_evictions_total", {"model": model_id}) for model_id in "abcd"] == [None, 1, None, 1]


async def test_a_device_is_quiet_once_after_ten_looks_without_work() -> None:
    busy_s = 0.0
    housekeeper = Housekeeper(Models().residency, Settings(), Metrics(), lambda: busy_s)
    assert not any(housekeeper.is_quiet() for _ in range(20)), "it has never done anything"
    for _ in range(2):
        busy_s += 1
        assert [housekeeper.is_quiet() for _ in range(30)] == [look == 10 for look in range(30)]


# --- files that change -----------------------------------------------------------------------------------------------


def changed(model_id: str) -> Entry:
    return Entry(model_id, repository=model_id, parameters=SIZE // 4, revision="2")


async def test_a_changed_model_answers_until_the_new_one_is_there() -> None:
    models = Models()
    old = await models.get("a")
    models.gates["a"] = threading.Event()
    models.residency.put(changed("a"))
    assert models.state("a") == "loading"
    await until(lambda: len(models.calls) == 2)
    assert await models.get("a") is old
    models.gates["a"].set()
    await until(lambda: models.state("a") == "loaded")
    assert (await models.get("a")).entry.revision == "2"
    await until(lambda: len(models.residency._resident_models._residents) == 1)
    assert models.gauge("sie_model_loaded", "a") == 1


async def test_a_changed_model_is_unloaded_first_if_both_do_not_fit() -> None:
    models = Models(budget=2 * SIZE - 1, pinned=("a",))
    await models.get("a")
    models.residency.put(changed("a"))
    assert (await models.get("a")).entry.revision is None, "up to the moment of its unloading"
    await until(lambda: models.state("a") == "loaded")
    assert (await models.get("a")).entry.revision == "2"


async def test_a_change_that_does_not_load_keeps_the_old_model() -> None:
    models = Models()
    await models.get("a")
    models.failures["a"] = [LoadError(LoadClass.STORAGE, "cut off")]
    models.residency.put(changed("a"))
    await until(lambda: models.state("a") == "loaded")
    assert (await models.get("a")).entry.revision is None
    error = models.residency.slots["a"].error
    assert error is not None
    assert error.kind is LoadClass.STORAGE
    models.residency.put(changed("a"))
    await until(lambda: models.state("a") == "loaded")
    assert (await models.get("a")).entry.revision == "2"


async def test_a_change_during_a_load_is_not_missed() -> None:
    models = Models()
    models.gates["a"] = threading.Event()
    waiting = asyncio.create_task(models.get("a"))
    await until(lambda: models.calls)
    models.residency.put(changed("a"))
    models.gates["a"].set()
    assert (await waiting).entry.revision == "2"


async def test_a_change_clears_a_failure() -> None:
    models = Models()
    models.failures["a"] = [LoadError(LoadClass.CONFIG, "no such architecture")]
    await refusal(models.get("a"))
    assert models.state("a") == "failed"
    models.residency.put(changed("a"))
    assert models.state("a") == "available"
    assert (await models.get("a")).entry.revision == "2"


async def test_a_removed_model_is_not_found_and_finishes_its_requests() -> None:
    models = Models()
    done = asyncio.Event()
    using = asyncio.create_task(models.use("a", done))
    await until(lambda: models.loaded() == {"a"})
    models.gates["b"] = threading.Event()
    waiting = asyncio.create_task(models.get("b"))
    await until(lambda: "b" in models.calls)
    for model_id in "ab":
        models.residency.remove(model_id)
        assert (await refusal(models.get(model_id))).answer.status == 404
    assert (await refusal(waiting)).answer.status == 404
    models.gates["b"].set()
    done.set()
    assert await using == "a"
    await until(lambda: not models.residency._resident_models._residents)
    assert models.gauge("sie_model_loaded", "a") == 0


async def test_closing_lets_everybody_go() -> None:
    models = Models()
    await models.get("a")
    models.gates["b"] = threading.Event()
    waiting = asyncio.create_task(models.get("b"))
    await until(lambda: "b" in models.calls)
    leaving = models.residency.unload("a")
    await models.residency.close()
    assert (await refusal(waiting)).answer.wire == "MODEL_LOADING"
    models.gates["b"].set()
    with suppress(asyncio.CancelledError):
        await leaving
    assert models.loaded() == set()


# --- looking after a folder ------------------------------------------------------------------------------------------


async def test_a_look_that_takes_long_holds_up_nothing_and_is_not_begun_twice(tmp_path: Path) -> None:
    models = Models()
    housekeeper = Housekeeper(models.residency, Settings(models_dir=str(tmp_path)), models.metrics, lambda: 0.0)
    looks, gate = [], threading.Event()

    class Slow:
        def poll(self) -> Changes:
            looks.append(len(looks))
            gate.wait(20)
            return Changes([Entry("new", repository="new")], [], {})

    slow: Any = Slow()
    for _ in range(2):
        await housekeeper.poll(slow)
    await until(lambda: looks)
    assert looks == [0]
    gate.set()
    for _ in range(1000):
        await housekeeper.poll(slow)
        models.now += 100
        await asyncio.sleep(0.002)
        if "new" in models.residency.slots:
            break
    assert "new" in models.residency.slots
    housekeeper.close()


async def test_housekeeping_continues_after_any_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sie_server.residency.housekeeping._INTERVAL_S", 0.001)
    housekeeper = Housekeeper(Models().residency, Settings(idle_evict_s=1), Metrics(), lambda: 0.0)
    evictions = looks = 0

    def evict() -> None:
        nonlocal evictions
        evictions += 1
        raise ZeroDivisionError("of an eviction")

    def quiet() -> bool:
        nonlocal looks
        looks += 1
        return False

    monkeypatch.setattr(housekeeper, "evict_idle", evict)
    monkeypatch.setattr(housekeeper, "is_quiet", quiet)
    housekeeper.start()
    while evictions < 3 or looks < 3:
        await asyncio.sleep(0.001)
    housekeeper.close()
    assert caplog.text.count("evicting idle models failed: ZeroDivisionError: of an eviction") == 1
