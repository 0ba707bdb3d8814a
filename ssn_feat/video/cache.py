"""Disk cache of decoded pixels: a folder of limited size that several processes share."""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError

# A process scans the folder after it has written the first fraction of the limit. If the files exceed the second
# fraction, it deletes the least recently used down to the third. Up to 20 concurrent writers stay within the limit.
_LOOK, _FULL, _LEFT = 0.005, 0.9, 0.75
# Checksum of all following bytes; height, width and channels.
_HEADER = struct.Struct("<I3I")
_CHECKSUM = 4
# Partial files of terminated processes are removed after this many seconds.
_STALE = 600.0


@dataclass
class PixelCache:
    """Images by name in ``folder``, at most ``limit`` bytes; the least recently used are deleted first.

    Images are stored losslessly. Files are written atomically; a damaged file counts as absent.
    """

    folder: Path
    limit: int
    _written: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise UserError(f"a cache needs a positive limit, not {self.limit}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot create the cache {self.folder}: {error.strerror}") from None
        self._written = self.limit  # scan the folder at the first write

    def get(self, name: str) -> NDArray[np.uint8] | None:
        """Return the image ``name``, uint8 (H, W, C), or None."""
        path = self._path(name)
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        if len(content) < _HEADER.size:
            return None
        checksum, *shape = _HEADER.unpack_from(content)
        if checksum != google_crc32c.value(content[_CHECKSUM:]):
            return None
        data = np.frombuffer(content, np.uint8, offset=_HEADER.size)
        return data.reshape(shape)

    def put(self, name: str, image: NDArray[np.uint8]) -> None:
        """Store an image, uint8 (H, W, C). A full disk is not an error: the image is then not stored."""
        content = _HEADER.pack(0, *image.shape)[_CHECKSUM:] + image.tobytes()
        content = google_crc32c.value(content).to_bytes(_CHECKSUM, "little") + content
        if len(content) > self.limit * (1 - _FULL):
            return
        path = self._path(name)
        partial = path.with_name(f".{uuid.uuid4().hex}")
        if self._written + len(content) > _LOOK * self.limit:
            self._make_room()
            self._written = 0
        try:
            path.parent.mkdir(exist_ok=True)
            partial.write_bytes(content)
            os.replace(partial, path)
            self._written += len(content)
        except OSError:
            partial.unlink(missing_ok=True)

    def size(self) -> int:
        """Return the total size of all files in bytes."""
        return sum(size for _, size, _ in self._files())

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return self.folder / digest[:2] / digest[2:40]

    def _files(self) -> Iterator[tuple[float, int, str]]:
        """Yield last use, size in bytes and path of each file. Other processes may delete files meanwhile."""
        for shard in sorted(self.folder.glob("[0-9a-f][0-9a-f]")):
            with contextlib.suppress(OSError), os.scandir(shard) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        status = entry.stat()
                        yield status.st_mtime, status.st_size, entry.path

    def _make_room(self) -> None:
        files = sorted(self._files())
        held = sum(size for _, size, _ in files)
        newest = files[-1][0] if files else 0.0
        bound = (_LEFT if held > _FULL * self.limit else 1.0) * self.limit
        for used, size, path in files:
            stale = os.path.basename(path).startswith(".") and newest - used > _STALE
            if stale or held > bound:
                with contextlib.suppress(OSError):
                    os.unlink(path)
                held -= size


__all__ = ["PixelCache"]
