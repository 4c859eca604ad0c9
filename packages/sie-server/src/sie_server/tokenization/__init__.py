"""From text to sequences of token ids."""
