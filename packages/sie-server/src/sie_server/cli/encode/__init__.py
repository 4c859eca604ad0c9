"""`sie-server encode`: vectors of the texts in files."""
