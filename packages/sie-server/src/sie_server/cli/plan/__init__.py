"""`sie-server plan`: how many replicas a load needs."""
