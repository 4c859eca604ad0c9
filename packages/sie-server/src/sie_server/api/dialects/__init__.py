"""Rerank APIs of other vendors and servers: one reader of bodies, and a writer of answers for each."""
