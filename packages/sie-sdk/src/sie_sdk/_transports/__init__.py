"""The HTTP libraries that the clients send requests with, one module each."""
