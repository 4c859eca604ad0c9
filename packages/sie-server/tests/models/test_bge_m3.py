"""BGE-M3: three embeddings of one text, and the four scores made of them, as its authors define them."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import XLMRobertaModel

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.load import load
from sie_server.errors import UnsupportedModelError
from sie_server.nn.packed import Packed
from sie_server.options import Comparison
from sie_testing.checkpoints import text
from sie_testing.late_interaction_checkpoints import bge_m3
from sie_testing.serving import connect, error, in_process

CPU = torch.device("cpu")
QUERY = "what is python python"
DOCUMENTS = ["", "python is a programming language", "snakes are reptiles", "is it is it python", text(300, 7)]
Vectors = NDArray[np.float32]


class Reference:
    """Chen et al. 2024 over transformers' states: sections 3.1 (what is embedded) and 4.1 (how it is compared)."""

    def __init__(self, folder: Path, heads: dict[str, Tensor]) -> None:
        self.heads = heads
        self.encoder = XLMRobertaModel.from_pretrained(folder, add_pooling_layer=False).eval()
        self.tokenizer = load(Entry("m", folder=folder), CPU).tokenizer

    @torch.inference_mode()
    def embed(self, one: str) -> tuple[Vectors, dict[int, float], Vectors]:
        [sequence] = self.tokenizer.encode_documents([one])
        states = self.encoder(input_ids=torch.from_numpy(sequence.ids)[None]).last_hidden_state[0]
        weights = torch.relu(F.linear(states, self.heads["sparse.weight"], self.heads["sparse.bias"]))[:, 0]
        sparse: dict[int, float] = {}
        for token, weight in zip(sequence.ids.tolist(), weights.tolist(), strict=True):
            if token not in (0, 1, 2, 3) and weight > 0:  # <s>, <pad>, </s>, <unk>
                sparse[token] = max(weight, sparse.get(token, 0.0))
        tokens = F.linear(states[1:], self.heads["colbert.weight"], self.heads["colbert.bias"])
        return F.normalize(states[0], dim=-1).numpy(), sparse, F.normalize(tokens, dim=-1).numpy()

    def score(self, query: str, document: str) -> dict[str, float]:
        (dense, sparse, tokens), (other, weights, rows) = self.embed(query), self.embed(document)
        return {
            "dense": float(dense @ other),
            "sparse": sum(weight * weights.get(token, 0.0) for token, weight in sparse.items()),
            "colbert": float((tokens @ rows.T).max(axis=1).mean()),
        }


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reference]:
    folder = tmp_path_factory.mktemp("m3")
    return folder, Reference(folder, bge_m3(folder))


@pytest.fixture(scope="module")
def api(checkpoint: tuple[Path, Reference]) -> Iterator[httpx2.Client]:
    with in_process(model=(f"m3={checkpoint[0]}",), precision="float32") as server, connect(server.url) as client:
        yield client


def scores(api: httpx2.Client, model: str = "m3", **options: Any) -> list[float]:
    body = {"query": {"text": QUERY}, "items": [{"text": one} for one in DOCUMENTS], "options": options}
    answer = api.post(f"/v1/score/{model}", json=body).json()["scores"]
    by_id = {entry["item_id"]: entry["score"] for entry in answer}
    return [by_id[f"item-{index}"] for index in range(len(DOCUMENTS))]


def test_all_outputs_of_one_call_equal_the_formulas(api: httpx2.Client, checkpoint: tuple[Path, Reference]) -> None:
    facts = api.get("/v1/models/m3").json()
    assert facts["outputs"] == ["dense", "sparse", "multivector", "score"]
    assert facts["dims"] == {"dense": 64, "sparse": 600, "multivector": 64}
    texts = [QUERY, *DOCUMENTS]
    body = {"items": [{"text": one} for one in texts], "params": {"output_types": ["dense", "sparse", "multivector"]}}
    items = api.post("/v1/encode/m3", json=body).json()["items"]
    weighed = 0
    for one, item in zip(texts, items, strict=True):
        dense, sparse, tokens = checkpoint[1].embed(one)
        np.testing.assert_allclose(item["dense"]["values"], dense, rtol=0, atol=1e-5)
        assert (item["sparse"]["dims"], item["sparse"]["indices"]) == (600, sorted(sparse))
        np.testing.assert_allclose(item["sparse"]["values"], [sparse[token] for token in sorted(sparse)], atol=1e-5)
        np.testing.assert_allclose(item["multivector"]["values"], tokens, rtol=0, atol=1e-5)
        weighed += len(sparse)
    assert weighed > 20, "vectors without weights prove little"


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, {"dense": 1}),
        ({"score_mode": "dense"}, {"dense": 1}),
        ({"score_mode": "sparse"}, {"sparse": 1}),
        ({"score_mode": "colbert"}, {"colbert": 1}),
        ({"score_mode": "hybrid"}, {"dense": 0.4, "sparse": 0.2, "colbert": 0.4}),
        (
            {"score_mode": "hybrid", "score_weights": {"dense": 0, "sparse": 2}},
            {"sparse": 2, "colbert": 0.4},
        ),
    ],
)
def test_scores_equal_the_formulas(
    api: httpx2.Client, checkpoint: tuple[Path, Reference], options: dict[str, Any], weights: dict[str, float]
) -> None:
    parts = [checkpoint[1].score(QUERY, one) for one in DOCUMENTS]
    expected = [sum(weight * part[mode] for mode, weight in weights.items()) for part in parts]
    assert len(set(expected)) > 2
    np.testing.assert_allclose(scores(api, **options), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("profile", "mode"), [("dense", "dense"), ("sparse", "sparse"), ("multivector", "colbert")])
