"""How bytes come and go: connections, bodies, keys, logs."""
