"""Python client of SIE, the inference engine for reranking.

>>> from sie_sdk import SIEClient
>>> from sie_sdk.types import Item
>>> query, items = Item(text="What is Python?"), [Item(text="Snakes are reptiles."), Item(text="A language.")]
>>> with SIEClient("http://localhost:8080") as client:
...     result = client.score("sentence-transformers/all-MiniLM-L6-v2", query, items)
>>> [entry["item_id"] for entry in result["scores"]]
['item-1', 'item-0']
"""

from sie_sdk._version import __version__
from sie_sdk.client import SIEAsyncClient, SIEClient
from sie_sdk.encoding import (
    SparseVector,
    dense_embedding,
    multivector_embedding,
    normalize_sparse_vector,
    sparse_embedding,
    sparse_embedding_dict,
)
from sie_sdk.errors import (
    AccountInactiveError,
    AccountStateUnavailableError,
    EstimateUnroutableError,
    IgnoredOptionWarning,
    IncompleteBatchError,
    InputTooLongError,
    InsufficientCreditsError,
    JobFailedError,
    LoraLoadingError,
    ModelLoadFailedError,
    ModelLoadingError,
    PoolError,
    ProvisioningError,
    RateLimitError,
    RelayUnavailableError,
    RequestError,
    ResourceExhaustedError,
    ServerError,
    SIEConnectionError,
    SIEError,
    SpendLimitError,
)

__all__ = [
    "AccountInactiveError",
    "AccountStateUnavailableError",
    "EstimateUnroutableError",
    "IgnoredOptionWarning",
    "IncompleteBatchError",
    "InputTooLongError",
    "InsufficientCreditsError",
    "JobFailedError",
    "LoraLoadingError",
    "ModelLoadFailedError",
    "ModelLoadingError",
    "PoolError",
    "ProvisioningError",
    "RateLimitError",
    "RelayUnavailableError",
    "RequestError",
    "ResourceExhaustedError",
    "SIEAsyncClient",
    "SIEClient",
    "SIEConnectionError",
    "SIEError",
    "ServerError",
    "SparseVector",
    "SpendLimitError",
    "__version__",
    "dense_embedding",
    "multivector_embedding",
    "normalize_sparse_vector",
    "sparse_embedding",
    "sparse_embedding_dict",
]
