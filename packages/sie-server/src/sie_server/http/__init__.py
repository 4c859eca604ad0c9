"""HTTP transport: connections, bodies, API keys, errors, request log, shutdown."""
