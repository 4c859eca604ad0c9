"""Encoder classes by the architecture names in `config.json`."""

from typing import Literal

from sie_server.errors import UnsupportedModelError
from sie_server.models.bert import Bert
from sie_server.models.deberta import Deberta
from sie_server.models.decoder import Decoder
from sie_server.models.distilbert import DistilBert
from sie_server.models.electra import Electra
from sie_server.models.encoder import Encoder
from sie_server.models.gte import Gte
from sie_server.models.modernbert import ModernBert
from sie_server.models.mpnet import MPNet
from sie_server.models.roberta import Roberta

# Head of a checkpoint: a classifier, a language model's output tokens, or those of a masked language model (SPLADE).
HeadKind = Literal["classifier", "tokens", "sparse"]

_ENCODERS: dict[str, type[Encoder]] = {
    "Bert": Bert,
    "Roberta": Roberta,
    "XLMRoberta": Roberta,
    "Camembert": Roberta,
    "Electra": Electra,
    "DistilBert": DistilBert,
    "ModernBert": ModernBert,
    "New": Gte,
    "Gte": Gte,
    "DebertaV2": Deberta,
    "MPNet": MPNet,
}
_DECODERS: dict[str, type[Encoder]] = dict.fromkeys(("Qwen2", "Qwen3", "Gemma"), Decoder)
_CLASSIFIER = "ForSequenceClassification"

_ARCHITECTURES: dict[str, tuple[type[Encoder], HeadKind | None]] = {
    **{name + _CLASSIFIER: (model, "classifier") for name, model in {**_ENCODERS, **_DECODERS}.items()},
    **{name + "Model": (model, None) for name, model in {**_ENCODERS, **_DECODERS}.items()},
    "BertForMaskedLM": (Bert, "sparse"),
    **{name + "ForCausalLM": (model, "tokens") for name, model in _DECODERS.items()},
}

SUPPORTED = tuple(_ARCHITECTURES)


def resolve(architecture: str) -> tuple[type[Encoder], HeadKind | None]:
    """Look up an architecture's class, and the kind of head of its checkpoints; None: no head.

    Raises:
        UnsupportedModelError: the architecture is not in `SUPPORTED`.
    """
    if architecture not in _ARCHITECTURES:
        raise UnsupportedModelError(
            f"architecture {architecture!r} is not supported; supported: {', '.join(SUPPORTED)}"
        )
    return _ARCHITECTURES[architecture]
