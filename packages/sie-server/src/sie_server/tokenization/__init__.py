"""Tokenization: texts to sequences of token ids."""
