"""The one way of writing files: under a temporary name, synced, then renamed."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
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
    """Yield a temporary path in the same folder; at the end, the file there is synced and renamed to ``path``.

    Readers never see a partial file, and nothing is left behind if the block fails. Raises UserError if the file cannot
    be written, also where a writer reports an error of the system as an exception of its own, and for text that UTF-8
    cannot represent.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            with part.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except UserError:
        raise
    except UnicodeEncodeError as error:
        raise UserError(f"cannot write {path}: {_not_text(error)}") from None
    except Exception as error:
        cause = _system_error(error)
        if cause is None:
            raise
        raise UserError(f"cannot write {path}: {cause.strerror or cause}") from None


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``, renamed to ``path`` at the end, in place of a folder there.

    Raises UserError if the folder cannot be written; an earlier one is then left as it was.
    """
    unique = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    part, former = (path.with_name(f".{path.name}.{unique}.{ending}") for ending in ("part", "old"))
    try:
        part.mkdir(parents=True)
        yield part
        if path.exists():
            os.replace(path, former)
        os.replace(part, path)
    except OSError as error:
        if former.exists() and not path.exists():
            os.replace(former, path)
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        for folder in (part, former):
            shutil.rmtree(folder, ignore_errors=True)


def _not_text(error: UnicodeEncodeError) -> str:
    text, start, end = error.object, error.start, error.end
    return f"{text[start:end]!r} is not valid text, in {text[max(start - 20, 0) : end + 20]!r}"


def _system_error(error: BaseException | None) -> OSError | None:
    """The error of the system that ``error`` is or that it replaced, as the writers of ZIP archives and PyTorch do."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file atomically and create its folder. Raises UserError if it cannot be written."""
    with replacing(path) as part:
        part.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 atomically, with the line ends of ``text``.

    Raises UserError if it cannot be written, and for characters that UTF-8 cannot represent (lone surrogates).
    """
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"cannot write {path}: {_not_text(error)}") from None
    write_bytes(path, content)


def write_npy(path: Path, array: NDArray[Any]) -> None:
    """Write an array for :func:`numpy.load`, atomically. Raises UserError if ``path`` cannot be written."""
    content = io.BytesIO()  # numpy's writer of real files does not say why it could not write
    np.lib.format.write_array(content, array, allow_pickle=False)
    write_bytes(path, content.getbuffer())


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


def write_torch(path: Path, content: Any) -> None:
    """Write tensors and plain values for :func:`torch.load`, atomically. Raises UserError if it cannot be written."""
    write_bytes(path, torch_bytes(content))


def torch_bytes(content: Any) -> memoryview:
    """The bytes that :func:`torch.save` writes: in memory, since its writer turns a full disk into other exceptions."""
    import torch

    file = io.BytesIO()
    torch.save(content, file)
    return file.getbuffer()


def file_sha256(path: Path) -> str:
    """The SHA-256 hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


__all__ = [
    "VIDEO_ENDINGS",
    "file_sha256",
    "replacing",
    "replacing_folder",
    "torch_bytes",
    "write_bytes",
    "write_npy",
    "write_npz",
    "write_text",
    "write_torch",
]
