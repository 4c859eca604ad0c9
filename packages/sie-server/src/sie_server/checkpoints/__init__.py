"""Checkpoints: the files of a model, read into a loaded model."""
