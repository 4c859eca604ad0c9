"""SIE: an inference engine for reranking."""

__version__ = "0.1.0"
