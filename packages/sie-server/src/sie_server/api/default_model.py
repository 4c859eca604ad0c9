"""The model of a request that names none."""

from collections.abc import Iterator

from sie_server.errors import Code, SIEError
from sie_server.options import Output
from sie_server.residency.address import ModelNames
from sie_server.settings import Settings


class DefaultModel:
    """Chooses the model for an output: the configured one, or else the only preloaded one that has the output.

    Of several that score, the only one that reads a query and a document together: embedding models score too.
    """

    def __init__(self, names: ModelNames, settings: Settings) -> None:
        self._names = names
        self._configured = settings.default_model
        self._preloaded = settings.preload

    def able(self, output: Output) -> str:
        """The model for this output.

        Raises:
            SIEError: INVALID_INPUT, there is none; the message lists the models.
        """
        found = [*self._with(output)]
        if self._configured in found or (self._configured and len(found) != 1):
            return self._configured
        if len(found) > 1 and output == "score":
            found = [name for name in found if self._names.resolve(name).entry.score not in ("maxsim", "similarity")]
        if len(found) == 1:
            return found[0]
        names = ", ".join([*self._names.aliases, *(address.id for address in self._names)])
        raise SIEError(
            Code.INVALID_INPUT,
            f"'model' is missing, and the server has no --default-model. Models: {names}",
            param="model",
        )

    def _with(self, output: Output) -> Iterator[str]:
        for name in dict.fromkeys((*filter(None, [self._configured]), *self._preloaded)):
            if output in (self._names.resolve(name).entry.outputs or (output,)):
                yield name
