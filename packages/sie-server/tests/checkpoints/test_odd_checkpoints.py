"""Checkpoints that are written in another way than most: what the reference computes of them, or a refusal by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize, Pooling, Transformer
from torch import nn

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.description import inspect
from sie_server.checkpoints.load import load
from sie_server.checkpoints.source import locate
from sie_server.engine.score_activation import SCORE_ACTIVATIONS
from sie_server.errors import LoadClass, LoadError, UnsupportedModelError
from sie_server.nn.packed import Packed
from sie_testing.checkpoints import SMALL, build, text

CPU = torch.device("cpu")
QUERY = "what is python"
DOCUMENTS = [text(length, seed=i) for i, length in enumerate([0, 1, 3, 17, 60, 200])]
Change = Callable[[Path], None]


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; `...` takes a key out."""
    settings = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in settings.items() if value is not ...}))


def config(**changes: Any) -> Change:
    return lambda folder: edit(folder / "config.json", **changes)


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file({name: value.contiguous() for name, value in change(load_file(path)).items()}, path, {"format": "pt"})


def with_tensors(**extra: torch.Tensor) -> Change:
    tensors = {name.replace("__", "."): value for name, value in extra.items()}
    return lambda folder: rewrite(folder, lambda weights: {**weights, **tensors})


def old_norms(folder: Path) -> None:
    def renamed(name: str) -> str:
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    rewrite(folder, lambda weights: {renamed(name): value for name, value in weights.items()})


def without_prefix(folder: Path) -> None:
    rewrite(folder, lambda weights: {name.removeprefix("bert."): value for name, value in weights.items()})


def halved(folder: Path) -> None:
    rewrite(folder, lambda weights: {name: value.half() for name, value in weights.items()})


