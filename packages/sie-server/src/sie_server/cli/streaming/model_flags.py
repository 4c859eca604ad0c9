"""The flags that choose a model and where it runs."""

import os
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from sie_server.cli.rankers.open import DEFAULT_MODEL, open_ranker
from sie_server.cli.rankers.public_url import public_url
from sie_server.cli.rankers.ranker import Ranker
from sie_server.options import LongDocuments, Precision


@dataclass(frozen=True, slots=True)
class ModelFlags:
    """Flags of a command, as given. None: the default."""

    model: str | None
    url: str | None
    instruction: str | None
    long_documents: LongDocuments | None
    device: str
    precision: Precision
    api_key: str | None

    @property
    def here(self) -> tuple[str, Precision]:
        """Device and precision. In the environment they are those of servers on this machine, not of one at `url`."""
        device, precision = self.device, self.precision
        if self.url is not None and device == os.environ.get("SIE_DEVICE"):
            device = "auto"
        if self.url is not None and precision == os.environ.get("SIE_PRECISION"):
            precision = "auto"
        return device, precision

    @property
    def opening(self) -> str:
        """The first thing that happens to the model, for people."""
        return "loading the model" if self.url is None else f"asking {public_url(self.url)}"

    def ranker(self) -> AbstractAsyncContextManager[Ranker]:
        """The ranker. Raises as `open_ranker`."""
        device, precision = self.here
        return open_ranker(
            self.model,
            url=self.url,
            instruction=self.instruction,
            long_documents=self.long_documents,
            device=device,
            precision=precision,
            api_key=self.api_key,
        )

    def settings(self, name: str) -> dict[str, str]:
        """All that a score or a vector depends on except the texts, by name. name: of the model that is open.

        A model of this process counts with the names, sizes and times of its files.
        """
        chosen = {
            "model": name,
            "instruction": self.instruction or "",
            "long-documents": self.long_documents or "",
        }
        if self.url is None:
            from sie_server.cli.rankers.local_engine import local_files

            device, precision = self.here
            files = local_files(self.model or DEFAULT_MODEL)
            chosen |= {"device": device, "precision": precision, "state of the model's files": files}
        return chosen
