"""`sie-server top`: a running server, live in the terminal."""
