"""Anything that ranks documents by their relevance to a query: a model in this process, or a server and its API."""
