"""The HTTP dialects of the server."""
