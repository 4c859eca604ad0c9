"""Model architectures, and loaded models."""
