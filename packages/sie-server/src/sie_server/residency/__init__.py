"""Models in memory: loading, unloading, and the memory budget."""
