"""The server as an application of Ray Serve, `serve run sie_server.ray:app`. Needs the extra `ray`."""

from sie_server.ray.application import app

__all__ = ["app"]
