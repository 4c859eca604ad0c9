"""`--model ID=FOLDER`: the catalogue's settings with a folder's files, and folders that do not fit."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from sie_server.catalog.catalog import Entry, offered, shipped, with_models
from sie_server.checkpoints.description import inspect
from sie_server.checkpoints.load import load
from sie_server.engine.calls import ScoreCall
from sie_server.errors import LoadClass
from sie_testing.checkpoints import build
from sie_testing.engine_loop import running
from sie_testing.late_interaction_checkpoints import bge_m3, stanford
from sie_testing.serving import EMBEDDED, connect, error, in_process

CPU = torch.device("cpu")
M3 = "BAAI/bge-m3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("bert", "bert-encoder", "xlm-roberta", "xlm-roberta-encoder"):
        build(folder / name, name)
    bge_m3(folder / "m3", pickled=True)
    stanford(folder / "colbert")
    return folder


def entry(model_id: str, folder: Path) -> Entry:
    return with_models(shipped(), [f"{model_id}={folder}"])[model_id]


def test_the_settings_are_the_catalogues_and_the_weights_the_folders(folder: Path) -> None:
    given, catalogue = entry(M3, folder / "m3"), shipped()[M3]
    assert (given.profiles, given.pooling, given.pickled) == (catalogue.profiles, "cls", True)
    described, fault = inspect(given)
    assert fault is None
    assert described.outputs == catalogue.outputs
    assert described.widths == {"dense": 64, "sparse": 600, "multivector": 64}
    assert load(given, CPU, "float32").entry == described
    e5 = "intfloat/e5-small-v2"
    described, fault = inspect(entry(e5, folder / "bert-encoder"))
    assert (fault, described.query_template, described.outputs) == (None, "query: {text}", ("dense",))


def test_a_server_has_the_profiles_of_the_id(folder: Path) -> None:
    body = {"query": {"text": "what"}, "items": [{"text": "what is it"}]}
    with in_process(model=(f"{M3}={folder / 'm3'}",)) as server, connect(server.url) as api:
        assert api.post(f"/v1/score/{M3}", json=body).json()["model"] == M3
        [item] = api.post(f"/v1/encode/{M3}:sparse", json={"items": [{"text": "what"}]}).json()["items"]
        assert set(item) == {"sparse"}
        # The catalogue's other models are as they were.
        assert error(api.post(f"/v1/score/{M3}:none", json=body))[1] == "MODEL_NOT_FOUND"


def test_the_installed_folder_under_its_id_and_another_name_is_the_catalogues_model() -> None:
    package = shipped()[EMBEDDED].package
    assert package is not None
    name, _, inside = package.partition("/")
    spec = find_spec(name)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    installed = Path(spec.submodule_search_locations[0], inside)
    entries = {"catalogue": shipped()[EMBEDDED], "folder": entry(EMBEDDED, installed)}
    call = ScoreCall(EMBEDDED, "who made python?", ["Guido van Rossum made it.", "A snake."])
    with running({EMBEDDED: entries["catalogue"]}) as handle:
        expected = handle.run(handle.engine.score(call)).scores
    with running({EMBEDDED: entries["folder"], "mine": Entry("mine", folder=installed)}) as handle:
        assert handle.run(handle.engine.score(call)).scores == expected
        assert handle.model("mine").encoder is handle.model(EMBEDDED).encoder


@pytest.mark.parametrize(
    ("model_id", "name", "trouble"),
    [
        (M3, "bert-encoder", "it holds a BertModel, and the model is a XLMRobertaModel"),
        (M3, "xlm-roberta-encoder", "it holds a model for dense, without sparse"),
        (M3, "xlm-roberta", "it holds a model for score, without dense, sparse and multivector"),
        ("intfloat/e5-small-v2", "bert", "it holds a model for score, without dense"),
        ("BAAI/bge-reranker-base", "xlm-roberta-encoder", "it holds a model for dense, without score"),
        ("colbert-ir/colbertv2.0", "bert-encoder", "it holds a model for dense, without multivector and score"),
        (EMBEDDED, "colbert", "it holds a model for multivector and score, without dense"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_by_name(folder: Path, model_id: str, name: str, trouble: str) -> None:
    _, fault = inspect(entry(model_id, folder / name))
    assert fault is not None
    assert (fault.kind, str(fault)) == (LoadClass.CONFIG, f"{folder / name} does not fit {model_id}: {trouble}")


def test_an_id_has_one_folder(folder: Path) -> None:
    one, other = (f"{M3}={folder / name}" for name in ("m3", "bert"))
    assert with_models(shipped(), [one, M3, one])[M3].folder == folder / "m3"
    with pytest.raises(ValueError, match=f"--model {other}: the name '{M3}' is taken"):
        with_models(shipped(), [one, other])
    with pytest.raises(ValueError, match=f"'{M3}:sparse' is taken"):
        with_models(shipped(), [f"{M3}:sparse={folder / 'm3'}"])
    served = with_models(offered(shipped(), "none", [M3]), [one])
    assert (list(served), served[M3].profiles) == ([M3], shipped()[M3].profiles)
