"""Checkpoints as sentence-transformers saves them: built, saved and scored by it, then loaded by us."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Pooling, Transformer
from torch import nn

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.description import inspect
from sie_server.checkpoints.load import load
from sie_server.checkpoints.source import locate
from sie_server.errors import LoadError, UnsupportedModelError
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.packed import Packed
from sie_server.tokenization.text_templates import fill
from sie_testing.checkpoints import SMALL, build, build_modular, ettin_head, text
from sie_testing.loads import cached

CPU = torch.device("cpu")
WIDTH = SMALL["hidden_size"]
QUERY, DOCUMENTS = "what is python", [text(length, seed=i) for i, length in enumerate([0, 1, 3, 17, 17, 60, 200, 700])]


def to_score(inputs: int, **settings: Any) -> Dense:
    return Dense(inputs, 1, **{"activation_function": nn.Identity(), "module_output_name": "scores", **settings})


def narrowing(width: int) -> list[nn.Module]:
    return [
        LayerNorm(width),
        Dense(width, 128, activation_function=nn.ReLU()),
        Dense(128, 24, activation_function=nn.Identity()),
        to_score(24, activation_function=nn.Tanh()),
    ]


HEADS: dict[str, tuple[str, str, Callable[[int], list[nn.Module]]]] = {
    "ettin": ("modernbert-encoder", "cls", ettin_head),
    "mean": ("modernbert-encoder", "mean", ettin_head),
    "bert": ("bert-encoder", "cls", lambda width: [Dense(width, 24, activation_function=nn.Tanh()), to_score(24)]),
    "one-layer": ("bert-encoder", "mean", lambda width: [to_score(width, bias=False)]),
    "narrowing": ("xlm-roberta-encoder", "cls", narrowing),
}


@torch.inference_mode()
def ours(model: LoadedModel, texts: list[str]) -> list[float]:
    """Raw logits of one packed batch."""
    assert model.encoder.head is not None
    sequences = model.tokenizer.encode_pairs(QUERY, texts)
    return model.encoder.head(*model.encoder(Packed.of(sequences, CPU)), sequences)


@pytest.mark.parametrize("name", HEADS)
def test_scores_equal_sentence_transformers(tmp_path: Path, name: str) -> None:
    reference = build_modular(tmp_path, *HEADS[name])
    expected = reference.predict([(QUERY, document) for document in DOCUMENTS])
    assert np.ptp(expected) > 1e-2, "scores that do not differ prove nothing"
    model = load(Entry("m", folder=tmp_path), CPU, "float32")
    assert model.score == "logit"
    np.testing.assert_allclose(ours(model, DOCUMENTS), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose([ours(model, [one])[0] for one in DOCUMENTS], expected, rtol=0, atol=1e-5)


def test_bfloat16_scores_stay_within_two_percent_of_the_spread(tmp_path: Path) -> None:
    build_modular(tmp_path, *HEADS["ettin"])
    exact, rounded = (ours(load(Entry("m", folder=tmp_path), CPU, p), DOCUMENTS * 5) for p in ("float32", "bfloat16"))
    assert np.abs(np.subtract(rounded, exact)).max() <= 2e-2 * np.ptp(exact)
    assert rounded != exact, "bfloat16 did not reach the products"


@pytest.mark.parametrize(("activation", "score"), [(nn.Identity(), "logit"), (nn.Sigmoid(), "probability")])
def test_what_a_score_is_survives_saving(tmp_path: Path, activation: nn.Module, score: str) -> None:
    build(tmp_path / "transformers", "bert")
    reference = CrossEncoder(str(tmp_path / "transformers"), device="cpu", activation_fn=activation)
    reference.save_pretrained(str(tmp_path / "saved"))
    build_modular(tmp_path / "modular", "bert-encoder", "cls", ettin_head, activation)
    for name in ("saved", "modular"):
        entry = Entry("m", folder=tmp_path / name)
        assert inspect(entry)[0].score == score
        assert load(entry, CPU, "float32").score == score


def test_a_head_without_a_word_on_its_scores_gives_probabilities(tmp_path: Path) -> None:
    build_modular(tmp_path, "bert-encoder", "cls")
    (tmp_path / "config_sentence_transformers.json").unlink()
    assert load(Entry("m", folder=tmp_path), CPU, "float32").score == "probability"
    assert isinstance(CrossEncoder(str(tmp_path), device="cpu").activation_fn, nn.Sigmoid)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_modular(tmp_path, "bert-encoder", "cls")
    return tmp_path


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal(folder: Path) -> str:
    with pytest.raises(UnsupportedModelError) as caught:
        load(Entry("m", folder=folder), CPU, "float32")
    return str(caught.value)


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("2_Dense/config.json", {"activation_function": "torch.nn.SELU"}, "2_Dense: activation_function 'SELU' is not"),
        ("2_Dense/config.json", {"activation_function": "mine.GELU"}, "activation_function 'mine.GELU' is not"),
        ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "2_Dense maps 'token_embeddings' to"),
        ("4_Dense/config.json", {"out_features": 0}, "4_Dense/config.json: Expected `int` >= 1"),
        ("4_Dense/config.json", {"out_features": 3}, "4_Dense has 3 outputs; a reranker has one"),
        ("4_Dense/config.json", {"out_features": "1"}, "4_Dense/config.json: Expected `int`, got `str`"),
        ("2_Dense/config.json", {"out_features": 32}, "2_Dense/linear.weight has shape (64, 64)"),
        ("2_Dense/config.json", {"bias": True}, "1 weights missing ['head.2_Dense.bias']"),
        ("1_Pooling/config.json", {"pooling_mode": "weightedmean"}, "pooling ['weightedmean'] is not supported"),
    ],
)
def test_a_head_we_do_not_compute_is_refused(folder: Path, file: str, changes: dict[str, Any], words: str) -> None:
    edit(folder / file, **changes)
    assert words in refusal(folder)


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (
            ["Transformer", "Pooling", "WordWeights", "Dense"],
            "lists Transformer, Pooling, WordWeights, Dense; supported:",
        ),
        (["Transformer", "Normalize", "Pooling"], "lists Transformer, Normalize, Pooling; supported:"),
    ],
)
def test_modules_we_do_not_compute_are_refused_by_name(folder: Path, kinds: list[str], words: str) -> None:
    listed = [
        {"type": f"sentence_transformers.models.{kind}", "path": f"{i}_{kind}" if i else ""}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    assert words in refusal(folder)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ({"type": "custom.Dense", "path": "4_Dense"}, "lists Transformer, Pooling, custom.Dense; supported:"),
        (
            {"type": "sentence_transformers.models.Dense", "path": "../elsewhere"},
            "modules.json is not a list of modules",
        ),
        ({"type": "sentence_transformers.models.Transformer", "path": "0_BERT"}, "the path '0_BERT' of Transformer"),
        ({"path": "4_Dense"}, "modules.json is not a list of modules: Object missing required field `type`"),
    ],
)
def test_code_and_folders_of_others_are_refused(folder: Path, module: dict[str, str], words: str) -> None:
    listed = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*listed[:2], module]))
    assert words in refusal(folder)


def test_weights_of_modules_are_strict(folder: Path) -> None:
    path = folder / "2_Dense" / "model.safetensors"
    weights = load_file(path)
    save_file({**weights, "residual.weight": torch.zeros(1)}, path)
    assert "1 unexpected ['2_Dense/residual.weight']" in refusal(folder)
    save_file({**weights, "linear.bias": torch.zeros(WIDTH)}, path)
    assert "1 unexpected ['2_Dense/linear.bias']" in refusal(folder)
    path.unlink()
    with pytest.raises(LoadError, match=r"model\.safetensors is missing from .*/2_Dense"):
        load(Entry("m", folder=folder), CPU, "float32")


def test_a_cache_without_the_head_is_not_complete(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cached(folder, tmp_path / "cache")))
    monkeypatch.setattr("sie_server.checkpoints.hub.is_offline_mode", lambda: True)
    entry = Entry("owner/name", repository="owner/name")
    assert locate(entry).folder.resolve() == folder
    (folder / "4_Dense" / "model.safetensors").unlink()
    with pytest.raises(Exception, match="is not in the local cache"):
        locate(entry)


# --- prompts ---------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def embedded(model: LoadedModel, template: str | None) -> np.ndarray:
    """DOCUMENTS in the template, as `/v1/encode` embeds them, not normalised."""
    texts = fill(template, DOCUMENTS, None)
    sequences = model.tokenizer.encode_documents(texts)
    head = model.embedders(["dense"], normalize=False)["dense"]
    return np.stack(head(*model.encoder(Packed.of(sequences, CPU)), sequences))


@pytest.mark.parametrize(
    ("prompts", "default"),
    [
        ({"query": "who made ", "document": "it is "}, None),
        ({"query": "who made ", "document": ""}, "query"),
        ({"query": "{what} {{is} ", "document": "{text} "}, None),
        ({"document": "it "}, "document"),
        # encode_document takes a prompt "passage" only of a model that was made with prompts of its own.
        ({"query": "who ", "passage": "it is "}, "passage"),
        ({"other": "it is "}, "other"),
        ({"query": None, "document": None}, None),
        ({}, None),
    ],
)
def test_prompts_are_those_of_encode_query_and_encode_document(
    tmp_path: Path, prompts: dict[str, str], default: str | None
) -> None:
    encoder = tmp_path / "encoder"
    width = build(encoder, "bert-encoder").config.hidden_size
    SentenceTransformer(modules=[Transformer(str(encoder)), Pooling(width, "mean")]).save_pretrained(str(tmp_path))
    edit(tmp_path / "config_sentence_transformers.json", prompts=prompts, default_prompt_name=default)
    reference = SentenceTransformer(str(tmp_path), device="cpu")
    entry, _ = inspect(Entry("m", folder=tmp_path))
    model = load(entry, CPU, "float32")
    for template, expected in (
        (entry.query_template, reference.encode_query(DOCUMENTS)),
        (entry.doc_template, reference.encode_document(DOCUMENTS)),
    ):
        np.testing.assert_allclose(embedded(model, template), expected, rtol=0, atol=1e-5)
        if template is not None:
            assert not np.allclose(embedded(model, None), expected, rtol=0, atol=1e-3)


def test_an_entry_s_templates_go_before_the_folder_s_prompts(tmp_path: Path) -> None:
    build(tmp_path, "bert-encoder")
    path = tmp_path / "config_sentence_transformers.json"
    path.write_text(json.dumps({"prompts": {"query": "who ", "document": "it "}}))
    entry, _ = inspect(Entry("m", folder=tmp_path, query_template="what {text}"))
    assert (entry.query_template, entry.doc_template) == ("what {text}", None)
    (tmp_path / "1_Pooling").mkdir()
    pooling = tmp_path / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({"pooling_mode_mean_tokens": True, "include_prompt": False}))
    assert "1_Pooling/config.json: include_prompt false is not supported" in refusal(tmp_path)
    path.write_text(json.dumps({"prompts": {"query": 1}}))
    assert "prompts: Expected `str | null`, got `int`" in refusal(tmp_path)
