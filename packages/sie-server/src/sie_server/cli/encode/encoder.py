"""The interface of all models that embed texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sie_server.options import Output

# Vectors of one text, by output: float32 `[dims]`, a pair of ids and float32 weights, or float32 `[tokens, dims]`.
Vectors = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EncodeFlags:
    """The vectors that are wanted of each text. outputs: none for those of the profile. dimensions: None for all."""

    outputs: tuple[Output, ...]
    is_query: bool
    dimensions: int | None
    instruction: str | None


class Encoder(Protocol):
    """Embeds texts. `name` is for people: a model id, with an address if the model is on a server."""

    @property
    def name(self) -> str: ...

    async def encode(self, texts: Sequence[str]) -> list[Vectors]:
        """The vectors of each text, which are finite.

        Raises:
            RankerError: this request failed.
            UnavailableError: and others would, too.
        """
        ...
