"""The files that vectors are written to: NumPy's, JSON Lines, and Parquet."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from sie_server.cli.encode.encoder import Vectors
from sie_server.cli.rankers.ranker import RankerError
from sie_server.cli.rerank.request import identity

Kind = Literal["npy", "jsonl", "parquet"]
Number = Literal["float32", "float16"]
_NPY_HEADER_BYTES = 128
_ROWS = 1024
_LENGTH_BYTES = 4


class Form(Protocol):
    """The results of texts, and the complete file that is made of them."""

    def row(self, index: int, text: str, fields: Mapping[str, Any], vectors: Vectors) -> bytes:
        """The result of a text. index: of the text; fields: of its line, if that is JSON.

        Raises:
            RankerError: the vectors can't be written in this form.
        """
        ...

    def finish(self, results: BinaryIO, rows: int) -> None:
        """Make the complete file of all results, one after another. Raises OSError."""


class JsonLines:
    """The fields of each line, or the index of its text, and the vectors in fields of their own."""

    def __init__(self, dtype: Number) -> None:
        self._dtype = dtype

    def row(self, index: int, text: str, fields: Mapping[str, Any], vectors: Vectors) -> bytes:
        found: dict[str, Any] = {**fields} if fields else {"index": index}
        for name, values in vectors.items():
            if name == "sparse":
                weights = numbers(values[1], self._dtype).tolist()
                found[name] = {"indices": values[0].tolist(), "values": weights}
            else:
                found[name] = numbers(values, self._dtype).tolist()
        return msgspec.json.encode(found) + b"\n"

    def finish(self, results: BinaryIO, rows: int) -> None:
        pass


class Npy:
    """An array `[texts, dims]`. Its header has the number of rows, and is written last."""

    def __init__(self, dtype: Number) -> None:
        self._dtype: Number = dtype

    def row(self, index: int, text: str, fields: Mapping[str, Any], vectors: Vectors) -> bytes:
        if "dense" not in vectors:
            raise RankerError(f"an .npy file has dense vectors, and the model gave {', '.join(vectors)}")
        row = numbers(vectors["dense"], self._dtype)
        # Without its magic string, the file can't be taken for a complete one.
        return (b"" if index else bytes(_NPY_HEADER_BYTES)) + row.tobytes()

    def finish(self, results: BinaryIO, rows: int) -> None:
        size, kind = results.seek(0, io.SEEK_END) - _NPY_HEADER_BYTES, np.dtype(self._dtype)
        width = size // (rows * kind.itemsize) if rows else 0
        header = io.BytesIO()
        shape = {"descr": kind.str, "fortran_order": False, "shape": (rows, width)}
        np.lib.format.write_array_header_1_0(header, shape)
        assert len(header.getvalue()) == _NPY_HEADER_BYTES
        results.seek(0)
        results.write(header.getvalue())
        results.flush()


class Parquet:
    """Columns for id and text, and for each kind of vectors. Results are rows in MessagePack until the end."""

    def __init__(self, dtype: Number, path: Path) -> None:
        self._dtype = dtype
        self._path = path

    def row(self, index: int, text: str, fields: Mapping[str, Any], vectors: Vectors) -> bytes:
        found: dict[str, Any] = {"id": identity(fields) or str(index), "text": text}
        for name, values in vectors.items():
            if name == "sparse":
                found[name] = [values[0].astype("<i4").tobytes(), numbers(values[1], self._dtype).tobytes()]
            else:
                found[name] = [list(values.shape), numbers(values, self._dtype).tobytes()]
        packed = msgspec.msgpack.encode(found)
        return len(packed).to_bytes(_LENGTH_BYTES, "little") + packed

    def finish(self, results: BinaryIO, rows: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        results.seek(0)
        writer: Any = None
        try:
            for group in _grouped(results):
                columns = {name: self._column(pa, name, [row[name] for row in group]) for name in group[0]}
                table = pa.table(columns)
                if writer is None:
                    writer = pq.ParquetWriter(self._path, table.schema)
                writer.write_table(table)
            if writer is None:
                writer = pq.ParquetWriter(self._path, pa.schema([("id", pa.string()), ("text", pa.string())]))
        finally:
            if writer is not None:
                writer.close()

    def _column(self, pa: Any, name: str, values: list[Any]) -> Any:
        if name in ("id", "text"):
            return pa.array(values, pa.string())
        number = pa.float16() if self._dtype == "float16" else pa.float32()
        arrays = [np.frombuffer(content, self._dtype) for _, content in values]
        flat = pa.array(np.concatenate(arrays), number)
        if name == "sparse":
            offsets = _offsets([len(weights) for weights in arrays])
            ids = pa.array(np.concatenate([np.frombuffer(indices, "<i4") for indices, _ in values]), pa.int32())
            lists = [pa.ListArray.from_arrays(offsets, ids), pa.ListArray.from_arrays(offsets, flat)]
            return pa.StructArray.from_arrays(lists, ["indices", "values"])
        width = values[0][0][-1]
        vectors = pa.FixedSizeListArray.from_arrays(flat, width)
        if name == "dense":
            return vectors
        return pa.ListArray.from_arrays(_offsets([shape[0] for shape, _ in values]), vectors)


def numbers(values: NDArray[np.float32], dtype: Number) -> NDArray[Any]:
    """The values in this type.

    Raises:
        RankerError: one is too large for it.
    """
    if dtype == "float32":
        return values
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if not np.isfinite(halves).all():
        raise RankerError("a vector has a number that is too large for float16")
    return halves


def _grouped(results: BinaryIO) -> Iterator[list[dict[str, Any]]]:
    """The rows of a file, a group at a time."""
    rows: list[dict[str, Any]] = []
    while length := results.read(_LENGTH_BYTES):
        rows.append(msgspec.msgpack.decode(results.read(int.from_bytes(length, "little"))))
        if len(rows) == _ROWS:
            yield rows
            rows = []
    if rows:
        yield rows


def _offsets(lengths: list[int]) -> NDArray[np.int32]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
