"""`sie-server bench`: the speed of a model on this machine."""
