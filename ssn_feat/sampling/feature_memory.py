"""Memory for features: allocated, or mapped from a file if they are too large."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssn_feat.errors import UserError

# Largest fraction of the available memory that features may use before they are mapped from a file.
_SHARE = 0.5
_DTYPES = {torch.float16: np.float16, torch.float32: np.float32}


def allocate(shape: tuple[int, ...], dtype: torch.dtype, folder: Path | None) -> Tensor:
    """An uninitialised tensor: in memory, or, with ``folder``, mapped from a file in that folder.

    The file has no name, so it disappears with the tensor, however the program ends. Raises UserError if the disk is
    full or the folder cannot be written.
    """
    if folder is None:
        return torch.empty(shape, dtype=dtype)
    size = math.prod(shape) * dtype.itemsize
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            # Reserve the space: on a disk that fills up later, a write to mapped memory kills the program.
            os.posix_fallocate(file.fileno(), 0, size)
            return torch.from_numpy(np.memmap(file, _DTYPES[dtype], "r+", shape=shape))
    except OSError as error:
        raise UserError(f"cannot keep {size / 1e9:.1f} GB of features in {folder}: {error.strerror}") from None


def fits(size: int) -> bool:
    """Whether ``size`` bytes are a small enough fraction of the available memory; True if that is not known."""
    available = available_memory()
    return available is None or size <= _SHARE * available


def available_memory() -> int | None:
    """Bytes of memory available to this process: on the machine, or in its control group if that is less."""
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
