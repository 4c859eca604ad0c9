"""Architectures, and what a loaded model is."""
