"""The embedding APIs of others: what their clients send and read."""
