"""A checkpoint's tensors → the parameters of a model."""

import re
import zipfile
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Items
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sie_server.errors import LoadClass, LoadError, UnsupportedModelError
from sie_server.models.encoder import Encoder
from sie_server.nn.embed import Embedding
from sie_server.nn.linear import Linear

_PROJECTION = "head.out.weight"
# Parameters of heads: small, and float32 in every precision.
_HEADS = ("head.", "projections.", "lexical.out.")


def fill(
    encoder: Encoder,
    folder: Path,
    files: Mapping[Path, Mapping[str, str]],
    device: torch.device,
    dtype: torch.dtype,
    answers: Items[int] = (),
) -> None:
    """Give every parameter of a meta-device module its values; strict in both directions.

    files: each with its table of names. A tensor of a sub-folder's file goes by `sub-folder/name`.
    answers: the rows of the output projection that the head keeps, where it is a language model's.
    """
    shapes = {name: meta.shape for name, meta in encoder.named_parameters()}
    parameters: dict[str, Tensor] = {}
    filled = dict.fromkeys(shapes, 0)
    unknown = []
    for hub_name, value, renames in _tensors(folder, files):
        name, block = _rename(hub_name, renames)
        if name not in shapes:
            if "/" in hub_name or not name.startswith(encoder.ignored):
                unknown.append(hub_name)
            continue
        owner = encoder.get_submodule(name.rpartition(".")[0])
        if name not in parameters:
            parameters[name] = torch.empty(shapes[name], dtype=_dtype(owner, name, value.dtype, dtype), device=device)
        target = parameters[name]
        if block is not None:
            assert isinstance(owner, Linear)
            blocks = owner.blocks
            target = target[sum(blocks[:block]) :][: blocks[block]]
        if name == _PROJECTION and answers:
            value = value[list(answers)]
        if target.shape != value.shape:
            raise UnsupportedModelError(f"{hub_name} has shape {tuple(value.shape)}, its config implies another")
        target.copy_(value)
        filled[name] += value.numel()
    for name, source in encoder.ties.items():
        if name in shapes and not filled[name] and source in parameters:
            value = parameters[source]
            owner = encoder.get_submodule(name.rpartition(".")[0])
            parameters[name] = (value[list(answers)] if answers else value).to(_dtype(owner, name, value.dtype, dtype))
            filled[name] = parameters[name].numel()
    missing = [name for name, count in filled.items() if count != shapes[name].numel()]
    if missing or unknown:
        raise UnsupportedModelError(
            f"the checkpoint does not fit its config: {len(missing)} weights missing {missing[:3]}, "
            f"{len(unknown)} not known {unknown[:3]}"
        )
    encoder.load_state_dict(parameters, assign=True, strict=True)


def _dtype(owner: nn.Module, parameter: str, stored: torch.dtype, chosen: torch.dtype) -> torch.dtype:
    """Products run in the chosen precision; norms and heads stay float32, where it costs nothing.

    An embedding keeps the precision of its file: its rows become float32 exactly when they are looked up.
    """
    if isinstance(owner, Embedding):
        return stored if stored in (torch.bfloat16, torch.float16) else torch.float32
    return chosen if isinstance(owner, Linear) and not parameter.startswith(_HEADS) else torch.float32


def _tensors(folder: Path, files: Mapping[Path, Mapping[str, str]]) -> Iterator[tuple[str, Tensor, Mapping[str, str]]]:
    for path, renames in files.items():
        inside = path.parent.relative_to(folder)
        for name, tensor in _pickled(path) if path.suffix in (".bin", ".pt") else _safetensors(path):
            yield (inside / name).as_posix(), tensor, renames


def _safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as checkpoint:
            names = checkpoint.keys()
        for name in names:
            # Mapped anew for each: the pages read so far would else count as this process's memory up to the end.
            with safe_open(path, framework="pt") as checkpoint:
                yield name, checkpoint.get_tensor(name)
    except (OSError, ValueError, SafetensorError) as error:
        # Not for ever: it may still be on its way here, or be replaced.
        raise LoadError(LoadClass.STORAGE, f"{path} is not a readable safetensors file: {error}") from error


def _pickled(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a pickle, by an unpickler that knows tensors and nothing that could run code."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        yield from tensors.items()
    except Exception as error:  # whatever a broken pickle makes of the reader
        raise UnsupportedModelError(f"{path} is not a readable file of tensors: {error}") from error


def _rename(name: str, renames: Mapping[str, str]) -> tuple[str, int | None]:
    """Our name for a hub tensor, and which block of rows of a fused weight it is."""
    for theirs, ours in renames.items():
        name = name.replace(theirs, ours)
    if match := re.search(r"\[(\d)\]", name):
        return name.replace(match[0], ""), int(match[1])
    return name, None
