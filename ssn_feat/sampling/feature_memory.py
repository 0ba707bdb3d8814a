"""Room for features: in memory, or in a file mapped into it where they are larger."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssn_feat.errors import UserError

# Features may take this part of the memory that is available before they go to a file.
_SHARE = 0.5
_DTYPES = {torch.float16: np.float16, torch.float32: np.float32}


def allocate(shape: tuple[int, ...], dtype: torch.dtype, folder: Path | None) -> Tensor:
    """A tensor to be filled: in memory, or with ``folder`` in a file there that the system reads and writes as needed.

    The file has no name: it is gone with the tensor, however the program ends. Raises UserError where the disk has no
    room for it or the folder cannot be written.
    """
    if folder is None:
        return torch.empty(shape, dtype=dtype)
    size = math.prod(shape) * dtype.itemsize
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            # Reserved, since a disk that fills up later would end the program without a word.
            os.posix_fallocate(file.fileno(), 0, size)
            return torch.from_numpy(np.memmap(file, _DTYPES[dtype], "r+", shape=shape))
    except OSError as error:
        raise UserError(f"cannot keep {size / 1e9:.1f} GB of features in {folder}: {error.strerror}") from None


def fits(size: int) -> bool:
    """Whether ``size`` bytes are a small enough part of the memory that is available; True where that is not known."""
    available = available_memory()
    return available is None or size <= _SHARE * available


def available_memory() -> int | None:
    """Bytes that this process may still take: of the machine, or of its control group if that allows less."""
    known = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        known += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        group = Path("/sys/fs/cgroup")
        known.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # another system, or "max": no limit
        pass
    return min(known, default=None)


__all__ = ["allocate", "available_memory", "fits"]
