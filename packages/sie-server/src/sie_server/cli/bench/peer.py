"""sentence-transformers, where it is installed."""

import importlib
import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sie_server.models.loaded_model import LoadedModel

_LOG = logging.getLogger(__name__)


def peer(
    model: LoadedModel, folder: Path, query: str, texts: list[str]
) -> tuple[Callable[[], object] | None, str | None]:
    """sentence-transformers' way of scoring these texts, ready to run and warm; or why there is none."""
    if find_spec("sentence_transformers") is None:
        return None, "it is not installed"
    if model.tokenizer.prompt is not None:
        return None, "it has no prompt of its own for this model"
    package: Any = importlib.import_module("sentence_transformers")
    call: Callable[[], object]
    try:
        if model.encoder.head is not None:
            cross = package.CrossEncoder(str(folder), device=str(model.device))
            pairs = [(query, text) for text in texts]
            call = lambda: cross.predict(pairs, show_progress_bar=False)  # noqa: E731
        else:
            # What both sides encode; comparing the vectors is left out on its side.
            plain = package.SentenceTransformer(str(folder), device=str(model.device))
            call = lambda: plain.encode([query, *texts], show_progress_bar=False)  # noqa: E731
        call()
    except Exception as error:  # a peer that can't read the checkpoint must not end the measurement of ours
        _LOG.debug("sentence-transformers", exc_info=True)
        return None, f"it could not run the model: {error}"
    return call, None
