"""Xinference's answers: Cohere's, and whether its client should send a key."""

from dataclasses import replace

from msgspec import Struct

from sie_server.api.dialects.cohere import COHERE_V1


class XinferenceAuth(Struct):
    """Whether requests need a key."""

    auth: bool


XINFERENCE = replace(COHERE_V1, name="xinference")
