"""The command `sie-server`."""
