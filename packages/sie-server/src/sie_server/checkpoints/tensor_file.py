"""Files of tensors: the header, checked against the file's size, and reads of single tensors.

Nothing is mapped. If a file is cut short while it is read, that load fails; with a mapping, the process would (SIGBUS).
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

from sie_server.checkpoints.cancellation import stop_if_given_up
from sie_server.checkpoints.files import open_file
from sie_server.errors import LoadClass, LoadError, UnsupportedModelError

# The format allows 100 MB; a model of 100,000 tensors needs 15 MB.
_MAX_HEADER_BYTES = 16 * 2**20
# Read and converted at a time: fits in the cache, and is too little for PyTorch to use several threads. These would
# wait for each other at the end of every chunk, which costs more than it saves when cores are busy.
_CHUNK_BYTES = 2**17
# Bits per element.
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
}
# Supported for weights. Integers and 8-bit floats need scales, which are not supported.
_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class Stored(NamedTuple):
    """A tensor in a file: the format's name of its dtype, and the offset of its first byte."""

    dtype: str
    shape: tuple[int, ...]
    begin: int

    @property
    def float_dtype(self) -> torch.dtype | None:
        """The torch dtype; None if it is not supported for weights."""
        return _FLOATS.get(self.dtype)


class _Described(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class TensorFile(ABC):
    """An open file of tensors. `tensors`: by name, in the order of their bytes."""

    def __init__(self, path: Path, descriptor: int | None = None) -> None:
        """Read the header. descriptor: of the file, if it is open already; closed with this object.

        Raises:
            LoadError: STORAGE, the file can't be read as such; it may still be in the process of being copied.
            UnsupportedModelError: it is not a regular file, or of an unsupported kind.
        """
        self.path = path
        self._descriptor = open_file(path) if descriptor is None else descriptor
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
        """Fill a contiguous tensor with one of the file's, converted to its dtype. rows: if any, read only these.

        The numbers of elements must agree; shapes may differ.

        Raises:
            LoadError: STORAGE, the file can't be read, or has become shorter; TIMEOUT, the load was cancelled.
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
        direct = target.dtype == dtype and target.device.type == "cpu"
        chunk = self._chunk.view(dtype)
        step = len(chunk)
        for first in range(0, target.numel(), step):
            part = target[first : first + step]
            read = part if direct else chunk[: len(part)]
            self._read(begin + first * dtype.itemsize, read.view(torch.uint8).numpy().data)
            if not direct:
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
        if length > _MAX_HEADER_BYTES:
            raise self._unreadable(f"its header has {length:,} bytes; the limit is {_MAX_HEADER_BYTES:,}")
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
        """Check that the tensors follow each other without gap or overlap, up to the end of the file."""
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
    """A file written by torch.save, read by an unpickler that builds tensors only and can't run code."""

    def _index(self) -> dict[str, Stored]:
        from torch._subclasses import FakeTensorMode  # slow to import

        try:
            # The tensors have no memory, but they know the offset of their bytes.
            with open(self._descriptor, "rb", closefd=False) as file, FakeTensorMode():
                file.seek(0)
                tensors = torch.load(file, map_location="cpu", weights_only=True)
            return {name: self._stored(name, tensor) for name, tensor in tensors.items()}
        except OSError as error:
            raise self._unreadable(str(error.strerror)) from error
        except Exception as error:  # a broken pickle can raise anything
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


def open_tensors(path: Path, descriptor: int | None = None) -> TensorFile:
    """Open a file of tensors in the format of its suffix. descriptor: as `TensorFile`.

    Raises:
        LoadError: as `TensorFile`.
    """
    return (PickleFile if path.suffix in (".bin", ".pt") else SafetensorsFile)(path, descriptor)


def check_floats(name: str, stored: Stored) -> torch.dtype:
    """The dtype of a stored weight.

    Raises:
        UnsupportedModelError: it is not supported for weights.
    """
    if (dtype := stored.float_dtype) is None:
        raise UnsupportedModelError(f"{name} is stored as {stored.dtype}; supported: {', '.join(_FLOATS)}")
    return dtype
