"""Where a checkpoint's files are: a local folder, the hub cache, the hub, or a Python package that carries them."""

import hashlib
import logging
import os
import re
import threading
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, Queue

from huggingface_hub import constants, get_session, is_offline_mode, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.colbert import STANFORD_FILE
from sie_server.checkpoints.files import open_file, read_json
from sie_server.checkpoints.sentence_transformers import BGE_M3_FILES, needed_files
from sie_server.errors import LoadClass, LoadError, UnsupportedModelError

_LOG = logging.getLogger(__name__)
_PATTERNS = ["*.json", "*.safetensors", "vocab.txt", "merges.txt", "*.jinja", STANFORD_FILE]  # in sub-folders too
_PICKLED = "pytorch_model.bin"
_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"[\w.+-]+\.safetensors")
_CONVERT = (
    "Convert them once, on a machine where you trust the file: "
    "`AutoModelForSequenceClassification.from_pretrained(path).save_pretrained(new_path)` (`AutoModel` for an "
    "embedding model) writes safetensors."
)
# What a folder may hold instead, by the name of a file, and what to do about it; the first that is there is said.
_OTHER_KINDS = {
    "adapter_config.json": "It holds an adapter ({file}; LoRA, say), and not the model that it changes. Merge the two "
    "once, with PEFT: `PeftModel.from_pretrained(base, path).merge_and_unload().save_pretrained(new_path)`, and copy "
    "the tokenizer's files beside it.",
    "openvino_model.*": "It holds a model for OpenVINO ({file}). Serve the repository that has the safetensors which "
    "it was exported from.",
    "*.onnx": "It holds an ONNX model ({file}). Serve the repository that has the safetensors which it was exported "
    "from.",
    "*.gguf": "It holds a GGUF model ({file}), which is quantized for llama.cpp. Serve the repository that has the "
    "safetensors which it was made from.",
    "pytorch_model*.bin": "It has only pickled weights ({file}), which can run code when loaded and are refused. "
    + _CONVERT,
    "*.pt": "It has only pickled weights ({file}), which can run code when loaded and are refused. " + _CONVERT,
    "tf_model.h5": "It holds TensorFlow's weights alone ({file}). Serve the repository that has safetensors.",
    "flax_model.msgpack": "It holds Flax's weights alone ({file}). Serve the repository that has safetensors.",
    "*.safetensors": "There is {file}, which nothing says is the whole model: its name has to be model.safetensors, or "
    "stand in model.safetensors.index.json.",
    "*.bin": "It has only pickled weights ({file}), which can run code when loaded and are refused. " + _CONVERT,
}
# One of these. Repositories of BERT's and RoBERTa's time have only the vocabulary.
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")
# The hub client retries a dead connection for half a minute; one short question first keeps the way to the
# packaged weights, or to a clear error, short. A name that no resolver answers for takes longer than any of the
# client's time-outs, so there is one for all of it.
_PROBE_TIMEOUT_S = 3.0
_PROBED_S = 5.0
_SAID_CHARS = 300
_OTHER_WAYS = (
    "fill the cache on a machine that reaches one (`sie-server models pull`, HF_HOME), or serve a local folder with "
    "--model NAME=PATH"
)
_ADVICE = f"HF_ENDPOINT names a mirror, HTTPS_PROXY a proxy; or {_OTHER_WAYS}"


def locate(entry: Entry) -> Path:
    """Folder with the checkpoint's files, downloading them (with a progress bar) where that is needed.

    With `HF_HUB_OFFLINE` set no socket is opened.

    Raises:
        LoadError: NOT_FOUND, GATED or NETWORK, with what to do about it; STORAGE, a folder is not there, or empty.
        UnsupportedModelError: the files are there, but pickled weights among them alone, or with the wrong checksum.
    """
    if entry.folder is not None:
        _require_weights(entry.folder, entry)
        return entry.folder
    if (folder := _cached(entry)) is not None:
        return folder
    try:
        folder = _download(entry)
    except LoadError as error:
        if error.kind is not LoadClass.NETWORK or (packaged := _packaged(entry)) is None:
            raise
        _LOG.info("%s: hub not reachable, using the weights installed with %s", entry.id, entry.package)
        return packaged
    _require_weights(folder, entry)
    return folder