def test_a_profile_of_one_output_scores_by_it(api: httpx2.Client, profile: str, mode: str) -> None:
    expected = scores(api, score_mode=mode)
    assert scores(api, f"m3:{profile}") == scores(api, profile=profile) == expected
    assert scores(api, f"m3:{profile}", score_mode="hybrid") == scores(api, score_mode="hybrid") != expected
    body = {"model": f"m3:{profile}", "query": QUERY, "documents": DOCUMENTS}
    results = api.post("/v2/rerank", json=body).json()["results"]
    own = {"sparse": [max(score, 0.0) / (1 + max(score, 0.0)) for score in expected]}
    unit = own.get(profile, [min(max(score, 0.0), 1.0) for score in expected])
    assert [each["relevance_score"] for each in sorted(results, key=lambda each: each["index"])] == unit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_mode": "lexical"}, "Invalid enum value 'lexical' - at `$.options.score_mode`"),
        ({"score_weights": {"dense": -1}}, "Expected `float` >= 0.0 - at `$.options.score_weights.dense`"),
        ({"score_weights": {"dense": True}}, "Expected `float`, got `bool` - at `$.options.score_weights.dense`"),
        (
            {"score_mode": "hybrid", "score_weights": {"dense": 0, "sparse": 0, "colbert": 0}},
            "Field 'options.score_weights' must have at least one weight above zero",
        ),
    ],
)
def test_invalid_modes_and_weights_are_refused(api: httpx2.Client, options: dict[str, Any], message: str) -> None:
    answer = api.post("/v1/score/m3", json={"query": {"text": "a"}, "items": [{"text": "b"}], "options": options})
    assert error(answer) == (400, "INVALID_INPUT", message)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_nothing_depends_on_the_batch(checkpoint: tuple[Path, Reference], precision: Any) -> None:
    torch.set_num_threads(1)
    model = load(Entry("m", folder=checkpoint[0]), CPU, precision)
    texts = [*DOCUMENTS, "", text(3, 1), text(17, 2)]
    query = model.tokenizer.encode_query(QUERY)
    heads = {mode: model.similarity(query, Comparison(mode)) for mode in ("dense", "sparse", "colbert", "hybrid")}
    sequences = model.tokenizer.encode_documents(texts)
    with torch.inference_mode():
        leading, _ = model.encoder(Packed.of([query], CPU))
        hidden, lengths = model.encoder(Packed.of(sequences, CPU))
        for mode, head in heads.items():
            head.observe_lead(leading)
            together = head(hidden, lengths, sequences)
            for sequence, score in zip(sequences, together, strict=True):
                assert head(*model.encoder(Packed.of([sequence], CPU)), [sequence]) == [score], mode


def test_pickled_weights_are_read_where_the_catalogue_says_so(
    checkpoint: tuple[Path, Reference], tmp_path: Path
) -> None:
    bge_m3(tmp_path, pickled=True)
    with pytest.raises(UnsupportedModelError, match=r"only pickled weights \(pytorch_model.bin\)"):
        load(Entry("m", folder=tmp_path), CPU)
    model = load(Entry("m", folder=tmp_path, pickled=True), CPU, "float32")
    sequences = model.tokenizer.encode_documents(DOCUMENTS)
    with torch.inference_mode():
        vectors = model.embedders(["dense"])["dense"](*model.encoder(Packed.of(sequences, CPU)), sequences)
    np.testing.assert_allclose(vectors, [checkpoint[1].embed(one)[0] for one in DOCUMENTS], rtol=0, atol=1e-5)


class _Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harm"),)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bge_m3(tmp_path)
    (tmp_path / "sparse_linear.pt").write_bytes(pickle.dumps({"weight": _Harm()}))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"sparse_linear.pt is not a readable file of tensors"):
        load(Entry("m", folder=tmp_path), CPU)
    assert not (tmp_path / "harm").exists()
