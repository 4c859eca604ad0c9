"""What the tests, reliability/ and benchmarks/ share: servers, engines and checkpoints to try things on."""
