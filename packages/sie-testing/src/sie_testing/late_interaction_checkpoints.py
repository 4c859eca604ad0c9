"""Small late-interaction checkpoints with random weights, in the layouts that such models are published in.

`sizes`: other values for the keys of the encoder's config.
"""

import json
from collections.abc import Mapping
from collections.abc import Sequence as Items
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder
from tokenizers import AddedToken, Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from sie_testing.checkpoints import build, tokenizer

WIDTH = 48  # of a token's vector
# Outputs, residual and bias of PyLate's Dense modules: a wider one with a projected residual, one as wide as its input
# with a plain one, and one without.
CHAIN = ((96, True, True), (96, True, False), (WIDTH, False, False))
# Words of the vocabulary that are renamed, the last ones.
_MARKS = {"bert": ["[MASK]", "[unused0]", "[unused1]"], "roberta": ["<mask>", "[QueryMarker]", "[DocumentMarker]"]}
_PUNCTUATION = [".", ",", "?", "!", "(", ")"]


def stanford(
    folder: Path, name: str = "bert-encoder", sizes: Mapping[str, Any] = {}, width: int = WIDTH, **metadata: Any
) -> Path:
    """As ColBERT's own package saves it: the projection among the layers' weights, the rest in artifact.metadata."""
    hidden = build(folder, name, **sizes).config.hidden_size
    _rename_tokens(folder, "roberta" if "roberta" in name else "bert")
    edit(folder / "config.json", architectures=["HF_ColBERT"])
    weights = load_file(folder / "model.safetensors")
    prefix = "roberta." if "roberta" in name else "bert."
    save_file(
        {**{prefix + key: value for key, value in weights.items()}, "linear.weight": torch.randn(width, hidden) * 0.2},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    facts = {"query_maxlen": 12, "doc_maxlen": 40, "attend_to_mask_tokens": False, **metadata}
    (folder / "artifact.metadata").write_text(json.dumps(facts))
    return folder


def pylate(
    folder: Path,
    name: str = "modernbert-encoder",
    sizes: Mapping[str, Any] = {},
    chain: Items[tuple[int, bool, bool]] = CHAIN,
    **settings: Any,
) -> Path:
    """As PyLate saves it: Dense modules behind the encoder, its own keys in sentence-transformers' settings."""
    width = build(folder, name, **sizes).config.hidden_size
    _rename_tokens(folder, "roberta" if "roberta" in name else "bert")
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for index, (outputs, residual, bias) in enumerate(chain, 1):
        path = f"{index}_Dense"
        listed.append({"idx": index, "name": str(index), "path": path, "type": "pylate.models.Dense.Dense"})
        weights = {"linear.weight": torch.randn(outputs, width) * 0.2}
        if bias:
            weights["linear.bias"] = torch.randn(outputs)
        if residual and outputs != width:
            weights["residual.weight"] = torch.randn(outputs, width) * 0.2
        (folder / path).mkdir()
        save_file(weights, folder / path / "model.safetensors", {"format": "pt"})
        function = "torch.nn.modules.activation.GELU" if index < len(chain) - 1 else "torch.nn.modules.linear.Identity"
        facts = {"in_features": width, "out_features": outputs, "bias": bias, "activation_function": function}
        (folder / path / "config.json").write_text(json.dumps({**facts, "use_residual": residual}))
        width = outputs
    (folder / "modules.json").write_text(json.dumps(listed))
    own = {"query_prefix": "[Q] ", "document_prefix": "[D] ", "query_length": 12, "document_length": 40, **settings}
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"model_type": "ColBERT", **own}))
    # PyLate leaves the limit of what it read last.
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 11, "do_lower_case": False}))
    return folder


def jina(folder: Path, sizes: Mapping[str, Any] = {}, width: int = WIDTH) -> Path:
    """As jina-colbert-v2 is published: Stanford's layout, rotary positions in place of a table."""
    stanford(folder, "xlm-roberta-encoder", sizes, width)
    edit(folder / "config.json", position_embedding_type="rotary", rotary_emb_base=500.0)
    (folder / "artifact.metadata").unlink()
    weights = load_file(folder / "model.safetensors")
    del weights["roberta.embeddings.position_embeddings.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def saved_again(folder: Path, target: Path) -> Path:
    """As sentence-transformers saves what it reads from `folder`: modules for the mask and the norm."""
    MultiVectorEncoder(str(folder), device="cpu").save_pretrained(str(target))
    return target


def bge_m3(folder: Path, *, pickled: bool = False, sizes: Mapping[str, Any] = {}) -> dict[str, Tensor]:
    """Build a checkpoint as BGE-M3 is published: an encoder and two pickled linear layers. Returns the layers' weights.

    pickled: whether the encoder is pickled too.
    """
    model = build(folder, "xlm-roberta-encoder", **sizes)
    width = model.config.hidden_size
    sparse, colbert = nn.Linear(width, 1), nn.Linear(width, width)
    with torch.no_grad():
        sparse.weight.mul_(4)
    torch.save(sparse.state_dict(), folder / "sparse_linear.pt")
    torch.save(colbert.state_dict(), folder / "colbert_linear.pt")
    if pickled:
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"type": "sentence_transformers.models.Transformer", "path": ""},
                {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
            ]
        )
    )
    return {"sparse." + key: value for key, value in sparse.state_dict().items()} | {
        "colbert." + key: value for key, value in colbert.state_dict().items()
    }


def _rename_tokens(folder: Path, family: str) -> None:
    plain = json.loads(tokenizer(family).to_str())
    vocabulary = {token: word for word, token in plain["model"]["vocab"].items()}
    vocabulary.update(enumerate([*_MARKS[family], *_PUNCTUATION, "[Q] ", "[D] "], start=len(vocabulary) - 20))
    plain["model"]["vocab"] = {word: token for token, word in vocabulary.items()}
    renamed = Tokenizer.from_str(json.dumps(plain))
    renamed.add_tokens([AddedToken(token, normalized=False) for token in ("[Q] ", "[D] ")])
    pad, unknown = ("<pad>", "<unk>") if family == "roberta" else ("[PAD]", "[UNK]")
    PreTrainedTokenizerFast(
        tokenizer_object=renamed,
        model_max_length=512,
        pad_token=pad,
        unk_token=unknown,
        mask_token=_MARKS[family][0],
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)


def edit(path: Path, **changes: Any) -> None:
    """Other values for some keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
