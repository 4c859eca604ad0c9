"""Finds a checkpoint's files: in a local folder, the hub cache, the hub, or an installed Python package."""

import logging
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.checkpoint import INDEX, WEIGHTS, Checkpoint
from sie_server.checkpoints.colbert import STANFORD_FILE
from sie_server.checkpoints.sentence_transformers import BGE_M3_FILES, needed_files
from sie_server.errors import LoadClass, LoadError, UnsupportedModelError

_LOG = logging.getLogger(__name__)
_PATTERNS = ["*.json", "*.safetensors", "vocab.txt", "merges.txt", "*.jinja", STANFORD_FILE]  # in sub-folders too
_PICKLED = "pytorch_model.bin"
_CONVERT = (
    "Convert them once, on a machine where you trust the file: "
    "`AutoModelForSequenceClassification.from_pretrained(path).save_pretrained(new_path)` (`AutoModel` for an "
    "embedding model) writes safetensors."
)
# Files of folders that hold no supported weights, and advice for each. The first one present is reported.
_OTHER_KINDS = {
    "adapter_config.json": "It holds an adapter ({file}; LoRA, say), but not the model that it adapts. Merge the two "
    "once, with PEFT: `PeftModel.from_pretrained(base, path).merge_and_unload().save_pretrained(new_path)`, and copy "
    "the tokenizer's files beside it.",
    "openvino_model.*": "It holds a model for OpenVINO ({file}). Serve the repository with the safetensors that "
    "it was exported from.",
    "*.onnx": "It holds an ONNX model ({file}). Serve the repository with the safetensors that it was exported from.",
    "*.gguf": "It holds a GGUF model ({file}), which is quantized for llama.cpp. Serve the repository with the "
    "safetensors that it was made from.",
    "pytorch_model*.bin": "It has only pickled weights ({file}), which can run code when loaded and are refused. "
    + _CONVERT,
    "*.pt": "It has only pickled weights ({file}), which can run code when loaded and are refused. " + _CONVERT,
    "tf_model.h5": "It holds only TensorFlow weights ({file}). Serve a repository with safetensors.",
    "flax_model.msgpack": "It holds only Flax weights ({file}). Serve a repository with safetensors.",
    "*.safetensors": "It has {file}, but nothing says that this is the whole model: weights must be in "
    "model.safetensors, or in files that model.safetensors.index.json lists.",
    "*.bin": "It has only pickled weights ({file}), which can run code when loaded and are refused. " + _CONVERT,
}
# At least one of these is needed. Repositories as old as BERT and RoBERTa have only the vocabulary.
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")


def locate(entry: Entry) -> Checkpoint:
    """The model's checkpoint, downloaded (with a progress bar) if necessary.

    With `HF_HUB_OFFLINE` set no socket is opened.

    Raises:
        LoadError: NOT_FOUND, GATED or NETWORK, with advice; STORAGE, a folder is missing, or has no weights.
        UnsupportedModelError: the weights are pickled, or have the wrong checksum.
    """
    return _present(entry) or _from_hub(entry)


def locate_present(entry: Entry) -> Checkpoint | None:
    """`locate` for models of which some copy is on this machine; None for others, and nothing is downloaded for them.

    A model that an installed package contains is downloaded all the same if the hub can be reached.
    """
    checkpoint = _present(entry)
    return _from_hub(entry) if checkpoint is None and _installed(entry) is not None else checkpoint


def on_this_machine(entry: Entry) -> Path | None:
    """The folder with the checkpoint's files if they are on this machine. The hub is not asked.

    Raises:
        UnsupportedModelError: an installed package contains weights with the wrong checksum.
    """
    checkpoint = None if entry.folder is not None else _cached(entry) or _packaged(entry)
    return entry.folder if checkpoint is None else checkpoint.folder


def fetch(entry: Entry) -> None:
    """Download the files that a load would have to download, so that other loads don't wait for them.

    Raises:
        LoadError: as `locate`.
    """
    # For a model that a package contains, too, `locate` may have to read all weights for their checksum: only the load
    # does.
    if entry.folder is None and entry.package is None and _cached(entry) is None:
        _from_hub(entry)


def _present(entry: Entry) -> Checkpoint | None:
    """The checkpoint of an entry's folder, or that in the hub cache."""
    if entry.folder is None:
        return _cached(entry)
    checkpoint = Checkpoint(entry.folder, entry.pickled)
    _require_weights(checkpoint, entry)
    return checkpoint


