"""Which class computes which architecture, by the name in `config.json`."""

from sie_server.errors import UnsupportedModelError
from sie_server.models.bert import Bert
from sie_server.models.deberta import Deberta
from sie_server.models.distilbert import DistilBert
from sie_server.models.electra import Electra
from sie_server.models.encoder import Encoder
from sie_server.models.modernbert import ModernBert
from sie_server.models.mpnet import MPNet
from sie_server.models.roberta import Roberta

_ENCODERS: dict[str, type[Encoder]] = {
    "Bert": Bert,
    "Roberta": Roberta,
    "XLMRoberta": Roberta,
    "Camembert": Roberta,
    "Electra": Electra,
    "DistilBert": DistilBert,
    "ModernBert": ModernBert,
    "DebertaV2": Deberta,
    "MPNet": MPNet,
}
_SUFFIXES = {"ForSequenceClassification": True, "Model": False}

SUPPORTED = tuple(encoder + suffix for encoder in _ENCODERS for suffix in _SUFFIXES)


def resolve(architecture: str) -> tuple[type[Encoder], bool]:
    """Encoder class for an architecture name, and whether it carries a classification head.

    Raises:
        UnsupportedModelError: the name is not one of `SUPPORTED`, which the message lists.
    """
    for suffix, classifies in _SUFFIXES.items():
        encoder = _ENCODERS.get(architecture.removesuffix(suffix))
        if encoder is not None and architecture.endswith(suffix):
            return encoder, classifies
    raise UnsupportedModelError(f"architecture {architecture!r} is not supported; supported: {', '.join(SUPPORTED)}")
