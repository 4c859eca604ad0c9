"""Decides which architecture a folder is loaded as: by its model type and modules first, and then by `architectures`.

The same layers are published as a masked language model, as a pre-trained model, or as neither; transformers loads them
by `model_type` and the task at hand.
"""

from collections.abc import Mapping
from typing import Any

from sie_server.checkpoints.checkpoint import Checkpoint
from sie_server.checkpoints.colbert import TRANSFORMER_FILE
from sie_server.checkpoints.json_fields import Keys
from sie_server.checkpoints.sentence_transformers import BGE_M3_FILES, modules
from sie_server.errors import LoadError, UnsupportedModelError

# Model type → prefix of its architecture names. "new" is Alibaba-NLP/new-impl, in transformers "gte".
FAMILIES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "electra": "Electra",
    "distilbert": "DistilBert",
    "modernbert": "ModernBert",
    "new": "New",
    "gte": "Gte",
    "deberta-v2": "DebertaV2",
    "mpnet": "MPNet",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "gemma": "Gemma",
}
_CLASSIFIER = "ForSequenceClassification"
_BARE = "Model"
# Pre-training heads. Unless the folder says otherwise, only the layers below them are used.
_PRETRAINED = ("ForMaskedLM", "ForPreTraining")
# The last layer of a classifier.
_CLASSIFIERS = {"classifier.weight", "classifier.out_proj.weight", "score.weight"}
# sentence-transformers' tasks, for which a Transformer module is loaded.
_TASKS = {"feature-extraction": _BARE, "sequence-classification": _CLASSIFIER, "text-generation": "ForCausalLM"}
# ColBERT's own package names the architecture after itself.
STANFORD = "HF_ColBERT"
_STANFORD_TYPES = ("bert", "xlm-roberta")


def model_type(hf: Mapping[str, Any]) -> str:
    """The model type. Configs of 2019 have none; then it follows from the architecture.

    Raises:
        UnsupportedModelError: it is not supported.
    """
    keys = Keys(hf)
    kind, named = keys.text("model_type"), keys.texts("architectures") or []
    if kind is None:
        fitting = [kind for kind, family in FAMILIES.items() if named and named[0].startswith(family)]
        if not fitting:
            raise UnsupportedModelError("config.json lacks 'model_type'")
        return max(fitting, key=lambda kind: len(FAMILIES[kind]))
    if kind not in FAMILIES:
        named_too = f" ({', '.join(named)})" if named else ""
        raise UnsupportedModelError(
            f"model_type {kind!r}{named_too} is not supported; supported: {', '.join(FAMILIES)}"
        )
    return kind


def architecture(hf: Mapping[str, Any], checkpoint: Checkpoint | None = None) -> str:
    """The transformers class to be loaded, such as `BertForSequenceClassification`.

    checkpoint: the files next to `config.json`; without them, only `architectures` counts.

    Raises:
        UnsupportedModelError: it is missing or not supported.
    """
    kind = model_type(hf)
    family = FAMILIES[kind]
    named = Keys(hf).texts("architectures") or []
    if named == [STANFORD]:
        if kind not in _STANFORD_TYPES:
            raise UnsupportedModelError(
                f"{STANFORD} over {kind!r} is not supported; supported: {', '.join(_STANFORD_TYPES)}"
            )
        return family + _BARE
    if checkpoint is not None and (suffix := _suffix_by_modules(checkpoint)) is not None:
        return family + suffix
    same = ("New", "Gte") if family in ("New", "Gte") else (family,)
    if len(named) == 1 and named[0].startswith(same):
        # BertForMaskedLM is SPLADE, unless modules say otherwise.
        bare = named[0].endswith(_PRETRAINED) and named[0] != "BertForMaskedLM"
        return family + _BARE if bare else named[0]
    names = set() if checkpoint is None else _tensor_names(checkpoint)
    return family + (_CLASSIFIER if names & _CLASSIFIERS else _BARE)


def _suffix_by_modules(checkpoint: Checkpoint) -> str | None:
    if all(checkpoint.has(name) for name in BGE_M3_FILES):
        return _BARE
    kinds = [module.kind for module in modules(checkpoint)]
    if "SpladePooling" in kinds:
        return "ForMaskedLM"
    if "LogitScore" in kinds:
        return "ForCausalLM"
    if {"Pooling", "Dense", "MultiVectorMask"} & set(kinds):
        return _BARE
    if kinds == ["Transformer"]:
        settings = Keys(checkpoint.optional_json(TRANSFORMER_FILE), TRANSFORMER_FILE)
        return settings.choice("transformer_task", _TASKS, "") if settings.given("transformer_task") else None
    return None


def _tensor_names(checkpoint: Checkpoint) -> set[str]:
    """Names of the checkpoint's tensors."""
    if checkpoint.weight_map:
        return set(checkpoint.weight_map)
    try:
        return {name for file in checkpoint.weight_files for name in checkpoint.tensors(file).tensors}
    except LoadError:
        return set()  # the load reports the fault of the weights