def sharded(folder: Path, names: str = "weights-{}.safetensors") -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = {name: names.format(i % 3) for i, name in enumerate(sorted(weights))}
    for file in set(files.values()):
        save_file({name: weights[name] for name in weights if files[name] == file}, folder / file, {"format": "pt"})
    # One that the index does not go by.
    save_file({name: torch.zeros_like(value) for name, value in weights.items()}, folder / "model-0.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


def positive_scores(folder: Path) -> None:
    rewrite(folder, lambda weights: {**weights, "classifier.bias": torch.ones(1)})
    edit(folder / "config.json", sentence_transformers={"activation_fn": "torch.nn.modules.activation.ReLU"})


@torch.inference_mode()
def scored(folder: Path) -> list[float]:
    model = load(Entry("m", folder=folder), CPU, "float32")
    assert model.encoder.head is not None
    sequences = model.tokenizer.encode_pairs(QUERY, DOCUMENTS)
    logits = model.encoder.head(*model.encoder(Packed.of(sequences, CPU)), sequences)
    function = SCORE_ACTIVATIONS.get(model.score, float)
    return [function(logit) for logit in logits]


@torch.inference_mode()
def embedded(folder: Path, normalize: bool = False) -> np.ndarray:
    model = load(Entry("m", folder=folder), CPU, "float32")
    sequences = model.tokenizer.encode_documents(DOCUMENTS)
    head = model.embedders(["dense"], normalize=normalize)["dense"]
    return np.stack(head(*model.encoder(Packed.of(sequences, CPU)), sequences))


# --- rerankers -------------------------------------------------------------------------------------------------------

_IDENTITY = "torch.nn.modules.linear.Identity"

RERANKERS: dict[str, tuple[str, dict[str, Any], Change]] = {
    "labels-null": ("bert", {}, config(id2label=None, label2id=None, num_labels=1)),
    "labels-missing": ("bert", {}, config(id2label=..., label2id=..., num_labels=1)),
    "architectures-null": ("bert", {}, config(architectures=None)),
    "architectures-null-roberta": ("roberta", {}, config(architectures=None)),
    "architectures-another": ("electra", {}, config(architectures=["BertForSequenceClassification"])),
    "architectures-two": ("distilbert", {}, config(architectures=["A", "DistilBertModel"])),
    "old-norms": ("bert", {}, old_norms),
    "old-norms-electra": ("electra-narrow", {}, old_norms),
    "shards": ("bert", {}, sharded),
    "buffers-distilbert": (
        "distilbert",
        {},
        with_tensors(distilbert__embeddings__position_ids=torch.arange(512)[None]),
    ),
    "buffers-electra": (
        "electra",
        {},
        with_tensors(
            electra__embeddings__position_ids=torch.arange(512)[None],
            electra__embeddings__token_type_ids=torch.zeros(1, 512, dtype=torch.int64),
        ),
    ),
    "no-prefix": ("bert", {}, without_prefix),
    "half": ("deberta", {}, halved),
    "language-head-beside": ("xlm-roberta", {}, with_tensors(lm_head__bias=torch.zeros(600))),
    "discriminator-beside": (
        "electra",
        {},
        with_tensors(discriminator_predictions__dense__weight=torch.zeros(64, 64)),
    ),
    "every-second-global": ("modernbert", {}, config(layer_types=..., global_attn_every_n_layers=2)),
    "odd-window": ("modernbert", {}, config(local_attention=33)),
    "gelu-new": ("bert", {"hidden_act": "gelu_new"}, config()),
    "gelu-tanh": ("distilbert", {"activation": "gelu_pytorch_tanh"}, config()),
    "silu": ("roberta", {"hidden_act": "silu"}, config()),
    "gelu-python": ("electra", {"hidden_act": "gelu_python"}, config()),
    "modernbert-silu": ("modernbert", {"hidden_activation": "silu"}, config()),
    "modernbert-theta-outside": (
        "modernbert",
        {},
        config(rope_parameters=..., global_rope_theta=50_000.0, local_rope_theta=5_000.0),
    ),
    "modernbert-eps-missing": ("modernbert", {}, config(norm_eps=...)),
    "deberta-eps-missing": ("deberta", {}, config(layer_norm_eps=...)),
    "gte-theta-missing": ("gte", {"rope_parameters": None}, config(rope_parameters=...)),
    "gte-theta-beside": ("gte", {}, config(rope_parameters={"rope_type": "default"}, rope_theta=20_000.0)),
    "bert-head-dim": ("bert", {}, config(head_dim=7, embedding_size=5)),
    "roberta-one-type": ("roberta", {"type_vocab_size": 1}, config()),
    "roberta-two-types": ("roberta", {"type_vocab_size": 2}, config()),
    "mpnet-padding-0": ("mpnet", {}, config(pad_token_id=0)),
    "electra-summary": ("electra", {}, config(summary_type="mean", summary_activation="tanh", summary_use_proj=False)),
    "regression": ("bert", {}, config(problem_type="regression")),
    "multi-label": ("bert", {}, config(problem_type="multi_label_classification")),
    "sinusoidal": ("distilbert", {}, config(sinusoidal_pos_embds=True)),
    **{
        f"score-{name}": ("bert", {}, config(sentence_transformers={"activation_fn": f"torch.nn.modules.{path}"}))
        for name, path in {
            "sigmoid": "activation.Sigmoid",
            "identity": "linear.Identity",
            "tanh": "activation.Tanh",
            "log-sigmoid": "activation.LogSigmoid",
        }.items()
    },
    "score-relu": ("bert", {}, positive_scores),
    "score-short-path": ("bert", {}, config(sbert_ce_default_activation_function="torch.nn.Tanh")),
    "score-null": (
        "bert",
        {},
        config(sentence_transformers={"activation_fn": None}, sbert_ce_default_activation_function=_IDENTITY),
    ),
}


@pytest.mark.parametrize("name", RERANKERS)
def test_scores_equal_sentence_transformers(name: str, tmp_path: Path) -> None:
    base, overrides, change = RERANKERS[name]
    build(tmp_path, base, **overrides)
    change(tmp_path)
    expected = CrossEncoder(str(tmp_path), device="cpu").predict([(QUERY, each) for each in DOCUMENTS])
    assert np.ptp(expected) > 1e-3, "scores that do not differ prove nothing"
    np.testing.assert_allclose(scored(tmp_path), expected, rtol=0, atol=2e-5)


REFUSED: dict[str, tuple[str, dict[str, Any], Change, str]] = {
    name: (base, {}, config(**changes), word)
    for name, base, changes, word in (
        ("is-decoder", "bert", {"is_decoder": True}, "is_decoder True"),
        ("cross-attention", "roberta", {"add_cross_attention": True}, "add_cross_attention True"),
        ("quantized", "bert", {"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config"),
        ("pruned", "bert", {"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ("relative", "electra", {"position_embedding_type": "relative_key_query"}, "position_embedding_type"),
        ("alibi", "bert", {"position_embedding_type": "alibi"}, "position_embedding_type 'alibi'"),
        ("act", "bert", {"hidden_act": "gelu_"}, "hidden_act 'gelu_'"),
        ("act-list", "bert", {"hidden_act": ["gelu"]}, "hidden_act ['gelu']"),
        ("act-distilbert", "distilbert", {"activation": "relu"}, "activation 'relu'"),
        ("classifier-act", "modernbert", {"classifier_activation": "relu"}, "classifier_activation 'relu'"),
        ("pooler-act", "deberta", {"pooler_hidden_act": "identity"}, "pooler_hidden_act 'identity'"),
        ("pooler-width", "deberta", {"pooler_hidden_size": 32}, "pooler_hidden_size 32"),
        ("head-size", "deberta", {"attention_head_size": 8}, "attention_head_size 8"),
        ("buckets", "mpnet", {"relative_attention_num_buckets": 64}, "relative_attention_num_buckets 64"),
        ("layer-types", "modernbert", {"layer_types": ["full_attention"]}, "layer_types 1"),
        ("window", "modernbert", {"sliding_window": 5}, "sliding_window 5"),
        ("yarn", "gte", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type 'yarn'"),
        ("partial", "gte", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ("labels", "bert", {"id2label": {"0": "a"}, "num_labels": 3}, "num_labels is 3, but id2label has 1"),
        ("labels-3", "bert", {"id2label": None, "num_labels": 3}, "3 labels"),
        ("softmax", "bert", {"sentence_transformers": {"activation_fn": "torch.nn.Softmax"}}, "'torch.nn.Softmax'"),
        ("part", "bert", {"sentence_transformers": {"activation_fn": "mine.Sigmoid"}}, "'mine.Sigmoid'"),
        ("layers", "bert", {"num_hidden_layers": 10**30}, "num_hidden_layers 1000"),
        ("heads", "bert", {"num_attention_heads": 5}, "hidden_size 64 is not a multiple of num_attention_heads 5"),
        ("heads-distilbert", "distilbert", {"n_heads": 5}, "dim 64 is not a multiple of n_heads 5"),
        ("eps", "bert", {"layer_norm_eps": -1}, "layer_norm_eps -1"),
        ("types", "bert", {"type_vocab_size": 0}, "type_vocab_size 0"),
        ("padding", "roberta", {"pad_token_id": None}, "pad_token_id null"),
        ("padding-last", "roberta", {"pad_token_id": 600}, "max_position_embeddings 514 leaves no position"),
        ("type", "bert", {"model_type": "nomic_bert"}, "model_type 'nomic_bert'"),
        ("lora", "xlm-roberta", {"lora_adaptations": ["retrieval.query"]}, "lora_adaptations"),
    )
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_settings_are_refused_by_name(name: str, tmp_path: Path) -> None:
    base, overrides, change, word = REFUSED[name]
    build(tmp_path, base, **overrides)
    change(tmp_path)
    entry, fault = inspect(Entry("m", folder=tmp_path))
    assert fault is not None
    assert word in str(fault)
    with pytest.raises(UnsupportedModelError) as refused:
        load(entry, CPU, "float32")
    assert str(refused.value) == str(fault)


# --- embedding models ------------------------------------------------------------------------------------------------


def embedder(folder: Path, base: str, pooling: str, *behind: nn.Module, **overrides: Any) -> None:
    width = build(folder / "encoder", base, **overrides).config.hidden_size
    (folder / "encoder" / "chat_template.jinja").unlink(missing_ok=True)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in nn.ModuleList(behind).parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    chain = [Transformer(str(folder / "encoder")), Pooling(width, pooling), *behind]
    SentenceTransformer(modules=chain, device="cpu").save_pretrained(str(folder))


def moved_pooling(folder: Path) -> None:
    """Pooling in a sub-folder of another name, and another one where it mostly is."""
    (folder / "1_Pooling").rename(folder / "9_Pooling")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    listed = json.loads((folder / "modules.json").read_text())
    listed[1]["path"] = "9_Pooling"
    (folder / "modules.json").write_text(json.dumps(listed))


def no_flag(folder: Path) -> None:
    (folder / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 64, "pooling_mode_cls_token": false}'
    )


_WIDTH = SMALL["hidden_size"]
EMBEDDERS: dict[str, tuple[str, str, Callable[[], list[nn.Module]], dict[str, Any], Change]] = {
    "all-mpnet": ("mpnet-encoder", "mean", list, {}, config(architectures=["MPNetForMaskedLM"])),
    "xlm-r-mlm": ("xlm-roberta-encoder", "cls", list, {}, config(architectures=["XLMRobertaForMaskedLM"])),
    "bert-pretraining": ("bert-encoder", "cls", list, {}, config(architectures=["BertForPreTraining"])),
    "bert-mlm": ("bert-sparse-encoder", "mean", list, {}, config()),
    "bert-classifier": ("bert", "mean", list, {}, config()),
    "roberta-classifier": ("roberta", "mean", list, {}, config(architectures=None)),
    **{
        f"{base}-pooled": (base, "mean", list, {}, config())
        for base in ("gte", "deberta", "distilbert", "electra-narrow", "modernbert", "qwen3-classifier", "qwen3-untied")
    },
    "gemma-hidden-activation": ("gemma-legacy", "mean", list, {}, config(hidden_activation="gelu_pytorch_tanh")),
    "null": ("bert-encoder", "mean", list, {}, config(architectures=None)),
    "distiluse": ("bert-encoder", "mean", lambda: [Dense(_WIDTH, 24, activation_function=nn.Tanh())], {}, config()),
    "labse": (
        "bert-encoder",
        "cls",
        lambda: [Dense(_WIDTH, _WIDTH, activation_function=nn.Tanh()), Normalize()],
        {},
        config(),
    ),
    "embedding-gemma": (
        "modernbert-encoder",
        "mean",
        lambda: [
            Dense(_WIDTH, 96, bias=False, activation_function=nn.Identity()),
            Dense(96, _WIDTH, bias=False, activation_function=nn.Identity()),
            Normalize(),
        ],
        {},
        config(),
    ),
    "normalize-in-between": (
        "xlm-roberta-encoder",
        "mean",
        lambda: [Normalize(), LayerNorm(_WIDTH), Dense(_WIDTH, 16, activation_function=nn.ReLU())],
        {},
        config(),
    ),
    "stella": (
        "qwen2",
        "lasttoken",
        lambda: [Dense(_WIDTH, 32, activation_function=nn.Identity())],
        {},
        config(is_causal=False),
    ),
    "gte-qwen2": ("qwen2", "lasttoken", list, {}, config(is_causal=False)),
    "qwen3-bidirectional": ("qwen3", "mean", list, {}, config(is_causal=False, architectures=["Qwen3ForCausalLM"])),
    "gemma-bidirectional": ("gemma", "mean", list, {}, config(is_causal=False)),
    "qwen3-theta-beside": (
        "qwen3",
        "lasttoken",
        list,
        {},
        config(rope_parameters={"rope_type": "default"}, rope_theta=500.0),
    ),
    "qwen2-old-keys": (
        "qwen2",
        "lasttoken",
        list,
        {},
        config(rope_parameters=..., rope_theta=2_000.0, rope_scaling=None),
    ),
    "qwen3-linear": (
        "qwen3",
        "mean",
        list,
        {},
        config(rope_parameters=..., rope_theta=10_000.0, rope_scaling={"type": "linear", "factor": 4.0}),
    ),
    "qwen3-scaling-first": (
        "qwen3",
        "mean",
        list,
        {},
        config(
            rope_parameters={"rope_type": "default", "rope_theta": 100.0},
            rope_scaling={"rope_type": "linear", "factor": 2.0, "rope_theta": 900.0},
        ),
    ),
    "qwen2-eps-missing": ("qwen2", "mean", list, {}, config(rms_norm_eps=...)),
    "qwen2-window-off": (
        "qwen2",
        "mean",
        list,
        {},
        config(sliding_window=4, use_sliding_window=False, layer_types=...),
    ),
    "qwen2-window-behind": (
        "qwen2",
        "mean",
        list,
        {},
        config(sliding_window=4, use_sliding_window=True, max_window_layers=3, layer_types=...),
    ),
    "qwen2-bias-key": ("qwen2", "mean", list, {}, config(attention_bias=False)),
    "moved-pooling": ("bert-encoder", "mean", list, {}, moved_pooling),
    "no-flag": ("bert-encoder", "mean", list, {}, no_flag),
}


@pytest.mark.parametrize("name", EMBEDDERS)
def test_embeddings_equal_sentence_transformers(name: str, tmp_path: Path) -> None:
    base, pooling, behind, overrides, change = EMBEDDERS[name]
    embedder(tmp_path, base, pooling, *behind(), **overrides)
    change(tmp_path)
    reference = SentenceTransformer(str(tmp_path), device="cpu")
    expected = reference.encode(DOCUMENTS)
    last_normalizes = type(list(reference)[-1]).__name__ == "Normalize"
    assert np.ptp(expected, axis=0).max() > 1e-2, "vectors that do not differ prove nothing"
    np.testing.assert_allclose(embedded(tmp_path, last_normalizes), expected, rtol=0, atol=2e-5)
    entry, fault = inspect(Entry("m", folder=tmp_path))
    assert fault is None
    assert {"dense", "score"} <= set(entry.outputs or ())
    assert entry.dims == expected.shape[1]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"is_causal": None}, "is_causal null"),
        ({"layer_types": ["full_attention"] * 2 + ["sliding_attention"]}, "sliding_attention in the layers"),
        (
            {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1, "layer_types": None},
            "sliding_attention in the layers",
        ),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type 'dynamic'"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 2.0}}, "rope_type 'llama3'"),
        ({"rope_parameters": {"rope_type": "linear"}}, "lacks 'factor'"),
        ({"rope_parameters": {"rope_theta": 0}}, "rope_theta 0"),
        ({"num_key_value_heads": 3}, "is not a multiple of num_key_value_heads 3"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
    ],
)
def test_a_decoder_we_do_not_compute_is_refused(changes: dict[str, Any], word: str, tmp_path: Path) -> None:
    build(tmp_path, "qwen3-encoder")
    edit(tmp_path / "config.json", **changes)
    with pytest.raises(UnsupportedModelError) as refused:
        load(Entry("m", folder=tmp_path), CPU, "float32")
    assert word in str(refused.value)


@pytest.mark.parametrize(
    ("base", "activation", "score"),
    [
        ("qwen2", None, "probability"),
        ("qwen2", _IDENTITY, "logit"),
        ("qwen3", "torch.nn.modules.activation.Tanh", "tanh"),
        ("qwen3", "torch.nn.modules.activation.Softmax", None),
    ],
)
def test_what_the_score_of_a_saved_decoder_is(
    base: str, activation: str | None, score: str | None, tmp_path: Path
) -> None:
    build(tmp_path, base)
    kinds = ["Transformer", "LogitScore"]
    listed = [
        {"type": f"sentence_transformers.models.{kind}", "path": "" if i == 0 else "7_L"}
        for i, kind in enumerate(kinds)
    ]
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    (tmp_path / "7_L").mkdir()
    ids = {"true_token_id": 16, "false_token_id": 17}
    (tmp_path / "7_L" / "config.json").write_text(json.dumps(ids))
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps({"activation_fn": activation}))
    entry, fault = inspect(Entry("m", folder=tmp_path))
    assert entry.score == score
    assert (fault is None) == (score is not None)
    if fault is not None:
        assert "torch.nn.modules.activation.Softmax" in str(fault)


# --- folders that hold something else --------------------------------------------------------------------------------


def test_a_missing_shard_is_named_and_waited_for(tmp_path: Path) -> None:
    build(tmp_path, "bert")
    sharded(tmp_path, "model-0000{}-of-00003.safetensors")
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(LoadError, match=r"names model-00002-of-00003\.safetensors, which does not exist") as refused:
        load(Entry("m", folder=tmp_path), CPU, "float32")
    assert (refused.value.kind, refused.value.permanent) == (LoadClass.STORAGE, False)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": 5}', '{"weight_map": {"a": "../x.safetensors"}}', "[1]"])
def test_an_index_that_says_nothing_is_refused(index: str, tmp_path: Path) -> None:
    build(tmp_path, "bert")
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(UnsupportedModelError, match=r"model\.safetensors\.index\.json"):
        load(Entry("m", folder=tmp_path), CPU, "float32")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], r"holds an adapter .*\.merge_and_unload"),
        (["config.json", "onnx/model.onnx"], "holds an ONNX model"),
        (["config.json", "openvino_model.xml", "openvino_model.bin"], "holds a model for OpenVINO"),
        (["model-q4_k_m.gguf"], "holds a GGUF model"),
        (["config.json", "pytorch_model.bin"], r"only pickled weights .*\.save_pretrained"),
        (["config.json", "pytorch_model-00001-of-00002.bin"], "only pickled weights"),
        (["config.json", "tf_model.h5"], "TensorFlow"),
        (["config.json", "weights.safetensors"], "weights.safetensors, but nothing says that this is the whole model"),
    ],
)
def test_other_files_of_a_folder_are_named(files: list[str], words: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    entry = Entry("m", folder=tmp_path)
    with pytest.raises(UnsupportedModelError, match=words):
        locate(entry)
    _, fault = inspect(entry)
    assert fault is not None
    assert fault.kind is LoadClass.CONFIG


def test_a_tensor_under_two_names_is_refused(tmp_path: Path) -> None:
    build(tmp_path, "bert")
    rewrite(
        tmp_path,
        lambda weights: {
            **weights,
            "bert.embeddings.LayerNorm.gamma": weights["bert.embeddings.LayerNorm.weight"].clone(),
        },
    )
    with pytest.raises(UnsupportedModelError, match=r"'embeddings\.norm\.weight' more than once"):
        load(Entry("m", folder=tmp_path), CPU, "float32")