def _from_hub(entry: Entry) -> Checkpoint:
    from huggingface_hub.constants import is_offline_mode

    # Offline, weights of a package need no client.
    packaged = _packaged(entry) if is_offline_mode() else None
    if packaged is not None:
        _LOG.info("%s: HF_HUB_OFFLINE is set, using the weights installed with %s", entry.id, entry.package)
        return packaged
    from sie_server.checkpoints import hub

    try:
        checkpoint = Checkpoint(hub.download(entry, _patterns(entry)), entry.pickled)
    except LoadError as error:
        if error.kind is not LoadClass.NETWORK or (packaged := _packaged(entry)) is None:
            raise
        _LOG.info("%s: hub not reachable, using the weights installed with %s", entry.id, entry.package)
        return packaged
    _require_weights(checkpoint, entry)
    return checkpoint


def _patterns(entry: Entry) -> list[str]:
    return [*_PATTERNS, _PICKLED, *BGE_M3_FILES] if entry.pickled else _PATTERNS


def _require_weights(checkpoint: Checkpoint, entry: Entry) -> None:
    """Check that a folder has the weights of a model.

    Raises:
        LoadError: STORAGE, they are missing; they may be about to be copied.
        UnsupportedModelError: it has something else.
    """
    folder = checkpoint.folder
    if files := checkpoint.weight_files:
        if missing := [file for file in files if not checkpoint.has(file)]:
            raise LoadError(
                LoadClass.STORAGE,
                f"{folder} is not complete: {INDEX} names {missing[0]}, which does not exist"
                + (f" ({len(missing)} of {len(files)} files are missing)" if len(missing) > 1 else ""),
            )
        return
    if not folder.is_dir():
        raise LoadError(LoadClass.STORAGE, f"{folder} does not exist")
    if (instead := _instead(folder)) is not None:
        raise UnsupportedModelError(f"{folder} has no {WEIGHTS}. {instead}")
    lacking = WEIGHTS if checkpoint.has("config.json") else f"config.json and no {WEIGHTS}"
    message = f"{folder} has no {lacking}, as written by `save_pretrained`: it does not hold a model that can be served"
    # A local folder may be about to be filled; a repository was downloaded completely.
    raise UnsupportedModelError(message) if entry.folder is None else LoadError(LoadClass.STORAGE, message)


def _instead(folder: Path) -> str | None:
    """Says what a folder without supported weights holds instead, and what to do; None if it holds nothing known."""
    # Exporters such as optimum write into sub-folders.
    names = [path.name for pattern in ("*", "onnx/*", "openvino/*") for path in sorted(folder.glob(pattern))]
    for pattern, advice in _OTHER_KINDS.items():
        if files := [name for name in names if fnmatch(name, pattern)]:
            return advice.format(file=files[0])
    return None


def _cached_snapshot(entry: Entry) -> Path | None:
    """The folder of a repository's files at the entry's revision in the hub's cache, however many of them it has.

    Read as huggingface_hub documents it, because to import its client takes an eighth of the start.
    """
    from huggingface_hub import constants  # of the package, this part alone is imported

    folder = Path(constants.HF_HUB_CACHE, f"models--{entry.repository.replace('/', '--')}")
    revision = entry.revision or constants.DEFAULT_REVISION
    reference = folder / "refs" / revision
    snapshot = folder / "snapshots" / (reference.read_text().strip() if reference.is_file() else revision)
    return snapshot if snapshot.is_dir() else None


def _cached(entry: Entry) -> Checkpoint | None:
    folder = _cached_snapshot(entry)
    if folder is None:
        return None
    checkpoint = Checkpoint(folder, entry.pickled)
    # Another program may have downloaded only a part of the repository.
    if not any(checkpoint.has(name) for name in TOKENIZER_FILES):
        return None
    needed = ["config.json", *needed_files(checkpoint), *(BGE_M3_FILES if entry.pickled else ())]
    files = checkpoint.weight_files
    return checkpoint if files and all(checkpoint.has(name) for name in (*needed, *files)) else None


def _packaged(entry: Entry) -> Checkpoint | None:
    """The checkpoint in the entry's package, its weights checked against the pinned SHA-256."""
    folder = _installed(entry)
    if folder is None:
        return None
    checkpoint = Checkpoint(folder)
    digest = checkpoint.sha256(WEIGHTS)
    if digest != entry.sha256:
        raise UnsupportedModelError(
            f"{folder / WEIGHTS} has SHA-256 {digest}, expected {entry.sha256}; reinstall the package"
        )
    return checkpoint


def _installed(entry: Entry) -> Path | None:
    """The folder in the entry's package, found without importing the package."""
    if entry.package is None:
        return None
    name, _, inside = entry.package.partition("/")
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0], inside)
    return folder if (folder / WEIGHTS).is_file() else None
