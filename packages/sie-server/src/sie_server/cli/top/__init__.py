"""What `sie-server top` shows: a running server, read over HTTP."""
