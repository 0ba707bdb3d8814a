"""Files of NumPy and PyTorch that others wrote: read without running code, with memory bounded by their size.

Every function raises ValueError with one line for any content that it cannot read, and OSError if the file cannot be
read at all.
"""

from __future__ import annotations

import io
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError

# A byte of deflated data stands for at most 1032 bytes.
MOST_DEFLATED = 1032
_LONGEST_REASON = 300
# The reason among the advice of PyTorch, which is to read the file in a way that runs its code.
_TORCH_REASON = re.compile(r"WeightsUnpickler error:\s*(.+?)(?:\. |$)", re.MULTILINE)


def one_line(error: BaseException) -> str:
    """The message of an exception of a parser as one line; its type if it has none."""
    return " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__


def load_torch(content: bytes) -> Any:
    """Tensors, on the CPU, and plain values that :func:`torch.save` wrote."""
    import torch

    try:
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                claimed = sum(member.file_size for member in archive.infolist())
            if claimed > len(content):  # PyTorch does not compress
                raise ValueError(f"its parts claim {claimed:,} bytes, the file has {len(content):,}")
        with warnings.catch_warnings(action="ignore"):  # PyTorch warns of unusual pickles before it refuses them
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        for tensor in tensors_in(loaded):
            if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_nested:
                raise ValueError("it holds a sparse, quantised or nested tensor, or one without values")
            if tensor.numel() * tensor.element_size() > len(content):
                raise ValueError(f"a tensor of shape {tuple(tensor.shape)} does not fit into {len(content):,} bytes")
    except Exception as error:  # a file that is not a pickle raises nearly anything
        reason = _TORCH_REASON.search(str(error))
        raise ValueError(reason[1] if reason else one_line(error)) from None
    return loaded


def tensors_in(value: Any) -> Iterator[Any]:
    """Every tensor in nested lists, tuples and dicts."""
    import torch

    seen, waiting = set(), [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, torch.Tensor):
            yield item
        elif isinstance(item, Mapping | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item.values() if isinstance(item, Mapping) else item)


def load_npy(path: Path) -> NDArray[Any]:
    """The array in a .npy file, which must not hold objects."""
    with path.open("rb") as file:
        return _array(file, os.fstat(file.fileno()).st_size)


def load_npz(path: Path, choose: Callable[[list[str]], Iterable[str]] = list) -> dict[str, NDArray[Any]]:
    """The arrays in an .npz archive by name, none of which may hold objects.

    ``choose``: returns the names of the arrays to read, given all names; a UserError that it raises is passed on.
    """
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
                return {name: _member(archive, members[name]) for name in choose(list(members))}
        except (OSError, UserError, ValueError):
            raise
        except Exception as error:  # of the archive or of the compression
            raise ValueError(one_line(error)) from None


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    deflated = member.compress_type == zipfile.ZIP_DEFLATED
    if not member.filename.endswith(".npy") or not (deflated or member.compress_type == zipfile.ZIP_STORED):
        raise ValueError(f"{member.filename!r} is not an array")
    if member.file_size > member.compress_size * (MOST_DEFLATED if deflated else 1):
        raise ValueError(f"{member.filename!r} claims {member.file_size:,} bytes, {member.compress_size:,} are there")
    with archive.open(member) as file:
        return _array(file, member.file_size)


def _array(file: IO[bytes], size: int) -> NDArray[Any]:
    """The array in a file of ``size`` bytes."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):  # later versions are for structures
            raise ValueError(f"format version {version} of .npy is not read")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        count = int(np.prod(shape, dtype=object)) if shape else 1
        if dtype.hasobject:
            raise ValueError("it holds objects, which are not read; allow_pickle=False")
        if count < 0 or count * dtype.itemsize > size - file.tell():
            raise ValueError(
                f"the header claims {dtype} {shape}, {count * dtype.itemsize:,} bytes, of which "
                f"{size - file.tell():,} are there"
            )
        file.seek(0)
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(one_line(error)) from None
    return array


__all__ = ["MOST_DEFLATED", "load_npy", "load_npz", "load_torch", "one_line", "tensors_in"]
