"""Servers, engines and checkpoints to try things on, shared by the tests, reliability/ and benchmarks/."""
