"""Rows of `encoders.py`: the catalogue's embedding and late-interaction models, with the outputs to compare."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from architectures import sizes
from encoder_checkpoints import Builder, Built

from sie_server.options import Output, ScoreMode


@dataclass(frozen=True)
class Task:
    """An output of a model, and its tolerance in float32."""

    output: Output
    is_query: bool = False
    mode: ScoreMode = "dense"
    tolerance: float = 1e-5


_DENSE = {"dense": Task("dense")}
# Weights of sparse vectors are not normalized.
_SPARSE = {"sparse": Task("sparse", tolerance=1e-4)}
_MAXSIM = {"score": Task("score", tolerance=1e-4)}
_LATE = {"query vectors": Task("multivector", is_query=True), "document vectors": Task("multivector"), **_MAXSIM}
_M3 = {
    **_DENSE,
    **_SPARSE,
    "multivector": Task("multivector"),
    "score, dense": Task("score"),
    "score, sparse": Task("score", mode="sparse", tolerance=1e-4),
    "score, colbert": Task("score", mode="colbert"),
    "score, hybrid": Task("score", mode="hybrid", tolerance=1e-4),
}


@dataclass(frozen=True)
class Row:
    """A model of the catalogue, its tokenizer, and functions that make its checkpoint and reference."""

    model: str
    vocabulary: str
    build: Callable[[Builder], Built]
    sizes: Mapping[str, Any] = field(default_factory=dict)
    layers: int | None = None
    tasks: Mapping[str, Task] = field(default_factory=lambda: _DENSE)

    @property
    def note(self) -> str:
        """Differences of the checkpoint from the published one."""
        if not self.sizes:
            return " (real weights)"
        return f" ({self.sizes['num_hidden_layers']} of {self.layers} layers)" if self.layers else ""


def _bert(pooling: str) -> Callable[[Builder], Built]:
    return lambda to: to.pooled("bert-encoder", pooling)


def _modernbert(pooling: str) -> Callable[[Builder], Built]:
    return lambda to: to.pooled("modernbert-encoder", pooling)


def _stanford(width: int, **metadata: Any) -> Callable[[Builder], Built]:
    return lambda to: to.stanford(width, **metadata)


def _pylate(chain: list[tuple[int, bool, bool]], **settings: Any) -> Callable[[Builder], Built]:
    return lambda to: to.pylate(chain, **settings)


_SMALL = sizes(384, 12, 12, 1536)
_BASE = sizes(768, 4, 12, 3072)
_LARGE = sizes(1024, 3, 16, 4096)
_WINDOW = {"local_attention": 128}
_MODERN = sizes(768, 6, 12, 1152, **_WINDOW)
_QWEN3 = sizes(1024, 4, 16, 3072, num_key_value_heads=8, head_dim=128)
_JINA = {
    "query_prefix": "[QueryMarker]",
    "document_prefix": "[DocumentMarker]",
    "query_length": 32,
    "document_length": 300,
    "attend_to_expansion_tokens": True,
}
_EDGE = [(768, True, False), (768, True, False), (64, False, False)]

ROWS = {
    "minilm": Row(
        "sentence-transformers/all-MiniLM-L6-v2",
        "bert",
        Builder.real,
        tasks={**_DENSE, "multivector": Task("multivector"), **_MAXSIM},
    ),
    "e5-small": Row("intfloat/e5-small-v2", "bert", _bert("mean"), _SMALL),
    "e5-base": Row("intfloat/e5-base-v2", "bert", _bert("mean"), _BASE, 12),
    "bge-small": Row("BAAI/bge-small-en-v1.5", "bert", _bert("cls"), _SMALL),
    "mxbai-large": Row("mixedbread-ai/mxbai-embed-large-v1", "bert", _bert("cls"), _LARGE, 24),
    "gte": Row("Alibaba-NLP/gte-modernbert-base", "modernbert", _modernbert("cls"), _MODERN, 22),
    "modernbert-embed": Row("nomic-ai/modernbert-embed-base", "modernbert", _modernbert("mean"), _MODERN, 22),
    "granite": Row(
        "ibm-granite/granite-embedding-small-english-r2", "modernbert", _modernbert("cls"), {**_SMALL, **_WINDOW}
    ),
    "qwen3": Row("Qwen/Qwen3-Embedding-0.6B", "qwen3", lambda to: to.pooled("qwen3-encoder", "lasttoken"), _QWEN3, 28),
    "splade": Row("naver/splade-v3", "bert", Builder.splade, _BASE, 12, _SPARSE),
    "bge-m3": Row("BAAI/bge-m3", "xlm-roberta", Builder.bge_m3, _LARGE, 24, _M3),
    "colbertv2": Row(
        "colbert-ir/colbertv2.0", "bert", _stanford(128, query_maxlen=32, doc_maxlen=180), _BASE, 12, _LATE
    ),
    "answerai": Row(
        "answerdotai/answerai-colbert-small-v1",
        "bert",
        _stanford(96, query_maxlen=32, doc_maxlen=300),
        _SMALL,
        tasks=_LATE,
    ),
    "jina": Row("jinaai/jina-colbert-v2", "xlm-roberta", lambda to: to.jina(128, **_JINA), _LARGE, 24, _LATE),
    "gte-colbert": Row(
        "lightonai/GTE-ModernColBERT-v1",
        "modernbert",
        _pylate([(128, False, False)], query_length=32, document_length=300),
        _MODERN,
        22,
        _LATE,
    ),
    "edge-colbert": Row(
        "mixedbread-ai/mxbai-edge-colbert-v0-32m",
        "modernbert",
        _pylate(_EDGE, query_length=48, document_length=511),
        sizes(384, 10, 6, 576, **_WINDOW),
        tasks=_LATE,
    ),
}
