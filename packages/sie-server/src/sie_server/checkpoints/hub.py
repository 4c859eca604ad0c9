"""Downloads from the hub."""

import re
import threading
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
from sie_server.errors import LoadClass, LoadError

# The hub client retries a dead connection for half a minute. One short probe first leads quickly to the packaged
# weights or to a clear error. Name resolution can take longer than all time-outs of the client, so the probe has one.
_PROBE_TIMEOUT_S = 3.0
_PROBED_S = 5.0
_SAID_CHARS = 300
_OTHER_WAYS = (
    "fill the cache on a machine with access to the hub (`sie-server models pull`, HF_HOME), or serve a local folder "
    "with --model NAME=PATH, where NAME may be the model's id"
)
_ADVICE = f"set HF_ENDPOINT to a mirror or HTTPS_PROXY to a proxy; or {_OTHER_WAYS}"


def download(entry: Entry, patterns: list[str]) -> Path:
    """Download the files of a model's repository whose names match, with a progress bar.

    With `HF_HUB_OFFLINE` set no socket is opened.

    Raises:
        LoadError: NOT_FOUND, GATED or NETWORK, with advice.
    """
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
        return Path(snapshot_download(entry.repository, revision=entry.revision, allow_patterns=patterns))
    except GatedRepoError as error:
        raise LoadError(
            LoadClass.GATED, f"{entry.repository} is gated: accept its terms on the hub and set HF_TOKEN"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        at = f" at revision {entry.revision}" if entry.revision else ""
        message = f"{entry.repository}{at} was not found on the hub; if it is private, set HF_TOKEN"
        raise LoadError(LoadClass.NOT_FOUND, message) from error
    except (LocalEntryNotFoundError, EntryNotFoundError, HfHubHTTPError) as error:
        raise _not_downloaded(entry, error) from error
    except OSError:
        raise  # from the disk
    except Exception as error:  # the client's transport can raise anything
        raise LoadError(
            LoadClass.NETWORK,
            f"{entry.repository} could not be downloaded: {type(error).__name__}: {error}. {_ADVICE}",
        ) from error


def _not_downloaded(entry: Entry, error: Exception) -> LoadError:
    # The answer of the hub is the cause of the error that the files are not in the cache.
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
    # Without a password in it: clients see this.
    return re.sub(r"//[^/@]*@", "//", constants.ENDPOINT)


def _trouble() -> str | None:
    """Says why the hub can't be reached; None if it answers anything at all."""
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
    # Any exception of the client's transport means that the hub can't be reached.
    return str(error) or type(error).__name__
