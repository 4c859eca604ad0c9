"""Architectures, the catalogue of known models, and how weights get into memory."""
