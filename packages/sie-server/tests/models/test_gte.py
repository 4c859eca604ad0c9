"""mGTE as the hub has it: other names and another config than in transformers, code that must not be run.

The reference is written from the formulas, one sequence at a time, in float64, and shares nothing with what it checks.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.hf_config import from_hf
from sie_server.checkpoints.load import load
from sie_server.errors import UnsupportedModelError
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.heads import Multivector
from sie_server.nn.packed import Packed
from sie_server.tokenization.sequence import Sequence
from sie_testing.checkpoints import VOCABULARY, text, tokenizer

CPU = torch.device("cpu")
CODE = "Alibaba-NLP/new-impl"
# config.json of Alibaba-NLP/gte-multilingual-reranker-base, with smaller sizes; heads are as wide as there.
CONFIG: dict[str, Any] = {
    "architectures": ["NewForSequenceClassification"],
    "attention_probs_dropout_prob": 0.0,
    "auto_map": {
        "AutoConfig": f"{CODE}--configuration.NewConfig",
        "AutoModel": f"{CODE}--modeling.NewModel",
        "AutoModelForSequenceClassification": f"{CODE}--modeling.NewForSequenceClassification",
    },
    "classifier_dropout": 0.0,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 128,
    "id2label": {"0": "LABEL_0"},
    "initializer_range": 0.02,
    "intermediate_size": 256,
    "label2id": {"LABEL_0": 0},
    "layer_norm_eps": 1e-12,
    "layer_norm_type": "layer_norm",
    "logn_attention_clip1": False,
    "logn_attention_scale": False,
    "max_position_embeddings": 512,
    "model_type": "new",
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "pack_qkv": True,
    "pad_token_id": 1,
    "position_embedding_type": "rope",
    "rope_scaling": {"factor": 8.0, "type": "ntk"},
    "rope_theta": 20000,
    "torch_dtype": "float16",
    "transformers_version": "4.39.1",
    "type_vocab_size": 1,
    "unpad_inputs": False,
    "use_memory_efficient_attention": False,
    "vocab_size": VOCABULARY,
}


def random_weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    hidden, wide = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "new.embeddings.word_embeddings.weight": (VOCABULARY, hidden),
        "new.embeddings.token_type_embeddings.weight": (1, hidden),
        "new.pooler.dense.weight": (hidden, hidden),
        "new.pooler.dense.bias": (hidden,),
        "classifier.weight": (1, hidden),
        "classifier.bias": (1,),
    }
    norms = ["new.embeddings.LayerNorm"]
    for layer in (f"new.encoder.layer.{i}." for i in range(CONFIG["num_hidden_layers"])):
        shapes[layer + "attention.qkv_proj.weight"] = (3 * hidden, hidden)
        shapes[layer + "attention.qkv_proj.bias"] = (3 * hidden,)
        shapes[layer + "attention.o_proj.weight"] = (hidden, hidden)
        shapes[layer + "attention.o_proj.bias"] = (hidden,)
        shapes[layer + "mlp.up_gate_proj.weight"] = (2 * wide, hidden)
        shapes[layer + "mlp.down_proj.weight"] = (hidden, wide)
        shapes[layer + "mlp.down_proj.bias"] = (hidden,)
        norms += [layer + "attn_ln", layer + "mlp_ln"]
    weights = {name: torch.randn(shape) * 0.1 for name, shape in shapes.items()}
    for norm in norms:
        weights[norm + ".weight"] = 1 + torch.randn(hidden) * 0.02
        weights[norm + ".bias"] = torch.randn(hidden) * 0.02
    return weights


def write(folder: Path, weights: dict[str, Tensor], **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    tokenizer("roberta").save(str(folder / "tokenizer.json"))
    for module in ("configuration.py", "modeling.py"):
        (folder / module).write_text("raise SystemExit('a model repository must not run code')")
    return folder


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return random_weights()


@pytest.fixture(scope="module")
def reranker(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("reranker"), weights)


def states(weights: dict[str, Tensor], ids: list[int]) -> Tensor:
    """Last hidden states of one sequence: float64 `[length, hidden]`."""
    w = {name.removeprefix("new."): value.double() for name, value in weights.items()}
    heads = CONFIG["num_attention_heads"]
    head_dim = CONFIG["hidden_size"] // heads

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[name + ".weight"].T + w.get(name + ".bias", torch.zeros(1))

    def norm(x: Tensor, name: str) -> Tensor:
        x = x - x.mean(dim=-1, keepdim=True)
        x = x / (x.square().mean(dim=-1, keepdim=True) + CONFIG["layer_norm_eps"]).sqrt()
        return x * w[name + ".weight"] + w[name + ".bias"]

    # NTK scaling: the base times the factor, all frequencies lower by factor^(2 / head_dim).
    factor = CONFIG["rope_scaling"]["factor"]
    even = torch.arange(0, head_dim, 2).double()
    frequencies = (CONFIG["rope_theta"] * factor) ** (-even / head_dim) / factor ** (2 / head_dim)
    angles = torch.arange(len(ids)).double()[:, None] * frequencies
    turn = torch.polar(torch.ones_like(angles), angles)[:, None]  # [length, 1, head_dim / 2]

    def rotated(x: Tensor) -> Tensor:
        real, imaginary = x.split(head_dim // 2, dim=-1)
        turned = torch.complex(real, imaginary) * turn
        return torch.cat((turned.real, turned.imag), dim=-1)

    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    for layer in (f"encoder.layer.{i}." for i in range(CONFIG["num_hidden_layers"])):
        q, k, v = (
            part.unflatten(-1, (heads, head_dim)) for part in linear(x, layer + "attention.qkv_proj").chunk(3, -1)
        )
        logits = torch.einsum("qhd,khd->hqk", rotated(q), rotated(k)) / math.sqrt(head_dim)
        attended = torch.einsum("hqk,khd->qhd", logits.softmax(dim=-1), v).flatten(1)
        x = norm(x + linear(attended, layer + "attention.o_proj"), layer + "attn_ln")
        up, gate = linear(x, layer + "mlp.up_gate_proj").chunk(2, dim=-1)
        gelu = gate * (1 + torch.erf(gate / math.sqrt(2))) / 2
        x = norm(x + linear(gelu * up, layer + "mlp.down_proj"), layer + "mlp_ln")
    return x


def logit(weights: dict[str, Tensor], ids: list[int]) -> float:
    w = {name: value.double() for name, value in weights.items()}
    first = states(weights, ids)[0]
    pooled = torch.tanh(w["new.pooler.dense.weight"] @ first + w["new.pooler.dense.bias"])
    return float(w["classifier.weight"][0] @ pooled + w["classifier.bias"][0])


def pairs(model: LoadedModel) -> list[Sequence]:
    lengths = [0, 1, 3, 17, 17, 60, 200, 480, 700]
    return model.tokenizer.encode_pairs("what is python", [text(length, seed=i) for i, length in enumerate(lengths)])


@torch.inference_mode()
def ours(model: LoadedModel, sequences: list[Sequence]) -> list[float]:
    """Raw logits of one packed batch."""
    assert model.encoder.head is not None
    return model.encoder.head(*model.encoder(Packed.of(sequences, CPU)), sequences)


def test_scores_equal_the_formulas(reranker: Path, weights: dict[str, Tensor]) -> None:
    model = load(Entry("m", folder=reranker), CPU, "float32")
    assert model.score == "probability"
    assert model.max_length == 512
    expected = [logit(weights, sequence.ids.tolist()) for sequence in pairs(model)]
    assert np.ptp(expected) > 0.1, "scores that do not differ prove nothing"
    np.testing.assert_allclose(ours(model, pairs(model)), expected, rtol=0, atol=1e-5)
    rounded = load(Entry("m", folder=reranker), CPU, "bfloat16")
    assert np.abs(np.subtract(ours(rounded, pairs(rounded)), expected)).max() <= 2e-2 * np.ptp(expected)


@pytest.mark.parametrize("prefix", ["", "new."])
def test_states_of_the_encoder_equal_the_formulas(tmp_path: Path, weights: dict[str, Tensor], prefix: str) -> None:
    """Saved as it is, or with the token classifier that the embedding models carry."""
    kept = {name: value for name, value in weights.items() if name.startswith("new.") and "pooler" not in name}
    kept = {name.replace("new.", prefix): value for name, value in kept.items()}
    extra = {"classifier.weight": torch.zeros(1, 128), "classifier.bias": torch.zeros(1)} if prefix else {}
    model = load(Entry("m", folder=write(tmp_path, {**kept, **extra}, architectures=["NewModel"])), CPU, "float32")
    sequences = pairs(model)
    with torch.inference_mode():
        vectors = Multivector(nn.Identity(), normalize=False)(*model.encoder(Packed.of(sequences, CPU)), sequences)
    for sequence, vector in zip(sequences, vectors, strict=True):
        np.testing.assert_allclose(vector, states(weights, sequence.ids.tolist()), rtol=0, atol=1e-5)


def test_projections_may_be_separate_tensors(tmp_path: Path, reranker: Path) -> None:
    """`pack_qkv: false` says the same in three tensors: the same scores, bit for bit."""
    weights = load_file(reranker / "model.safetensors")
    for name in [name for name in weights if "qkv_proj" in name]:
        for part, value in zip("qkv", weights.pop(name).chunk(3), strict=True):
            weights[name.replace("qkv_proj", f"{part}_proj")] = value.contiguous()
    apart = load(Entry("m", folder=write(tmp_path, weights, pack_qkv=False)), CPU, "float32")
    packed = load(Entry("m", folder=reranker), CPU, "float32")
    assert ours(apart, pairs(apart)) == ours(packed, pairs(packed))


def test_the_configs_of_the_hub_and_of_transformers_mean_the_same() -> None:
    native = {key: value for key, value in CONFIG.items() if not key.startswith("rope")} | {
        "model_type": "gte",
        "rope_parameters": {"rope_type": "linear", "rope_theta": 160_000.0, "factor": 8 ** (2 / 64)},
    }
    assert from_hf(native) == from_hf(CONFIG)
    plain = from_hf({**CONFIG, "rope_scaling": None, "rope_theta": 160_000})
    assert {(layer.theta, layer.scale) for layer in plain.rotary_layers} == {(160_000, 1.0)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rope_scaling": {"type": "yarn", "factor": 8.0}}, "rope_scaling: type 'yarn' is not supported"),
        ({"rope_scaling": {"type": "ntk", "factor": 8.0, "mixed_b": 0.6}}, "mixed_b 0.6 is not supported"),
        ({"position_embedding_type": "absolute"}, "position_embedding_type 'absolute' is not supported"),
        ({"layer_norm_type": "rms_norm"}, "layer_norm_type 'rms_norm' is not supported; supported: 'layer_norm'"),
        ({"logn_attention_scale": True}, "logn_attention_scale True is not supported; supported: False"),
        ({"hidden_act": "relu"}, "hidden_act 'relu' is not supported"),
        ({"architectures": ["NewForTokenClassification"]}, "'NewForTokenClassification' is not supported"),
    ],
)
def test_a_config_we_do_not_compute_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=words):
        load(Entry("m", folder=write(tmp_path, random_weights(), **changes)), CPU, "float32")
