"""An encoder that computes in this process, by the engine of the server."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from sie_server import wire
from sie_server.api.embed_dialects.vectors import cut
from sie_server.api.embeddings import check_dimensions
from sie_server.api.request_options import encode_call, with_profile
from sie_server.api.responses import check_finite
from sie_server.cli.encode.encoder import EncodeFlags, Encoder, Vectors
from sie_server.cli.rankers.local_engine import engine_error, local_address, local_engine, local_entry
from sie_server.cli.rankers.ranker import UnavailableError
from sie_server.engine.engine import Engine
from sie_server.errors import SIEError
from sie_server.options import Precision
from sie_server.residency.address import ModelAddress


class EngineEncoder:
    """Embeds with the model of an engine, by the options of its profile."""

    def __init__(self, engine: Engine, address: ModelAddress, flags: EncodeFlags) -> None:
        self.name = address.id
        self._engine = engine
        self._dimensions = flags.dimensions
        options = with_profile(wire.EncodeOptions(), address.profile)
        outputs = list(flags.outputs or options.output_types or ["dense"])
        if options.muvera is not None and "dense" not in outputs:
            outputs.append("dense")
        self._call = encode_call(
            address.slot.entry.id,
            [],
            outputs,
            options,
            is_query=flags.is_query,
            instruction=flags.instruction,
            muvera=options.muvera,
        )

    async def prepare(self) -> None:
        """Load the model.

        Raises:
            SIEError: it can't be loaded, or does not have the outputs.
            ValueError: its vectors can't be cut to this width.
        """
        async with self._engine.residency.serving(self._call.model_id, self._call.required) as model:
            if self._dimensions is None:
                return
            try:
                check_dimensions(self._dimensions, model.entry, "dimensions", dense=self._call.outputs == ["dense"])
            except SIEError as error:
                raise ValueError(error.message) from None

    async def encode(self, texts: Sequence[str]) -> list[Vectors]:
        try:
            encoding = await self._engine.encode(replace(self._call, texts=[*texts]))
            for vectors in encoding.vectors:
                for name, values in vectors.items():
                    check_finite(values[1] if name == "sparse" else values, name)
        except SIEError as error:
            raise engine_error(self._engine, error) from error
        if self._dimensions is not None:
            for vectors in encoding.vectors:
                vectors["dense"] = cut(vectors["dense"], self._dimensions)
        return encoding.vectors


@asynccontextmanager
async def engine_encoder(model: str, flags: EncodeFlags, device: str, precision: Precision) -> AsyncIterator[Encoder]:
    """An encoder in this process, with a model that is loaded. model: as `local_entry` reads it.

    Raises:
        ValueError: there is no such folder, profile, device, precision or width.
        UnavailableError: the model can't be loaded, or does not have these outputs.
    """
    entry = local_entry(model)
    async with local_engine(entry, device, precision) as engine:
        address = local_address(engine, entry, model)
        encoder = EngineEncoder(engine, address, flags)
        try:
            await encoder.prepare()
        except SIEError as error:
            raise UnavailableError(error.message) from error
        yield encoder
