"""SIE: an inference engine for reranking."""

__version__ = "0.5.0"

CONTRACT_VERSION = "0.10.1"
"""The release of the public SIE whose HTTP interface this server implements; clients compare their own with it."""
