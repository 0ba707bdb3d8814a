"""Atomic writing of files: written under a temporary name, then renamed."""

from __future__ import annotations

import os
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError

# Endings of the names of video files.
VIDEO_ENDINGS = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".ogv", ".avi", ".divx", ".mpg", ".mpeg", ".vob"),
    *(".ts", ".mts", ".m2ts", ".wmv", ".flv", ".f4v", ".mxf", ".dav"),
)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, renamed to ``path`` at the end, so readers never see a partial file.

    Raises UserError if the folder cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]], compressed: bool = False) -> None:
    """Write an .npz archive of plain arrays for :func:`numpy.load`, atomically.

    Does not use ``numpy.savez``: some releases of NumPy 1 and 2 store its ``allow_pickle=False`` as an array and leave
    a broken archive behind after an error. Raises UserError if ``path`` cannot be written, ValueError for an array of
    objects.
    """
    compression = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with replacing(path) as part, zipfile.ZipFile(part, "w", compression) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


__all__ = ["replacing", "write_npz"]
