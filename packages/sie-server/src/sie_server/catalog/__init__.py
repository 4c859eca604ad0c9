"""The models that are known by name, and what is said of each."""
