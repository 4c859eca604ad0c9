"""Files of tensors, opened once: what a header says, held against the file's size, and the tensors read from there.

Nothing is mapped: a file that is cut short while it is read is an error of this load, where a mapping would end the
process (SIGBUS).
"""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence as Items
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from sie_server.checkpoints.cancellation import stop_if_given_up
from sie_server.checkpoints.files import open_file
from sie_server.errors import LoadClass, LoadError, UnsupportedModelError

# The format allows for 100 MB; that of a model of 100,000 tensors has 15.
_MOST_HEADER_BYTES = 16 * 2**20
# Read and converted at once: small enough for the cache, and for PyTorch to convert it on this thread alone. Threads of
# its own would wait for each other at the end of every one, which costs more where cores are busy.
_CHUNK_BYTES = 2**17
# Bits of an element.
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
}
# What weights are read from. Integers and 8-bit floats need scales that are in no table of ours.
_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class Stored(NamedTuple):
    """A tensor in a file: its element's name in the format, and where its bytes begin."""

    dtype: str
    shape: tuple[int, ...]
    begin: int

    @property
    def float_dtype(self) -> torch.dtype | None:
        """Its element in torch's words; None for what weights are not read from."""
        return _FLOATS.get(self.dtype)


class _Described(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class TensorFile(ABC):
    """The tensors of one file, by name, in the order they lie in it. Holds it open until it is closed."""

    def __init__(self, path: Path) -> None:
        """Reads what the file says of its tensors.

        Raises:
            LoadError: STORAGE, it can't be read as such a file: not for ever, it may be on its way here still.
            UnsupportedModelError: it is no regular file, or not of a kind that is read.
        """
        self.path = path
        self._descriptor = open_file(path)
        self._chunk = torch.empty(_CHUNK_BYTES, dtype=torch.uint8)
        try:
            self.tensors = self._index()
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def _index(self) -> dict[str, Stored]: ...

    @abstractmethod
    def _unreadable(self, why: str) -> LoadError: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._descriptor)

    def read(self, name: str, target: Tensor, rows: Items[int] = ()) -> None:
        """Fill a contiguous tensor with one of the file's, converted; `rows`: with these of its rows alone.

        Shapes: as many elements as that, or its rows, have.

        Raises:
            LoadError: STORAGE, the file can't be read, or has become shorter; TIMEOUT, the load was given up.
        """
        stored = self.tensors[name]
        if not rows:
            self._fill(stored, stored.begin, target.view(-1))
            return
        assert stored.float_dtype is not None
        size = math.prod(stored.shape[1:]) * stored.float_dtype.itemsize
        for row, part in zip(rows, target, strict=True):
            self._fill(stored, stored.begin + row * size, part.view(-1))

    def _fill(self, stored: Stored, begin: int, target: Tensor) -> None:
        dtype = stored.float_dtype
        assert dtype is not None
        straight = target.dtype == dtype and target.device.type == "cpu"
        chunk = self._chunk.view(dtype)
        step = len(chunk)
        for first in range(0, target.numel(), step):
            part = target[first : first + step]
            read = part if straight else chunk[: len(part)]
            self._read(begin + first * dtype.itemsize, read.view(torch.uint8).numpy().data)
            if not straight:
                part.copy_(read)

    def _read(self, begin: int, into: memoryview) -> None:
        stop_if_given_up()
        while into:
            try:
                count = os.preadv(self._descriptor, [into], begin)
            except OSError as error:
                raise self._unreadable(str(error.strerror)) from error
            if not count:
                raise self._unreadable("it has become shorter")
            begin, into = begin + count, into[count:]

    def _bytes(self, begin: int, count: int) -> bytes:
        content = bytearray(count)
        self._read(begin, memoryview(content))
        return bytes(content)


