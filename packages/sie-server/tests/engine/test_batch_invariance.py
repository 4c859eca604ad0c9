"""The same pair has the same score, bit for bit, whatever else is in the batch, in any order, at any load."""

import asyncio
import random
from collections.abc import Iterator

import httpx2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sie_server.catalog.catalog import Entry, shipped
from sie_server.engine.calls import EncodeCall, ScoreCall
from sie_testing.checkpoints import build, build_modular, text
from sie_testing.engine_loop import Running, running
from sie_testing.layers import needs_int8
from sie_testing.serving import EMBEDDED, Server

DECODERS = ("qwen3", "qwen2", "gemma")
SMALL = [
    *("bert", "xlm-roberta", "electra-narrow", "distilbert", "modernbert", "gte", "deberta", "deberta-v2", "mpnet"),
    *DECODERS,
]
QUERIES = ["what", "who made python", "is it a programming language " * 8]
# Tokens per document. Around every size where a kernel might change its mind, and past the 512 a model can take.
LENGTHS = [*range(20), 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 191, 192, 193, 255, 256, 300, 400, 511, 600]

documents = st.tuples(st.sampled_from(LENGTHS), st.integers(0, 1))
requests = st.lists(
    st.tuples(st.sampled_from(QUERIES), st.lists(documents, min_size=1, max_size=12)), min_size=1, max_size=6
)


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Entry]:
    folder = tmp_path_factory.mktemp("models")
    entries = {EMBEDDED: shipped()[EMBEDDED]}
    for name in SMALL:
        build(folder / name, name)
        entries[name] = Entry(name, folder=folder / name)
    build_modular(folder / "modular", "modernbert-encoder", "mean")
    entries["modular"] = Entry("modular", folder=folder / "modular")
    # Two layers at the real width: the kernels of MiniLM, in a sixth of the time.
    build(folder / "minilm", "minilm-l12", num_hidden_layers=2)
    entries["minilm"] = Entry("minilm", folder=folder / "minilm")
    return entries


@pytest.fixture(scope="module", params=["float32", "bfloat16", pytest.param("int8", marks=needs_int8)])
def engine(request: pytest.FixtureRequest, entries: dict[str, Entry]) -> Iterator[Running]:
    with running(entries, precision=request.param, workers=2, batch_tokens=512, preload=()) as engine:
        yield engine


async def _score(handle: Running, model_id: str, query: str, texts: list[str]) -> list[float]:
    return (await handle.engine.score(ScoreCall(model_id, query, texts))).scores


@pytest.mark.parametrize("model_id", [*SMALL, "modular", "minilm", EMBEDDED])
def test_score_does_not_depend_on_the_batch(engine: Running, model_id: str) -> None:
    alone: dict[tuple[str, str], float] = {}
    # Blank documents are refused where a prompt stands around them.
    shortest = 1 if model_id in DECODERS else 0

    async def together(batches: list[tuple[str, list[str]]]) -> list[list[float]]:
        return await asyncio.gather(*(_score(engine, model_id, query, texts) for query, texts in batches))

    # The embedded model has six layers of the same width as `minilm`.
    @settings(max_examples=4 if model_id == EMBEDDED else 12, suppress_health_check=list(HealthCheck))
    @given(requests, st.randoms(use_true_random=False))
    def check(drawn: list[tuple[str, list[tuple[int, int]]]], rng: random.Random) -> None:
        batches = [(query, [text(max(length, shortest), seed) for length, seed in docs]) for query, docs in drawn]
        for query, texts in batches:
            rng.shuffle(texts)
            for one in texts:
                if (query, one) not in alone:
                    alone[query, one] = engine.run(_score(engine, model_id, query, [one]))[0]
        for (query, texts), scores in zip(batches, engine.run(together(batches)), strict=True):
            assert scores == [alone[query, one] for one in texts]

    check()


def test_vectors_do_not_depend_on_the_batch(engine: Running) -> None:
    texts = [text(length, 1) for length in LENGTHS]
    names = ["dense", "multivector"]

    async def encode(some: list[str]) -> list[dict[str, np.ndarray]]:
        return (await engine.engine.encode(EncodeCall(EMBEDDED, some, names))).vectors

    for one, vectors in zip(texts, engine.run(encode(texts)), strict=True):
        [alone] = engine.run(encode([one]))
        for name in names:
            assert np.array_equal(vectors[name], alone[name]), (name, len(one.split()))


def test_scores_are_bit_identical_under_concurrent_load(server: Server) -> None:
    """Over HTTP, through the running server, while other clients ask other things."""
    texts = [text(length, 2) for length in LENGTHS]
    url = f"{server.url}/v1/score/{EMBEDDED}"

    def body(query: str, some: list[str]) -> dict[str, object]:
        return {"query": {"text": query}, "items": [{"id": one, "text": one} for one in some]}

    async def ask(client: httpx2.AsyncClient, query: str, some: list[str]) -> dict[str, float]:
        response = await client.post(url, json=body(query, some), headers={"Accept": "application/json"})
        assert response.status_code == 200, response.text
        return {entry["item_id"]: entry["score"] for entry in response.json()["scores"]}

    async def main() -> None:
        async with httpx2.AsyncClient(timeout=60) as client:
            expected = {}
            for one in texts:
                expected |= await ask(client, "what is python", [one])
            rng = random.Random(0)
            samples = [rng.sample(texts, rng.randint(1, len(texts))) for _ in range(12)]
            load = [ask(client, "something else", rng.sample(texts, 9)) for _ in range(6)]
            answers = await asyncio.gather(*(ask(client, "what is python", some) for some in samples), *load)
            for some, scores in zip(samples, answers, strict=False):
                assert scores == {one: expected[one] for one in some}

    asyncio.run(main())
