"""What makes a commit safe on a plain file system: staging folders with an owner, syncing, whole-file replacement."""

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
    """The store cannot be written (full disk, no permission, ...): no later video can be written either."""


class StoreReadError(UserError):
    """The store cannot be read for now (no connection, no permission): it says nothing about what is in it."""


@contextmanager
def writing(path: Path | str, errors: tuple[type[Exception], ...] = (OSError,)) -> Iterator[None]:
    """Turns one of ``errors`` in the block into a StoreWriteError that names ``path``, the reason and what to do."""
    try:
        yield
    except UserError:
        raise
    except errors as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
        raise StoreWriteError(
            f"cannot write to the store {path}: {reason}; "
            "nothing committed is lost, mend that and run the same command again"
        ) from error


def write_synced(path: Path, content: bytes) -> None:
    """Write a file, durably (but for its name: see :func:`sync_folder`)."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def listed(folder: Path) -> list[Path]:
    """What is in a folder, sorted; nothing where there is no folder (others may remove it at any time)."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable: syncing a file does not. Does nothing where folders cannot be opened."""
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
            # Windows flushes only handles that may write.
            handle = os.open(os.path.join(parent, name), os.O_RDWR if os.name == "nt" else os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(parent))


def rename_new(source: Path, target: Path) -> bool:
    """Rename a folder to a name that is free, durably; False (and nothing happens) where the name is taken."""
    try:
        os.rename(source, target)
    except OSError:
        if target.exists():
            return False
        raise
    sync_folder(target.parent)
    return True


def link_new(source: Path, target: Path) -> bool:
    """Give a small file that is whole a second name; False (and nothing happens) where the name is taken.

    Where the file system has no hard links it is copied: a process killed meanwhile leaves less than the whole.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        # A file server may have done it at a first request whose answer was lost.
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
    """A process, told apart from a later one with the same number by the time it was started."""

    host: str
    pid: int
    started: str

    @classmethod
    def me(cls) -> Owner:
        host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:80] or "host"
        return cls(host, os.getpid(), _started(os.getpid()) or "0")

    @classmethod
    def parse(cls, name: str) -> Owner | None:
        """The owner in the name of a staging folder (:meth:`name`), None where the name is not of that form."""
        parts = name.split("~")
        if len(parts) < 3 or not parts[1].isdigit():
            return None
        return cls(parts[0], int(parts[1]), parts[2])

    @property
    def name(self) -> str:
        return f"{self.host}~{self.pid}~{self.started}"

    def is_dead(self) -> bool:
        """True only for a process of this machine that certainly has ended."""
        return self.host == Owner.me().host and _started(self.pid) != self.started


def _started(pid: int) -> str | None:
    """When a living process of this machine was started, as an opaque word; None for one that has ended."""
    if os.path.isdir("/proc/self"):
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return None
        # A killed process whose parent has not collected it yet (Z) writes no more.
        return None if fields[0] in (b"Z", b"X") else fields[19].decode()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "0"


class Staging:
    """The folder beside a store in which videos are built before they are renamed into it.

    It is not inside the store because Zarr would list what lies there as data. Each entry carries its owner's name, so
    that what a killed process left behind is removed by the next writer on the same machine, and nothing else is.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self.path = store.with_name(store.name + ".staging")

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A new empty folder; whatever still is there at the end of the block is removed, and an empty parent."""
        folder = self.path / f"{Owner.me().name}~{uuid.uuid4().hex[:12]}"
        with writing(self.store):
            _make(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            self.close()

    def stale(self) -> list[Path]:
        """Entries whose owner has ended, on this machine."""
        owned = [(entry, Owner.parse(entry.name)) for entry in listed(self.path)]
        return [entry for entry, owner in owned if owner is not None and owner.is_dead()]

    def clean(self) -> int:
        """Remove stale entries, and the folder itself when nothing is left; the number removed."""
        stale = self.stale()
        for entry in stale:
            shutil.rmtree(entry, ignore_errors=True)
            with suppress(OSError):  # what was no folder
                entry.unlink()
        self.close()
        return len(stale)

    def close(self) -> None:
        """Remove the staging folder if it is empty."""
        with suppress(OSError):
            self.path.rmdir()


def _make(folder: Path) -> None:
    while_removed(lambda: folder.mkdir(parents=True))


def while_removed(act: Callable[[], T]) -> T:
    """What ``act`` returns, which makes folders and uses them while other processes remove them where they are empty.

    Python's making of a folder raises FileExistsError where it was there and is gone when looked at again.
    """
    for _ in range(100):
        with suppress(FileNotFoundError, FileExistsError):
            return act()
    return act()
