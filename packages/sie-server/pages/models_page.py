"""Generate docs/models.md and the model table of the README from the catalogue (`make docs`)."""

import re
from pathlib import Path

from sie_server.catalog.catalog import Entry, shipped
from sie_server.catalog.describe import SIZES, count, kind, meaning, size

# Models in the README: one of each kind and size.
_README = (
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
_MARKERS = re.compile(r"(?<=<!-- models -->\n).*(?=<!-- /models -->)", re.DOTALL)


def page() -> str:
    """Render docs/models.md."""
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
    return _PAGE.format(count=len(entries), sizes=_sizes(), rows="\n".join(rows), details="\n".join(details))


def readme(text: str) -> str:
    """Replace the rows of the model table in the README."""
    entries = shipped()
    rows = [
        f"| `{model_id}` | {kind(entries[model_id])} | {entries[model_id].max_length} | "
        f"{meaning(entries[model_id])} | {entries[model_id].license} |\n"
        for model_id in _README
    ]
    return _MARKERS.sub(lambda _: "".join(rows), text)


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


def _sizes() -> str:
    bounds = [f"{name} up to {bound // 1_000_000:,} million" for name, bound in SIZES.items()]
    return f"{', '.join(bounds)}, xl above"


_PAGE = """\
# Models

<!-- Generated from the catalogue by `make docs`. Edit packages/sie-server/src/sie_server/catalog/catalog.toml. -->

The catalogue has {count} models. Each is loaded on first use; `sie-server models pull ID` downloads one in advance, and
`sie-server models show ID` prints the same facts as this page, and the location of its files. Add any other model of a
supported architecture with `--model`. `--model ID=FOLDER` serves a model of this page from a folder: with the settings
of the catalogue, and refused if the folder holds another kind of model.

| Model | Parameters | Size | Limit (tokens) | A score is | Languages | Licence |
|---|---|---|---|---|---|---|
{rows}

**Size** is the speed class, by parameters: {sizes}.
The time per token grows with the parameters, roughly in proportion. Those of a multilingual vocabulary cost memory, but
no time.

**Limit** counts the query, the document, special tokens and the prompt. A document that does not fit is cut; a model
marked * refuses it instead.

**A score** ranks the documents of one query. A *probability* is the sigmoid of a logit, a *raw logit* can be any
number, and a *sum of maximal cosines* is at most the number of query tokens, markers and expansion included. BGE-M3
gives the *cosine* of its dense vectors, or with `options.score_mode` the match of its sparse ones, the mean of maximal
cosines of its token vectors, or a weighted sum of the three. Scores of two models can't be compared.

**Late interaction** models read queries and documents differently. Each has a marker in front. A query is cut or filled
with mask tokens to a fixed length, and punctuation in a document has no vectors. The checkpoint's files define this, in
the layout of PyLate, ColBERT or sentence-transformers. The limits are often far below the table's: 32 tokens for a
query and 180 or 300 for a document. `options.query_max_length` and `options.max_seq_length` set others.

## Architectures and revisions

| Model | Kind | Architecture | Prompt | Revision | Published scores |
|---|---|---|---|---|---|
{details}

A model with a **pinned revision** keeps its scores; one without follows its repository's default branch.

**Published scores** come from a model's authors or from the tests of sentence-transformers, for given texts; those of
all-MiniLM-L6-v2 were computed with sentence-transformers. `sie-server models verify ID` compares the model with them,
and `sie-server serve --verify` refuses a model that differs. The tolerance allows for rounding: 0.5 % of the logit in
float32, 6 % in bfloat16, 15 % in int8.
"""


if __name__ == "__main__":
    Path("docs/models.md").write_text(page())
    Path("README.md").write_text(readme(Path("README.md").read_text()))
