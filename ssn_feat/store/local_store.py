"""A store in a folder: what is built lies beside it until it is whole, and a rename makes it be there."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.store.backends import GROUP, Build, Place, group_bytes
from ssn_feat.store.claims import Seen
from ssn_feat.store.files import (
    Owner,
    Staging,
    link_new,
    listed,
    rename_new,
    sync_folder,
    sync_tree,
    while_removed,
    write_synced,
    writing,
)


class LocalPlace(Place):
    """A folder on a file system that renames atomically: a local disk, NFS, Lustre."""

    is_remote = False
    write_errors = (OSError,)
    path: Path

    def __init__(self, path: Path) -> None:
        self.path = path
        self.staging = Staging(path)
        self.board = LocalBoard(self.staging)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def read_bytes(self, name: str, start: int = 0, count: int | None = None) -> NDArray[np.uint8]:
        path = self.path / name
        if start < 0:
            start = max(0, path.stat().st_size + start)
        return np.fromfile(path, dtype=np.uint8, count=-1 if count is None else count, offset=start)

    def exists(self, name: str) -> bool:
        return (self.path / name).is_file()

    def is_taken(self) -> bool:
        # Not Path.exists, which raises where a folder on the way may not be entered.
        return os.path.exists(self.path)

    def groups(self, group: str) -> list[str]:
        return [entry.name for entry in os.scandir(self.path / group) if entry.is_dir()]

    def times(self, group: str) -> dict[str, float]:
        found = {}
        for name in self.groups(group):
            with suppress(OSError):
                found[name] = (self.path / group / name / GROUP).stat().st_mtime
        return found

    @contextmanager
    def building(self, name: str) -> Iterator[Build]:
        with self.staging.folder() as folder:
            yield _LocalBuild(folder, self.path / name)

    def replace(self, name: str, attributes: Mapping[str, Any]) -> None:
        target = self.path / name
        with self.staging.folder() as folder:
            write_synced(folder / GROUP, group_bytes(attributes))
            target.mkdir(parents=True, exist_ok=True)
            os.replace(folder / GROUP, target / GROUP)

    def remove(self, name: str) -> None:
        target = self.path / name
        with self.staging.folder() as folder, suppress(FileNotFoundError):
            os.rename(target, folder / "removed")
            sync_folder(target.parent)

    def arrays(self, name: str) -> str:
        return os.fspath(self.path / name)

    def clean(self) -> None:
        self.staging.clean()


class _LocalBuild(Build):
    def __init__(self, folder: Path, target: Path) -> None:
        self._folder, self._target = folder, target

    def record(self, name: str, metadata: bytes) -> None:
        (self._folder / name).mkdir(exist_ok=True)
        write_synced(self._folder / name / GROUP, metadata)

    def array(self, name: str) -> str:
        return os.fspath(self._folder / name)

    def metadata(self, array: str) -> bytes:
        return (self._folder / array / GROUP).read_bytes()

    def commit(self) -> bool:
        sync_tree(self._folder)
        return rename_new(self._folder, self._target)


class LocalBoard:
    """Claims as small files in the staging folder, renewed by their time of modification."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self.path = staging.path / "claims"

    def now(self) -> float:
        """By the clock of the file system, which on a network is the server's."""
        probe = self._unique()
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:  # only looking, at a store that may not be written
            return time.time()
        finally:
            with suppress(OSError):
                probe.unlink()

    def _unique(self) -> Path:
        """A name in the staging folder that says whose it is: cleaned up after a crash."""
        return self._staging.path / f"{Owner.me().name}~{uuid.uuid4().hex[:12]}"

    def create(self, key: str, content: bytes) -> bool:
        # Written under another name first: a claim that was put up empty would be nobody's until its lease ends.
        note = self._unique()

        def put_up() -> bool:
            self.path.mkdir(parents=True, exist_ok=True)
            note.write_bytes(content)
            return link_new(note, self.path / key)

        try:
            with writing(self._staging.store):
                return while_removed(put_up)
        finally:
            with suppress(OSError):
                note.unlink()

    def look(self, key: str) -> Seen | None:
        path = self.path / key
        try:
            return Seen(path.read_bytes(), path.stat().st_mtime)
        except FileNotFoundError:
            return None
        except OSError:  # somebody put a folder there, or took our right to read it: nobody's claim
            return Seen(b"", 0.0)

    def renew(self, key: str, content: bytes) -> bool:
        path = self.path / key
        try:
            if path.read_bytes() != content:
                return False
            os.utime(path)
        except OSError:
            return False
        return True

    def remove(self, key: str, content: bytes) -> None:
        # Renamed first: between a look and an unlink another process may have put its own there.
        path, away = self.path / key, self._unique()
        try:
            os.rename(path, away)
        except OSError:
            return
        with suppress(OSError):
            if away.read_bytes() != content:
                os.link(away, path)
        with suppress(OSError):
            away.unlink()

    def keys(self) -> list[str]:
        return [path.name for path in listed(self.path)]

    def close(self) -> None:
        with suppress(OSError):
            self.path.rmdir()
            self._staging.close()
