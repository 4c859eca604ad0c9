"""Groups of sub-commands, one module each."""
