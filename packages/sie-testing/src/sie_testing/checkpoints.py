"""Small checkpoints with random weights, built and saved by transformers: the reference and our input in one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Pooling, Transformer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    CamembertConfig,
    CamembertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    GemmaConfig,
    GemmaForCausalLM,
    GteConfig,
    GteForSequenceClassification,
    GteModel,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    ModernBertModel,
    MPNetConfig,
    MPNetForSequenceClassification,
    MPNetModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
    Qwen3Model,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
)

from sie_server.checkpoints.prompts import prompts

WORDS = ["python", "is", "a", "programming", "language", "snakes", "are", "reptiles", "what", "who", "made", "it"]
# The answers of the decoders' prompts.
ANSWERS = ["yes", "no", "Yes", "1", "0", "<bos>"]
SPECIAL = {"bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]"], "roberta": ["<s>", "<pad>", "</s>", "<unk>"]}
VOCABULARY = 600

SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "num_labels": 1,
    # Wider than usual, so that scores differ enough between documents to compare them.
    "initializer_range": 0.15,
}
# The real configuration of cross-encoder/ms-marco-MiniLM-L-12-v2.
MINILM_L12: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
    "num_labels": 1,
}
_DISTILBERT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "dim": 64,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 128,
    "num_labels": 1,
    "initializer_range": 0.15,
}
_MODERNBERT: dict[str, Any] = {
    **SMALL,
    "num_hidden_layers": 4,
    "max_position_embeddings": 512,
    "local_attention": 32,
    **dict.fromkeys(("bos_token_id", "cls_token_id"), 2),
    **dict.fromkeys(("eos_token_id", "sep_token_id"), 3),
    "pad_token_id": 0,
}
# As DeBERTa-v3, with buckets so few that most distances share one.
_DEBERTA: dict[str, Any] = {
    **SMALL,
    "max_position_embeddings": 512,
    "relative_attention": True,
    "position_buckets": 16,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
}
ROBERTA: dict[str, Any] = {**SMALL, "max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1}

_DECODER: dict[str, Any] = {
    **{key: value for key, value in SMALL.items() if key != "num_labels"},
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "tie_word_embeddings": True,
}

DECODERS: dict[str, tuple[type[PreTrainedModel], type[Any], dict[str, Any]]] = {
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {**_DECODER, "head_dim": 32}),
    "qwen3-untied": (Qwen3ForCausalLM, Qwen3Config, {**_DECODER, "head_dim": 16, "tie_word_embeddings": False}),
    "qwen3-classifier": (Qwen3ForSequenceClassification, Qwen3Config, {**_DECODER, "head_dim": 16, "num_labels": 1}),
    "qwen3-encoder": (Qwen3Model, Qwen3Config, {**_DECODER, "head_dim": 16}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, _DECODER),
    "gemma": (GemmaForCausalLM, GemmaConfig, {**_DECODER, "num_key_value_heads": 1, "head_dim": 32}),
    "gemma-legacy": (GemmaForCausalLM, GemmaConfig, {**_DECODER, "head_dim": 16, "hidden_act": "gelu"}),
}
# What each is trained with, by its chat template.
_PROMPTS = {"qwen3": "qwen3-reranker", "qwen2": "mxbai-rerank-v2", "gemma": "bge-reranker-gemma"}
# Narrower, because a gate multiplies what two wide projections give.
_GTE: dict[str, Any] = {**SMALL, "max_position_embeddings": 512, "pad_token_id": 1, "initializer_range": 0.1}
# NTK scaling by 8 at a base of 20000, as transformers writes it for heads of 16.
_NTK = {"rope_type": "linear", "rope_theta": 160_000.0, "factor": 8 ** (2 / 16)}

ARCHITECTURES: dict[str, tuple[type[PreTrainedModel], type[Any], dict[str, Any]]] = {
    "bert": (BertForSequenceClassification, BertConfig, {**SMALL, "max_position_embeddings": 512}),
    "bert-one-type": (
        BertForSequenceClassification,
        BertConfig,
        {**SMALL, "max_position_embeddings": 512, "type_vocab_size": 1},
    ),
    "roberta": (RobertaForSequenceClassification, RobertaConfig, ROBERTA),
    "xlm-roberta": (XLMRobertaForSequenceClassification, XLMRobertaConfig, ROBERTA),
    "camembert": (CamembertForSequenceClassification, CamembertConfig, ROBERTA),
    "electra": (ElectraForSequenceClassification, ElectraConfig, {**SMALL, "embedding_size": 64}),
    "electra-narrow": (ElectraForSequenceClassification, ElectraConfig, {**SMALL, "embedding_size": 32}),
    "distilbert": (DistilBertForSequenceClassification, DistilBertConfig, _DISTILBERT),
    "modernbert": (ModernBertForSequenceClassification, ModernBertConfig, _MODERNBERT),
    "modernbert-mean": (
        ModernBertForSequenceClassification,
        ModernBertConfig,
        {**_MODERNBERT, "classifier_pooling": "mean", "num_hidden_layers": 3, "norm_bias": True, "mlp_bias": True},
    ),
    "gte": (GteForSequenceClassification, GteConfig, {**_GTE, "rope_parameters": _NTK}),
    "gte-two-types": (GteForSequenceClassification, GteConfig, {**_GTE, "type_vocab_size": 2, "pad_token_id": 0}),
    "deberta": (DebertaV2ForSequenceClassification, DebertaV2Config, _DEBERTA),
    # What DeBERTa-v3 has not: no buckets, positions with projections of their own and in the input, token types.
    "deberta-v2": (
        DebertaV2ForSequenceClassification,
        DebertaV2Config,
        {
            **_DEBERTA,
            "embedding_size": 32,
            "max_relative_positions": 64,
            "pooler_hidden_act": "tanh",
            "pos_att_type": ["c2p", "p2c"],
            "position_biased_input": True,
            "position_buckets": -1,
            "share_att_key": False,
            "type_vocab_size": 2,
        },
    ),
    "deberta-c2p": (
        DebertaV2ForSequenceClassification,
        DebertaV2Config,
        {**_DEBERTA, "norm_rel_ebd": "none", "pos_att_type": ["c2p"]},
    ),
    "mpnet": (MPNetForSequenceClassification, MPNetConfig, {**SMALL, "max_position_embeddings": 514}),
    "minilm-l12": (BertForSequenceClassification, BertConfig, MINILM_L12),
    "modernbert-encoder": (ModernBertModel, ModernBertConfig, _MODERNBERT),
    "gte-encoder": (GteModel, GteConfig, {**_GTE, "type_vocab_size": 0}),
    "deberta-encoder": (DebertaV2Model, DebertaV2Config, _DEBERTA),
    "mpnet-encoder": (MPNetModel, MPNetConfig, {**SMALL, "max_position_embeddings": 514}),
    "bert-sparse-encoder": (BertForMaskedLM, BertConfig, {**SMALL, "max_position_embeddings": 512}),
    "bert-encoder": (BertModel, BertConfig, {**SMALL, "max_position_embeddings": 512}),
    "xlm-roberta-encoder": (XLMRobertaModel, XLMRobertaConfig, ROBERTA),
}


def chat_template(prompt: str) -> str:
    """A template that writes what a prompt of `prompts.toml` does."""
    known = prompts()[prompt]
    said = "{{{{ messages | selectattr('role', 'eq', '{0}') | map(attribute='content') | first }}}}"
    query, document = (said.format(role) for role in ("query", "document"))
    front = [piece.replace("{instruction}", known.instruction or "") for piece in known.before]
    pieces = [*(piece.replace("{query}", query) for piece in front), known.document.format(document=document)]
    return "".join((*pieces, *known.after, "\n"))  # Jinja drops the last line's end


def build(folder: Path, name: str, *, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """Save a checkpoint with tokenizer under `folder` and return transformers' model of it, ready to compare with."""
    model_class, config_class, config = {**ARCHITECTURES, **DECODERS}[name]
    torch.manual_seed(seed)
    model = model_class(config_class(**{**config, **overrides}))
    model.eval()
    # Fresh biases and norms are all zeros and ones, and would hide a mix-up of one with another.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    model.save_pretrained(folder)
    prompt = None if name.endswith("-encoder") else _PROMPTS.get(name.split("-")[0])
    if prompt is not None:
        (folder / "chat_template.jinja").write_text(chat_template(prompt))
    family = "roberta" if model.config.pad_token_id == 1 else "bert"
    types = getattr(model.config, "type_vocab_size", 0) > 1
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(family),
        model_max_length=512,
        pad_token="<pad>" if family == "roberta" else "[PAD]",
        model_input_names=["input_ids", "attention_mask", *(["token_type_ids"] if types else [])],
    ).save_pretrained(folder)
    return model


