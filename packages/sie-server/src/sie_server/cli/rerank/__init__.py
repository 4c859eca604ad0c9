"""`sie-server rerank`: rankings of files."""
