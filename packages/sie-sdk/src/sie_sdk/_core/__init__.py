"""Calls and their life cycle, without I/O; the sessions in `client` drive them over `_transports`."""
