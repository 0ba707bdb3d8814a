"""A store in a folder. A group is built beside the store and committed by renaming it."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.store.backends import GROUP, GroupBuilder, StoreBackend, group_bytes
from ssn_feat.store.claims import StoredClaim
from ssn_feat.store.keys import id_of
from ssn_feat.store.staging import (
    Owner,
    Staging,
    link_new,
    list_folder,
    rename_new,
    retry_while_removed,
    sync_folder,
    sync_tree,
    write_synced,
    writing,
)


class LocalBackend(StoreBackend):
    """A folder on a file system with atomic renames: a local disk, NFS, Lustre."""

    is_remote = False
    write_errors = (OSError,)
    path: Path

    def __init__(self, path: Path) -> None:
        self.path = path
        self.staging = Staging(path)
        self.claim_store = LocalClaims(self.staging)

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
        # Path.exists raises if a parent folder may not be entered.
        return os.path.exists(self.path)

    def groups(self, group: str) -> list[str]:
        return [entry.name for entry in os.scandir(self.path / group) if entry.is_dir()]

    def commit_times(self, group: str) -> dict[str, float]:
        times = {}
        for name in self.groups(group):
            with suppress(OSError):
                times[name] = (self.path / group / name / GROUP).stat().st_mtime
        return times

    @contextmanager
    def build(self, name: str) -> Iterator[GroupBuilder]:
        with self.staging.folder() as folder:
            yield _LocalBuilder(folder, self.path / name)

    @contextmanager
    def rebuild(self, name: str) -> Iterator[GroupBuilder]:
        with self.staging.folder() as folder:
            yield _LocalRebuilder(folder, self.path / name)

    def replace(self, name: str, attributes: Mapping[str, Any]) -> None:
        target = self.path / name
        with self.staging.folder() as folder:
            write_synced(folder / GROUP, group_bytes(attributes))
            target.mkdir(exist_ok=True)  # without parents: a store that was deleted is not made again in part
            os.replace(folder / GROUP, target / GROUP)
            sync_folder(target)

    def arrays(self, name: str) -> list[str]:
        try:
            return [entry.name for entry in os.scandir(self.path / name) if entry.is_dir()]
        except FileNotFoundError:
            return []

    def note_change(self, key: str, video_id: str) -> None:
        def write() -> None:
            self._changes.mkdir(parents=True, exist_ok=True)
            (self._changes / key).write_text(json.dumps(video_id))

        retry_while_removed(write)

    def noted_changes(self) -> dict[str, str]:
        changes = {}
        for path in list_folder(self._changes):
            try:
                changes[path.name] = str(json.loads(path.read_text()))
            except (OSError, ValueError):  # its writer was killed
                changes[path.name] = id_of(path.name) or ""
        return changes

    def forget_change(self, key: str) -> None:
        with suppress(OSError):
            (self._changes / key).unlink()
        self._close_changes()
        self.staging.close()

    def _close_changes(self) -> None:
        with suppress(OSError):
            self._changes.rmdir()

    @property
    def _changes(self) -> Path:
        return self.staging.path / "changes"

    def remove(self, name: str) -> None:
        target = self.path / name
        with self.staging.folder() as folder, suppress(FileNotFoundError):
            os.rename(target, folder / "removed")
            sync_folder(target.parent)

    def zarr_source(self, name: str) -> str:
        return os.fspath(self.path / name)

    def clean(self) -> None:
        self._close_changes()
        self.staging.clean()


class _LocalBuilder(GroupBuilder):
    def __init__(self, folder: Path, target: Path) -> None:
        self._folder, self._target = folder, target

    def add_metadata(self, name: str, metadata: bytes) -> None:
        (self._folder / name).mkdir(exist_ok=True)
        write_synced(self._folder / name / GROUP, metadata)

    def zarr_target(self, name: str) -> str:
        return os.fspath(self._folder / name)

    def array_metadata(self, array: str) -> bytes:
        return (self._folder / array / GROUP).read_bytes()

    def commit(self) -> bool:
        sync_tree(self._folder)
        return rename_new(self._folder, self._target)


class _LocalRebuilder(_LocalBuilder):
    def commit(self) -> bool:
        sync_tree(self._folder)
        try:
            for array in [entry.name for entry in os.scandir(self._folder) if entry.is_dir()]:
                with suppress(FileNotFoundError):  # left behind by a killed writer
                    os.rename(self._target / array, self._folder / f"{array}.left")
                os.rename(self._folder / array, self._target / array)
            sync_folder(self._target)
            os.replace(self._folder / GROUP, self._target / GROUP)
        except FileNotFoundError:
            if self._target.exists():
                raise
            return False
        sync_folder(self._target)
        return True


class LocalClaims:
    """Claims as small files in the staging folder, renewed through their modification time."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self.path = staging.path / "claims"

    def now(self) -> float:
        """By the clock of the file system, which on a network is the server's."""
        probe = self._temporary_path()
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:  # the store is only read and may not be writable
            return time.time()
        finally:
            with suppress(OSError):
                probe.unlink()

    def _temporary_path(self) -> Path:
        """A unique name in the staging folder that carries its owner, so that it is cleaned up after a crash."""
        return self._staging.path / f"{Owner.me().name}~{uuid.uuid4().hex[:12]}"

    def create(self, key: str, content: bytes) -> bool:
        # Written under another name first: an empty claim would have no owner until its lease ends.
        temporary = self._temporary_path()

        def link() -> bool:
            self.path.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            return link_new(temporary, self.path / key)

        try:
            with writing(self._staging.store):
                return retry_while_removed(link)
        finally:
            with suppress(OSError):
                temporary.unlink()

    def read(self, key: str) -> StoredClaim | None:
        path = self.path / key
        try:
            return StoredClaim(path.read_bytes(), path.stat().st_mtime)
        except FileNotFoundError:
            return None
        except OSError:  # a folder of that name, or no permission to read: a claim without an owner
            return StoredClaim(b"", 0.0)

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
        # Renamed first: another process may replace the file between reading and unlinking it.
        path, renamed = self.path / key, self._temporary_path()
        try:
            os.rename(path, renamed)
        except OSError:
            return
        with suppress(OSError):
            if renamed.read_bytes() != content:
                os.link(renamed, path)
        with suppress(OSError):
            renamed.unlink()

    def keys(self) -> list[str]:
        return [path.name for path in list_folder(self.path)]

    def close(self) -> None:
        with suppress(OSError):
            self.path.rmdir()
            self._staging.close()


__all__ = ["LocalBackend", "LocalClaims"]
