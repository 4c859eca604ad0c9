"""Assigns a checkpoint's tensors to the parameters of a model."""

import math
import re
from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sie_server.checkpoints.checkpoint import Checkpoint
from sie_server.checkpoints.tensor_file import TensorFile, check_floats
from sie_server.errors import UnsupportedModelError
from sie_server.models.encoder import Encoder
from sie_server.nn.embedding import Embedding
from sie_server.nn.linear import Linear

_PROJECTION = "head.out.weight"
# Saved with the weights by older releases: positions, types and angles, which are computed and not learned.
_BUFFERS = re.compile(r"(^|\.)(position_ids|token_type_ids|inv_freq|original_inv_freq|cos_cached|sin_cached)$")
# Old names of LayerNorm's parameters, from the time of BERT.
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
# Parameters of heads: small, and float32 in every precision.
_HEADS = ("head.", "projections.", "pooled.", "sparse.out.")


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a tensor in the model.

    name: in the file. parameter: ours. rows: of the parameter, if the tensor is a block of it. picked: rows of the
    tensor, if not all are used.
    """

    file: TensorFile
    name: str
    parameter: str
    rows: slice | None
    picked: tuple[int, ...]


class Weights:
    """The assignment of files' tensors to the parameters of a module on the meta device.

    files: each with its table of names. The name of a tensor in a sub-folder's file is `sub-folder/name`.
    answers: the rows of a language model's output projection that the head keeps.
    """

    def __init__(
        self,
        encoder: Encoder,
        checkpoint: Checkpoint,
        files: Items[tuple[TensorFile, Mapping[str, str]]],
        answers: Items[int] = (),
    ) -> None:
        """Plan the assignment from the files' headers, without reading tensors or allocating memory.

        Raises:
            UnsupportedModelError: the tensors don't match the parameters; strict in both directions.
        """
        folder = checkpoint.folder
        self._encoder = encoder
        self._answers = tuple(answers)
        self._shapes = {name: tuple(meta.shape) for name, meta in encoder.named_parameters()}
        self._stored: dict[str, torch.dtype] = {}
        self._places: list[Place] = []
        self._tied: list[tuple[str, str]] = []
        filled = dict.fromkeys(self._shapes, 0)
        unknown = []
        own = [name for file, _ in files if file.path.parent == folder for name in file.tensors]
        prefixes = _prefixes(encoder, own)
        places = checkpoint.weight_map
        for file, renames in files:
            inside = file.path.parent.relative_to(folder)
            for name, stored in file.tensors.items():
                if file.path.parent == folder and places.get(name, file.path.name) != file.path.name:
                    continue  # the index names another file
                hub_name = (inside / name).as_posix()
                parameter, block = _rename(hub_name, renames)
                if parameter not in self._shapes:
                    if not (_BUFFERS.search(name) or _of_a_head(hub_name, parameter, encoder, prefixes)):
                        unknown.append(hub_name)
                    continue
                place = self._place(file, name, parameter, block)
                if (needed := self._needed(place)) != self._given(place):
                    raise UnsupportedModelError(f"{hub_name} has shape {stored.shape}, but the config implies {needed}")
                self._stored.setdefault(parameter, check_floats(hub_name, stored))
                self._places.append(place)
                filled[parameter] += math.prod(needed)
        for name, source in encoder.ties.items():
            if name in self._shapes and not filled[name] and source in self._stored:
                self._tied.append((name, source))
                filled[name] = math.prod(self._shapes[name])
        if twice := [name for name, count in filled.items() if count > math.prod(self._shapes[name])]:
            raise UnsupportedModelError(f"the checkpoint has {twice[0]!r} more than once, under different names")
        missing = [name for name, count in filled.items() if count != math.prod(self._shapes[name])]
        if missing or unknown:
            raise UnsupportedModelError(
                f"the checkpoint does not match config.json: {len(missing)} weights missing {missing[:3]}, "
                f"{len(unknown)} unexpected {unknown[:3]}"
            )

    def dtypes(self, dtype: torch.dtype) -> dict[str, torch.dtype]:
        """The dtype of each parameter. dtype: of the matrix products."""
        stored = {**self._stored, **{name: self._stored[source] for name, source in self._tied}}
        return {name: _dtype(self._owner(name), name, stored[name], dtype) for name in self._shapes}

    def fill(self, device: torch.device, dtype: torch.dtype) -> None:
        """Read all parameters.

        Raises:
            LoadError: STORAGE, a file can't be read; TIMEOUT, the load was cancelled.
        """
        dtypes = self.dtypes(dtype)
        parameters: dict[str, Tensor] = {}
        for place in self._places:
            name = place.parameter
            if name not in parameters:
                parameters[name] = torch.empty(self._shapes[name], dtype=dtypes[name], device=device)
            target = parameters[name] if place.rows is None else parameters[name][place.rows]
            place.file.read(place.name, target, place.picked)
        for name, source in self._tied:
            value = parameters[source]
            parameters[name] = (value[list(self._answers)] if self._answers else value).to(dtypes[name])
        self._encoder.load_state_dict(parameters, assign=True, strict=True)

    def _owner(self, parameter: str) -> nn.Module:
        return self._encoder.get_submodule(parameter.rpartition(".")[0])

    def _place(self, file: TensorFile, name: str, parameter: str, block: int | None) -> Place:
        rows = None
        if block is not None:
            owner = self._owner(parameter)
            assert isinstance(owner, Linear)
            first = sum(owner.blocks[:block])
            rows = slice(first, first + owner.blocks[block])
        return Place(file, name, parameter, rows, self._answers if parameter == _PROJECTION else ())

    def _needed(self, place: Place) -> tuple[int, ...]:
        """Shape that the place needs."""
        rows, *rest = self._shapes[place.parameter]
        return (rows if place.rows is None else place.rows.stop - place.rows.start, *rest)

    def _given(self, place: Place) -> tuple[int, ...]:
        """Shape that the file gives."""
        shape = place.file.tensors[place.name].shape
        if place.picked and shape and max(place.picked) < shape[0]:
            return (len(place.picked), *shape[1:])
        return shape


def _prefixes(encoder: Encoder, names: Items[str]) -> tuple[str, ...]:
    """Prefixes of the layers' tensors in this checkpoint, if it may have heads next to them."""
    prefixes = (theirs for theirs, ours in encoder.renames.items() if not ours)
    return tuple(prefix for prefix in prefixes if any(name.startswith(prefix) for name in names))


