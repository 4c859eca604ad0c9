"""Tables of all models, from the catalogue."""

from sie_server.catalog.catalog import Entry, shipped
from sie_server.catalog.describe import count, kind, meaning, size

_SELECTION = (
    "sentence-transformers/all-MiniLM-L6-v2",
    "cross-encoder/ms-marco-MiniLM-L-6-v2",
    "cross-encoder/ettin-reranker-32m-v1",
    "Alibaba-NLP/gte-reranker-modernbert-base",
    "BAAI/bge-reranker-v2-m3",
    "jinaai/jina-reranker-v2-base-multilingual",
    "mixedbread-ai/mxbai-rerank-base-v2",
    "Qwen/Qwen3-Reranker-0.6B",
    "lightonai/GTE-ModernColBERT-v1",
    "BAAI/bge-m3",
)


def parts() -> dict[str, str]:
    """The generated parts of docs/models.md."""
    entries = shipped()
    rows = [
        f"| `{model_id}` | {_parameters(entry)} | {_limit(entry)} | "
        f"{meaning(entry)} | {entry.languages} | {entry.license} |"
        for model_id, entry in entries.items()
    ]
    details = [
        f"| `{model_id}` | {kind(entry)} | `{entry.architecture}` | {_prompt(entry)} | {_pin(entry)} | "
        f"{sum(len(example.scores) for example in entry.examples) or 'none'} |"
        for model_id, entry in entries.items()
    ]
    heads = "| Model | Parameters | Size | Limit (tokens) | A score is | Languages | License |"
    detail_heads = "| Model | Kind | Architecture | Prompt | Revision | Published scores |"
    return {
        "models": "\n".join([heads, "|---|---|---|---|---|---|---|", *rows]),
        "details": "\n".join([detail_heads, "|---|---|---|---|---|---|", *details]),
    }


def selection() -> str:
    """The table of models of the README: one of each kind and size."""
    entries = shipped()
    rows = [
        f"| `{model_id}` | {kind(entries[model_id])} | {entries[model_id].max_length} | "
        f"{meaning(entries[model_id])} | {entries[model_id].license} |"
        for model_id in _SELECTION
    ]
    return "\n".join(["| Model | Kind | Limit (tokens) | A score is | License |", "|---|---|---|---|---|", *rows])


def _parameters(entry: Entry) -> str:
    assert entry.parameters is not None
    return f"{count(entry.parameters)} | {size(entry.parameters)}"


def _limit(entry: Entry) -> str:
    return f"{entry.max_length}{'*' if entry.long_documents == 'error' else ''}"


def _prompt(entry: Entry) -> str:
    if entry.prompt is None:
        return "–"
    return f"`{entry.prompt}`" + (f", asking “{entry.instruction}”" if entry.instruction else "")


def _pin(entry: Entry) -> str:
    return f"`{entry.revision[:12]}`" if entry.revision else "not pinned"