def on_this_machine(entry: Entry) -> Path | None:
    """Folder with the checkpoint's files if it is here already; nothing is asked of the hub.

    Raises:
        UnsupportedModelError: an installed package carries weights with the wrong checksum.
    """
    return entry.folder or _cached(entry) or _packaged(entry)


def found(entry: Entry) -> Path | None:
    """As `on_this_machine`, but without a look at the weights."""
    return entry.folder or _cached(entry) or _installed(entry)


def fetch(entry: Entry) -> None:
    """Download what a load would have to, so that one that needs nothing does not wait behind it.

    Raises:
        LoadError: as `locate`.
    """
    # Of a model that is in a package too, `locate` may read and check all weights; once is enough.
    if entry.folder is None and entry.package is None and _cached(entry) is None:
        locate(entry)


def weight_files(folder: Path, pickled: bool = False) -> list[Path]:
    """The safetensors files of a checkpoint: one, or those that `model.safetensors.index.json` names, there or not.

    Where there are none and `pickled` allows it, the file of pickled tensors.

    Raises:
        UnsupportedModelError: the index can't be understood.
        LoadError: STORAGE, it can't be read just now.
    """
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if (folder / _INDEX).is_file():
        return sorted({folder / file for file in weight_map(folder).values()})
    return [folder / _PICKLED] if pickled and (folder / _PICKLED).is_file() else []


def weight_map(folder: Path) -> dict[str, str]:
    """Of each tensor the file that holds it, as the index of a checkpoint in several files says; empty without one.

    Raises:
        UnsupportedModelError: it can't be understood, or names a file outside the folder.
        LoadError: STORAGE, it can't be read just now.
    """
    if (folder / "model.safetensors").is_file() or not (folder / _INDEX).is_file():
        return {}
    files = read_json(folder / _INDEX).get("weight_map")
    if not isinstance(files, dict) or not files:
        raise UnsupportedModelError(f"{folder / _INDEX} has no 'weight_map' that says which file holds which tensor")
    for file in files.values():
        if not isinstance(file, str) or not _SHARD.fullmatch(file):
            raise UnsupportedModelError(f"{folder / _INDEX}: {file!r} is not the name of a safetensors file")
    return files


def _patterns(entry: Entry) -> list[str]:
    return [*_PATTERNS, _PICKLED, *BGE_M3_FILES] if entry.pickled else _PATTERNS


def _require_weights(folder: Path, entry: Entry) -> None:
    if files := weight_files(folder, entry.pickled):
        if absent := [file.name for file in files if not file.is_file()]:
            # Not for ever: it may still be on its way here.
            raise LoadError(
                LoadClass.STORAGE,
                f"{folder} is not complete: {_INDEX} names {absent[0]}, which does not exist"
                + (f" ({len(absent)} of {len(files)} files are missing)" if len(absent) > 1 else ""),
            )
        return
    if not folder.is_dir():
        # Not for ever: it may just be replaced, or its disk be away.
        raise LoadError(LoadClass.STORAGE, f"{folder} does not exist")
    if (instead := _instead(folder)) is not None:
        raise UnsupportedModelError(f"{folder} has no model.safetensors. {instead}")
    missing = "model.safetensors" if (folder / "config.json").is_file() else "config.json and no model.safetensors"
    message = f"{folder} has no {missing}, as `save_pretrained` writes them; it holds no model that is served here"
    # A folder may just be filled, a repository was downloaded whole.
    raise UnsupportedModelError(message) if entry.folder is None else LoadError(LoadClass.STORAGE, message)


def _instead(folder: Path) -> str | None:
    """What a folder without weights that we read holds instead, and what to do about it; None where it is nothing."""
    # What an export puts into a sub-folder, as optimum does, counts too.
    names = [path.name for pattern in ("*", "onnx/*", "openvino/*") for path in sorted(folder.glob(pattern))]
    for pattern, advice in _OTHER_KINDS.items():
        if files := [name for name in names if fnmatch(name, pattern)]:
            return advice.format(file=files[0])
    return None