def _of_a_head(hub_name: str, parameter: str, encoder: Encoder, prefixes: tuple[str, ...]) -> bool:
    """Whether a tensor without a parameter belongs to a head that is not used."""
    if "/" in hub_name:
        return False
    if parameter.startswith(encoder.ignored):
        return True
    # If no head of the checkpoint is used, tensors outside the layers don't matter.
    return bool(prefixes) and not encoder.has_own_head and not hub_name.startswith(prefixes)


def _dtype(owner: nn.Module, parameter: str, stored: torch.dtype, chosen: torch.dtype) -> torch.dtype:
    """The dtype of a parameter: `chosen` for linear layers, float32 for norms and heads, where it costs nothing.

    An embedding keeps the precision of its file: its rows are converted to float32, exactly, when they are looked up.
    """
    if isinstance(owner, Embedding):
        return stored if stored in (torch.bfloat16, torch.float16) else torch.float32
    return chosen if isinstance(owner, Linear) and not parameter.startswith(_HEADS) else torch.float32


def _rename(name: str, renames: Mapping[str, str]) -> tuple[str, int | None]:
    """Our name for a hub tensor, and its index among the blocks of rows of a fused weight."""
    for theirs, ours in (*_OLD_NAMES.items(), *renames.items()):
        name = name.replace(theirs, ours)
    if match := re.search(r"\[(\d)\]", name):
        return name.replace(match[0], ""), int(match[1])
    return name, None
