"""The HTTP libraries the clients send with, one module each."""