def _cached(entry: Entry) -> Path | None:
    try:
        path = snapshot_download(
            entry.repository, revision=entry.revision, allow_patterns=_patterns(entry), local_files_only=True
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    folder = Path(path)
    # Another program may have fetched part of the repository only.
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    needed = [folder / "config.json", *needed_files(folder)]
    needed += [folder / name for name in BGE_M3_FILES if entry.pickled]
    weights = weight_files(folder, entry.pickled)
    return folder if weights and all(path.is_file() for path in (*needed, *weights)) else None


def _download(entry: Entry) -> Path:
    if is_offline_mode():
        raise LoadError(
            LoadClass.NETWORK,
            f"{entry.repository} is not in the local cache and HF_HUB_OFFLINE is set: unset it, or {_OTHER_WAYS}",
        )
    if (trouble := _trouble()) is not None:
        raise LoadError(
            LoadClass.NETWORK,
            f"{entry.repository} is not in the local cache and the hub, {_hub()}, is not reachable ({trouble}). "
            f"{_ADVICE}",
        )
    try:
        return Path(snapshot_download(entry.repository, revision=entry.revision, allow_patterns=_patterns(entry)))
    except GatedRepoError as error:
        raise LoadError(
            LoadClass.GATED, f"{entry.repository} is gated: accept its terms on the hub and set HF_TOKEN"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        at = f" at revision {entry.revision}" if entry.revision else ""
        message = f"the hub has no {entry.repository}{at}, or it is private; what is private needs HF_TOKEN"
        raise LoadError(LoadClass.NOT_FOUND, message) from error
    except (LocalEntryNotFoundError, EntryNotFoundError, HfHubHTTPError) as error:
        raise _not_downloaded(entry, error) from error
    except OSError:
        raise  # of the disk
    except Exception as error:  # whatever the client's transport raises
        raise LoadError(
            LoadClass.NETWORK,
            f"{entry.repository} could not be downloaded: {type(error).__name__}: {error}. {_ADVICE}",
        ) from error


def _not_downloaded(entry: Entry, error: Exception) -> LoadError:
    # What the client finds when it asks for the repository is the cause of that it can't find it here.
    responses = [getattr(each, "response", None) for each in (error, error.__cause__)]
    status = next((response.status_code for response in responses if response is not None), None)
    if status in (401, 403):
        return LoadError(
            LoadClass.GATED,
            f"the hub, {_hub()}, denies access to {entry.repository} (HTTP {status}): "
            "set HF_TOKEN to a token with access",
        )
    said = " ".join(str(error).split())[:_SAID_CHARS]
    return LoadError(LoadClass.NETWORK, f"{entry.repository} could not be downloaded: {said}. {_ADVICE}")


def _hub() -> str:
    # It may have a password in it, and this is told to clients.
    return re.sub(r"//[^/@]*@", "//", constants.ENDPOINT)


def _trouble() -> str | None:
    """Why the hub can't be reached; None where it answers, whatever it says."""
    outcome: Queue[BaseException | None] = Queue()

    def probe() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=_PROBE_TIMEOUT_S)
        except BaseException as error:
            outcome.put(error)
        else:
            outcome.put(None)

    threading.Thread(target=probe, name="probe", daemon=True).start()
    try:
        error = outcome.get(timeout=_PROBED_S)
    except Empty:
        return f"no answer within {_PROBED_S:g} s"
    if error is None:
        return None
    if not isinstance(error, Exception):
        raise error
    # Whatever the client's transport raises, the hub is out of reach.
    return str(error) or type(error).__name__


def _packaged(entry: Entry) -> Path | None:
    """The package's folder, its weights checked against the pinned sha256."""
    folder = _installed(entry)
    if folder is None:
        return None
    weights = folder / "model.safetensors"
    with os.fdopen(open_file(weights), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != entry.sha256:
        raise UnsupportedModelError(f"{weights} has sha256 {digest}, expected {entry.sha256}; reinstall the package")
    return folder


def _installed(entry: Entry) -> Path | None:
    """The package's folder, found without importing it."""
    if entry.package is None:
        return None
    name, _, inside = entry.package.partition("/")
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0], inside)
    return folder if (folder / "model.safetensors").is_file() else None
