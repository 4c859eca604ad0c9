"""What a folder is used as: the model type and what stands behind the layers say it, before `architectures` does.

The same layers are published as a masked language model, as what was pre-trained, or without a word; transformers loads
them by `model_type` and as what they are asked for.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sie_server.checkpoints.files import read_json
from sie_server.checkpoints.json_fields import Keys
from sie_server.checkpoints.sentence_transformers import BGE_M3_FILES, modules
from sie_server.checkpoints.source import weight_files, weight_map
from sie_server.checkpoints.tensor_file import open_tensors
from sie_server.errors import LoadError, UnsupportedModelError

# Model type → what the names of its architectures begin with. "new" is Alibaba-NLP/new-impl, in transformers "gte".
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
# Heads of pre-training: without a word on what the folder is for, its layers are what there is to use.
_PRETRAINED = ("ForMaskedLM", "ForPreTraining")
# The last layer of a classifier.
_CLASSIFIERS = {"classifier.weight", "classifier.out_proj.weight", "score.weight"}
# sentence-transformers' word for what a Transformer module is loaded as.
_TASKS = {"feature-extraction": _BARE, "sequence-classification": _CLASSIFIER, "text-generation": "ForCausalLM"}
# ColBERT's own package names the architecture after itself.
STANFORD = "HF_ColBERT"
_STANFORD_TYPES = ("bert", "xlm-roberta")


def model_type(hf: Mapping[str, Any]) -> str:
    """The model type, which configs of 2019 leave to be read off the architecture.

    Raises:
        UnsupportedModelError: it is none that we compute.
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


def architecture(hf: Mapping[str, Any], folder: Path | None = None) -> str:
    """The name transformers has for what is to be loaded, such as `BertForSequenceClassification`.

    folder: with the files beside `config.json`; without, `architectures` alone says it.

    Raises:
        UnsupportedModelError: neither says it, or says something that we do not compute.
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
    if folder is not None and (said := _said_by_modules(folder)) is not None:
        return family + said
    same = ("New", "Gte") if family in ("New", "Gte") else (family,)
    if len(named) == 1 and named[0].startswith(same):
        # BertForMaskedLM is SPLADE's, where nothing else is said.
        bare = named[0].endswith(_PRETRAINED) and named[0] != "BertForMaskedLM"
        return family + _BARE if bare else named[0]
    names = set() if folder is None else _names(folder)
    return family + (_CLASSIFIER if names & _CLASSIFIERS else _BARE)


def _said_by_modules(folder: Path) -> str | None:
    if all((folder / name).is_file() for name in BGE_M3_FILES):
        return _BARE
    kinds = [module.kind for module in modules(folder)]
    if "SpladePooling" in kinds:
        return "ForMaskedLM"
    if "LogitScore" in kinds:
        return "ForCausalLM"
    if {"Pooling", "Dense", "MultiVectorMask"} & set(kinds):
        return _BARE
    settings = folder / "sentence_bert_config.json"
    if kinds == ["Transformer"] and settings.is_file():
        task = Keys(read_json(settings), settings.name)
        return task.choice("transformer_task", _TASKS, "") if task.given("transformer_task") else None
    return None


def _names(folder: Path) -> set[str]:
    """The names of the checkpoint's tensors."""
    if names := weight_map(folder):
        return set(names)
    try:
        found = set()
        for path in weight_files(folder):
            with open_tensors(path) as file:
                found |= set(file.tensors)
        return found
    except LoadError:
        return set()  # the load says what is wrong with the weights