def ettin_head(width: int) -> list[nn.Module]:
    """The head of the Ettin rerankers."""
    return [
        Dense(width, width, bias=False, activation_function=nn.GELU()),
        LayerNorm(width),
        Dense(width, 1, activation_function=nn.Identity(), module_output_name="scores"),
    ]


def build_modular(
    folder: Path,
    name: str,
    pooling: str,
    head: Callable[[int], list[nn.Module]] = ettin_head,
    activation: nn.Module | None = None,
    **overrides: Any,
) -> CrossEncoder:
    """Save an encoder of the table with a head of sentence-transformers' modules behind it; return its model."""
    width = build(folder / "encoder", name, **overrides).config.hidden_size
    torch.manual_seed(0)
    modules = head(width)
    with torch.no_grad():
        for parameter in nn.ModuleList(modules).parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    chain = [Transformer(str(folder / "encoder")), Pooling(width, pooling), *modules]
    model: CrossEncoder = CrossEncoder(modules=chain, device="cpu", activation_fn=activation or nn.Identity())
    model.save_pretrained(str(folder))
    return model


def tokenizer(family: str) -> Tokenizer:
    """A word tokenizer with the special tokens and the pair template of its family."""
    special = SPECIAL[family]
    unknown = special[1] if family == "bert" else special[3]
    words = special + WORDS + ANSWERS
    words += [f"w{i}" for i in range(VOCABULARY - len(words))]
    result = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=unknown))
    result.pre_tokenizer = Whitespace()
    if family == "bert":
        result.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    else:
        result.post_processor = TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    return result


def text(length: int, seed: int) -> str:
    """`length` words of the vocabulary, one token each."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(len(WORDS), VOCABULARY - 4 - len(WORDS) - len(ANSWERS), (length,), generator=generator)
    return " ".join(f"w{i}" for i in ids.tolist())
