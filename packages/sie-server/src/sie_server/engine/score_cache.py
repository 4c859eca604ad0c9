"""Scores that were computed before, by all that they depend on."""

import hashlib
import secrets

import numpy as np

from sie_server.engine.calls import ScoreCall
from sie_server.engine.documents import Documents
from sie_server.engine.results import DocumentScore
from sie_server.engine.score_store import BYTES_PER_ENTRY, Keys, ScoreStore
from sie_server.machine.memory import usable_memory
from sie_server.metrics import Metrics
from sie_server.models.loaded_model import LoadedModel
from sie_server.settings import Settings
from sie_server.tokenization.config import LengthLimits


def score_cache(settings: Settings, metrics: Metrics) -> "ScoreCache | None":
    """The cache of these settings, if they have one.

    Raises:
        ValueError: it should be separate by API key, but none is set; it is as large as the memory.
    """
    per_client = settings.score_cache_scope == "key"
    if per_client and not settings.keys:
        raise ValueError("--score-cache-scope key needs API keys: set --api-keys or --api-keys-file")
    if not settings.score_cache:
        return None
    if settings.score_cache >= (memory := usable_memory()):
        raise ValueError(f"--score-cache {settings.score_cache}: this machine has {memory} bytes of memory")
    return ScoreCache(settings.score_cache, per_client=per_client, metrics=metrics)


class ScoreCache:
    """The scores of pairs of a query and a document, for as long as the process runs. Lives on the event loop.

    A score that is found has the bits that were stored, since a score depends on nothing but the parts of its key. The
    kernels and libraries are those of the process, and so are not in the key.
    """

    def __init__(self, size: int, *, per_client: bool, metrics: Metrics) -> None:
        """size: in bytes. per_client: whether a client finds only scores that were computed for itself."""
        self._store = ScoreStore(size)
        self._per_client = per_client
        # Nobody can choose texts whose keys are the same, or in the same set.
        self._secret = secrets.token_bytes(32)
        self._metrics = metrics
        metrics.score_cache_bytes.labels("total").set(self._store.capacity * BYTES_PER_ENTRY)
        metrics.score_cache_bytes.labels("used").set_function(lambda: self._store.entries * BYTES_PER_ENTRY)
        metrics.score_cache_entries.set_function(lambda: self._store.entries)

    def keys(self, model: LoadedModel, call: ScoreCall, limits: LengthLimits, query: str, documents: Documents) -> Keys:
        """The keys `[n, 2]` of the distinct texts of the documents. Can be called on any thread."""
        common = hashlib.blake2b(key=self._secret, digest_size=16)
        for part in (
            model.fingerprint.encode(),
            call.scheduling.client.encode() if self._per_client else b"",
            repr((limits, call.comparison, call.instruction is None)).encode(),
            _bytes(call.instruction or ""),
            _bytes(query),
        ):
            common.update(len(part).to_bytes(8, "little"))
            common.update(part)
        digests = []
        for text in documents.distinct:
            digest = common.copy()
            digest.update(_bytes(text))
            digests.append(digest.digest())
        return np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)

    def look_up(self, model_id: str, documents: Documents, keys: Keys, limits: LengthLimits) -> Documents:
        """The documents with those scores that were found by the keys of their distinct texts.

        None are known if all would be and the limits refuse the documents, which the tokenizer says in its words.
        """
        found = documents.looked_up(keys, self._store.find(keys))
        hits = len(keys) - len(found.unknown)
        for result, count in (("hit", hits), ("miss", len(found.unknown))):
            self._metrics.score_cache_texts.labels(model_id, result).inc(count)
        if not found.unknown and not found.within(limits):
            return Documents.separate(documents.every)
        return found

    def put(self, documents: Documents, scores: list[DocumentScore]) -> None:
        """Store the scores, which are finite, of the unknown texts of documents that were looked up."""
        if documents.keys is None:
            return
        evicted = self._store.evictions
        unknown = documents.keys[documents.unknown_places] if documents.known else documents.keys
        self._store.put(unknown, scores)
        self._metrics.score_cache_evictions.inc(self._store.evictions - evicted)


def _bytes(text: str) -> bytes:
    # No text that a client sends has surrogates, but what calls the engine in this process might pass them.
    return text.encode(errors="surrogatepass")