class SafetensorsFile(TensorFile):
    """A file in the format of https://github.com/huggingface/safetensors."""

    def _index(self) -> dict[str, Stored]:
        size = os.fstat(self._descriptor).st_size
        if size < 8:
            raise self._unreadable(f"it has {size} bytes")
        length = int.from_bytes(self._bytes(0, 8), "little")
        if length > _MOST_HEADER_BYTES:
            raise self._unreadable(f"its header has {length:,} bytes; the limit is {_MOST_HEADER_BYTES:,}")
        if 8 + length > size:
            raise self._unreadable(f"its header has {length:,} bytes, and the file {size:,}")
        try:
            header = msgspec.json.decode(self._bytes(8, length), type=dict[str, Any])
            header.pop("__metadata__", None)
            described = msgspec.convert(header, dict[str, _Described])
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._unreadable(f"its header: {error}") from error
        return self._checked(described, 8 + length, size)

    def _checked(self, described: dict[str, _Described], begin: int, size: int) -> dict[str, Stored]:
        """Tensors lie one behind the other, without overlap or gap, and fill the file."""
        end = begin
        tensors = {}
        for name, each in sorted(described.items(), key=lambda item: item[1].data_offsets):
            if each.dtype not in _BITS:
                raise self._unreadable(f"{name} has elements of {each.dtype!r}")
            first, last = (begin + offset for offset in each.data_offsets)
            if first != end or last < first or min(each.shape, default=0) < 0:
                raise self._unreadable(f"{name} is not where its header says")
            if 8 * (last - first) != math.prod(each.shape) * _BITS[each.dtype]:
                raise self._unreadable(f"{name} has {last - first:,} bytes, which is not its shape {each.shape}")
            tensors[name] = Stored(each.dtype, each.shape, first)
            end = last
        if end != size:
            raise self._unreadable(f"its tensors end at byte {end:,}, and the file at {size:,}")
        return tensors

    def _unreadable(self, why: str) -> LoadError:
        return LoadError(LoadClass.STORAGE, f"{self.path} is not a readable safetensors file: {why}")


class PickleFile(TensorFile):
    """Tensors that torch.save wrote, by an unpickler that knows tensors and nothing that could run code."""

    def _index(self) -> dict[str, Stored]:
        try:
            # It builds tensors without memory, which know where in the file theirs is.
            with os.fdopen(os.dup(self._descriptor), "rb") as file, FakeTensorMode():
                tensors = torch.load(file, map_location="cpu", weights_only=True)
            return {name: self._stored(name, tensor) for name, tensor in tensors.items()}
        except OSError as error:
            raise self._unreadable(str(error.strerror)) from error
        except Exception as error:  # whatever a broken pickle makes of the reader
            raise UnsupportedModelError(f"{self.path} is not a readable file of tensors: {error}") from error

    def _stored(self, name: str, tensor: Tensor) -> Stored:
        begin = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
        if begin is None or not tensor.is_contiguous():
            raise UnsupportedModelError(
                f"{self.path}: {name} is not contiguous, or was saved by PyTorch before 1.6; save it again"
            )
        dtype = next((name for name, dtype in _FLOATS.items() if dtype == tensor.dtype), str(tensor.dtype))
        return Stored(dtype, tuple(tensor.shape), begin + tensor.storage_offset() * tensor.element_size())

    def _unreadable(self, why: str) -> LoadError:
        return LoadError(LoadClass.STORAGE, f"{self.path} is not a readable file of tensors: {why}")


def open_tensors(path: Path) -> TensorFile:
    """The tensors of a file, by its name's suffix.

    Raises:
        LoadError: as `TensorFile`.
    """
    return PickleFile(path) if path.suffix in (".bin", ".pt") else SafetensorsFile(path)


def check_floats(name: str, stored: Stored) -> torch.dtype:
    """The element of a tensor that is to be a weight.

    Raises:
        UnsupportedModelError: it is none that weights are read from.
    """
    if (dtype := stored.float_dtype) is None:
        raise UnsupportedModelError(f"{name} is stored as {stored.dtype}; supported: {', '.join(_FLOATS)}")
    return dtype
