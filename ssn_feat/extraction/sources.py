"""The record of the file that a video's features come from: its size, time and sha256."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from ssn_feat.errors import UserError
from ssn_feat.store.sources import files_in, size_and_time
from ssn_feat.video.containers import require_file

# Device, inode, size, and the times at which the content and the entry in the file system changed. Programs can set the
# first time back, but not the second one.
_Identity = tuple[int, int, int, int, int]
_BLOCK = 1 << 20


class OpenSource:
    """A video that is being decoded, as yielded by :func:`hold_source`."""

    def __init__(self, path: Path, file: BinaryIO | None) -> None:
        self._path, self._file = path, file
        self._before = self._identities()

    def _identities(self) -> dict[str, _Identity]:
        """The open file, and the file to which its path leads now; of a folder, each file in it by name."""
        if self._file is None:
            return {name: _identity(status) for name, status in files_in(self._path)}
        return {"opened": _identity(os.fstat(self._file.fileno())), "at the path": _identity(os.stat(self._path))}

    def require_unchanged(self) -> None:
        """Raises UserError if a file changed, was replaced or removed since the source was opened."""
        try:
            now = self._identities()
        except OSError:  # it was removed
            now = {}
        if now != self._before or (self._file is not None and now["opened"] != now["at the path"]):
            raise UserError(f"{self._path} changed while it was read: run the same command again")

    def record(self) -> dict[str, Any]:
        """Name, bytes, modified (seconds since 1970) and sha256 of what was decoded; to be called after decoding.

        Of a folder: the sum of the bytes, the latest time in it, and the sha256 of the lines "sha256  name" of its
        files. Raises UserError as :meth:`require_unchanged`.
        """
        try:
            if self._file is None:
                digest, (size, modified) = _folder_sha256(self._path), size_and_time(self._path)
            else:
                digest, status = _file_sha256(self._file), os.fstat(self._file.fileno())
                size, modified = status.st_size, status.st_mtime
        except OSError as error:
            self.require_unchanged()
            raise UserError(f"cannot read {error.filename or self._path}: {error.strerror}") from None
        self.require_unchanged()
        return {"name": self._path.name, "bytes": size, "modified": modified, "sha256": digest}


@contextmanager
def hold_source(path: Path) -> Iterator[OpenSource]:
    """Watch a video while it is decoded within the block: the file stays open, so that its hash is of these bytes.

    Of a folder of images, the list of its files is kept. Raises UserError if the file is missing or cannot be read. An
    error of the block is replaced by :meth:`OpenSource.require_unchanged` if a change explains it.
    """
    with _opened(path) as file:
        source = OpenSource(path, file)
        try:
            yield source
        except Exception:
            source.require_unchanged()
            raise


def _opened(path: Path) -> AbstractContextManager[BinaryIO | None]:
    """The open file, None for a folder."""
    if path.is_dir():
        return nullcontext()
    require_file(path)
    try:
        return path.open("rb")
    except OSError as error:
        raise UserError(f"cannot read the video {path}: {error.strerror}") from None


def source_sha256(path: Path) -> str:
    """The sha256 of a video, as :meth:`OpenSource.record` gives it. Raises OSError if the video cannot be read."""
    if path.is_dir():
        return _folder_sha256(path)
    with path.open("rb") as file:
        return _file_sha256(file)


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _file_sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _folder_sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in sorted((name for name, _ in files_in(folder)), key=lambda name: name.split("/")):
        with (folder / name).open("rb") as file:
            digest.update(f"{_file_sha256(file)}  {name}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


__all__ = ["OpenSource", "hold_source", "source_sha256"]
