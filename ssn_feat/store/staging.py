"""Safe commits on a plain file system: staging folders with an owner, syncing, atomic renames."""

from __future__ import annotations

import os
import re
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ssn_feat.errors import UserError

T = TypeVar("T")


class StoreWriteError(UserError):
    """The store cannot be written (full disk, no permission, ...), so no later video can be written either."""


class StoreReadError(UserError):
    """The store cannot be read at the moment (no connection, no permission). Its content is not known to be damaged."""


@contextmanager
def writing(path: Path | str, errors: tuple[type[Exception], ...] = (OSError,)) -> Iterator[None]:
    """Turn one of ``errors`` in the block into a StoreWriteError that names ``path``, the reason and what to do."""
    try:
        yield
    except UserError:
        raise
    except errors as error:
        if isinstance(error, FileNotFoundError) and isinstance(path, Path) and not path.exists():
            raise StoreWriteError(
                f"the store {path} was deleted or moved during this run: move it back, or run the same command again "
                "to extract everything anew"
            ) from error
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
        raise StoreWriteError(
            f"cannot write to the store {path}: {reason}; "
            "committed videos are safe; solve this and run the same command again"
        ) from error


def write_synced(path: Path, content: bytes) -> None:
    """Write the content of a file durably. Its name needs :func:`sync_folder`."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def list_folder(folder: Path) -> list[Path]:
    """The entries of a folder, sorted; empty if it does not exist (another process may remove it at any time)."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable, which syncing its files does not. Does nothing on Windows."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Make every file and folder under ``folder`` durable, deepest first."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            # Windows flushes writable handles only.
            handle = os.open(os.path.join(parent, name), os.O_RDWR if os.name == "nt" else os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(parent))


def rename_new(source: Path, target: Path) -> bool:
    """Rename a folder durably. False, without any change, if the new name is taken."""
    try:
        os.rename(source, target)
    except OSError:
        if target.exists():
            return False
        raise
    sync_folder(target.parent)
    return True


def link_new(source: Path, target: Path) -> bool:
    """Hard-link a file to a new name. False, without any change, if the name is taken.

    On a file system without hard links the file is copied, and a process killed meanwhile leaves a partial file.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        # A file server may have linked it in a first request whose answer was lost.
        return source.stat().st_nlink > 1
    except FileNotFoundError:
        raise
    except OSError:
        return _copy_new(source, target)
    return True


def _copy_new(source: Path, target: Path) -> bool:
    content = source.read_bytes()
    try:
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return False
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    except OSError:  # a full disk
        target.unlink(missing_ok=True)
        raise
    return True


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, identified by its start time too, since process numbers are reused."""

    host: str
    pid: int
    started: str

    @classmethod
    def me(cls) -> Owner:
        host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:80] or "host"
        return cls(host, os.getpid(), _started(os.getpid()) or "0")

    @classmethod
    def parse(cls, name: str) -> Owner | None:
        """The owner in the name of a staging folder (:meth:`name`), None if the name has another form."""
        parts = name.split("~")
        if len(parts) < 3 or not parts[1].isdigit():
            return None
        return cls(parts[0], int(parts[1]), parts[2])

    @property
    def name(self) -> str:
        return f"{self.host}~{self.pid}~{self.started}"

    def is_dead(self) -> bool:
        """True only if the process ran on this machine and has certainly ended."""
        return self.host == Owner.me().host and _started(self.pid) != self.started


def _started(pid: int) -> str | None:
    """Start time of a running process of this machine as an opaque word; None if it has ended."""
    if os.path.isdir("/proc/self"):
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return None
        # A zombie (Z) has been killed and no longer writes.
        return None if fields[0] in (b"Z", b"X") else fields[19].decode()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "0"


class Staging:
    """The folder beside a store in which groups are built before they are renamed into the store.

    It is not inside the store because Zarr would list its content as data. The name of each entry holds its owner, so
    that the next writer on the same machine removes exactly what killed processes left behind.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self.path = store.with_name(store.name + ".staging")

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A new empty folder, removed at the end of the block if it is still there, along with an empty parent."""
        folder = self.path / f"{Owner.me().name}~{uuid.uuid4().hex[:12]}"
        with writing(self.store):
            retry_while_removed(lambda: folder.mkdir(parents=True))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            self.close()

    def stale(self) -> list[Path]:
        """Entries whose owner ran on this machine and has ended."""
        owned = [(entry, Owner.parse(entry.name)) for entry in list_folder(self.path)]
        return [entry for entry, owner in owned if owner is not None and owner.is_dead()]

    def clean(self) -> None:
        """Remove stale entries, and the folder itself if it is then empty."""
        for entry in self.stale():
            shutil.rmtree(entry, ignore_errors=True)
            with suppress(OSError):  # a plain file
                entry.unlink()
        self.close()

    def close(self) -> None:
        """Remove the staging folder if it is empty."""
        with suppress(OSError):
            self.path.rmdir()


def retry_while_removed(action: Callable[[], T]) -> T:
    """Call ``action``, which creates and uses folders, again while other processes remove these folders when empty.

    ``Path.mkdir`` raises FileExistsError if the folder existed and was removed in the meantime.
    """
    for _ in range(100):
        with suppress(FileNotFoundError, FileExistsError):
            return action()
    return action()


__all__ = [
    "Owner",
    "Staging",
    "StoreReadError",
    "StoreWriteError",
    "link_new",
    "list_folder",
    "rename_new",
    "retry_while_removed",
    "sync_folder",
    "sync_tree",
    "write_synced",
    "writing",
]
