"""A store in an object store (``s3://``, ``gs://``, ``memory://``, ...), through fsspec and Zarr's own remote stores.

Objects cannot be renamed: arrays are written where they belong, and the group's ``zarr.json`` last. It is the record of
the commit, put only where there is none. Readers and lists go by it alone, so that what a killed writer left is not
there; the next writer of that video writes over it.

Credentials and endpoints come from the environment (or the configuration files) of the fsspec package, as
``AWS_ACCESS_KEY_ID`` and ``AWS_ENDPOINT_URL``; nothing of them is ever written into a store.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.store.backends import GROUP, Build, Place, group_bytes
from ssn_feat.store.claims import Seen
from ssn_feat.store.files import Owner, StoreReadError, writing

# Groups of a store whose own record was not written yet, by a writer that was killed or will be there in a moment.
_MADE_FIRST = {"videos", "failed", "runs"}
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class ObjectPlace(Place):
    """A prefix of an object store."""

    is_remote = True
    # Libraries of object stores raise what they like.
    write_errors = (Exception,)
    path: str

    def __init__(self, url: str) -> None:
        self.path = url
        self.board = ObjectBoard(self)

    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.checksummed  # open connections stay in their process

    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path, self.checksummed = state
        self.board = ObjectBoard(self)

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system and the prefix in it."""
        from fsspec.core import url_to_fs

        scheme = self.path.partition(":")[0]
        try:
            files, root = url_to_fs(self.path)
        except ImportError:
            extra = "ssn-feat[s3]" if scheme in ("s3", "s3a") else f"the fsspec package for {scheme}://"
            raise UserError(f"{self.path} needs a package that is not installed: pip install '{extra}'") from None
        except ValueError as error:
            raise UserError(f"{self.path} is no place for a store: {error}") from None
        return files, root.rstrip("/")

    @property
    def files(self) -> Any:
        """The fsspec file system."""
        return self._opened[0]

    def full(self, name: str) -> str:
        """The object's name in :attr:`files`."""
        root = self._opened[1]
        return f"{root}/{name}" if name else root

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turns what the library raises in the block into a StoreReadError, but for what says that nothing is there."""
        try:
            yield
        except (UserError, *_ABSENT):
            raise
        except Exception as error:  # no connection, no permission, no such bucket: each library has its own
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise StoreReadError(f"cannot read the store {self.path}: {reason}") from error

    def read(self, name: str) -> bytes:
        with self.reading():
            return self._part(name, 0, None)

    def _part(self, name: str, start: int, end: int | None) -> bytes:
        try:
            # Always by a range: s3fs would ask for the size of a whole object first.
            return bytes(self.files.cat_file(self.full(name), start=start, end=end))
        except _ABSENT:
            raise
        except Exception:  # an empty object has no first byte, of which each library has its own to say
            if self.files.size(self.full(name)) == 0:
                return b""
            raise

    def read_bytes(self, name: str, start: int = 0, count: int | None = None) -> NDArray[np.uint8]:
        with self.reading():
            end = None if count is None else start + count
            return np.frombuffer(bytearray(self._part(name, start, end)), dtype=np.uint8)

    def exists(self, name: str) -> bool:
        try:
            self.read(name)  # one request, where asking for it makes some libraries ask for a folder, too
        except _ABSENT:
            return False
        return True

    def is_taken(self) -> bool:
        with self.reading():
            self.files.invalidate_cache()
            try:
                found = {name.rstrip("/").rpartition("/")[2] for name in self.files.ls(self.full(""), detail=False)}
            except _ABSENT:
                return False
        # Its own name: made between two lists by which the file system looked.
        return not found <= {*_MADE_FIRST, self.path.rpartition("/")[2]}

    def groups(self, group: str) -> list[str]:
        return list(self.times(group))

    def times(self, group: str) -> dict[str, float]:
        head, tail = f"{self.full(group)}/", f"/{GROUP}"
        with self.reading():
            self.files.invalidate_cache()
            # One list of all objects: asking for each record would be a round trip a video.
            found = self.files.find(self.full(group), detail=True)
        if f"{head}{GROUP}" not in found and not self.exists(f"{group}/{GROUP}"):
            raise FileNotFoundError(group)
        names = {
            name[len(head) : -len(tail)]: _seconds(info)
            for name, info in found.items()
            if name.startswith(head) and name.endswith(tail)
        }
        return {name: at for name, at in names.items() if name and "/" not in name}

    @contextmanager
    def building(self, name: str) -> Iterator[Build]:
        yield _ObjectBuild(self, name)

    def put(self, name: str, content: bytes) -> None:
        """Write a whole object, in place of an earlier one."""
        self.files.pipe_file(self.full(name), content)

    def put_all(self, contents: Mapping[str, bytes]) -> None:
        """Write whole objects, many at once, in place of earlier ones."""
        self.files.pipe({self.full(name): content for name, content in contents.items()})

    def put_new(self, name: str, content: bytes) -> bool:
        """Write an object that is not there; False where it is. Atomic on S3 and in memory."""
        try:
            self.files.pipe_file(self.full(name), content, mode="create")
        except FileExistsError:
            return False
        except Exception as error:  # some libraries have their own for that
            with suppress(StoreReadError):
                if self.exists(name):
                    return False
            raise error from None
        return True

    def replace(self, name: str, attributes: Mapping[str, Any]) -> None:
        self.put(f"{name}/{GROUP}", group_bytes(attributes))

    def remove(self, name: str) -> None:
        with suppress(*_ABSENT):
            self.files.rm_file(self.full(f"{name}/{GROUP}"))
        self.files.invalidate_cache()
        with suppress(*_ABSENT):
            self.files.rm(self.full(name), recursive=True)

    def remove_record(self, name: str) -> None:
        with suppress(*_ABSENT):
            self.files.rm_file(self.full(f"{name}/{GROUP}"))

    def arrays(self, name: str) -> Any:
        from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
        from zarr.storage import FsspecStore

        # Zarr's own choice, a second file system in its event loop, leaves its connections open at the end.
        return FsspecStore(AsyncFileSystemWrapper(self.files, asynchronous=True), path=self.full(name))

    def clean(self) -> None:
        """Nothing: what is not committed is written over by the next writer."""


class _ObjectBuild(Build):
    def __init__(self, place: ObjectPlace, name: str) -> None:
        self._place, self._name = place, name
        self._record = group_bytes({})
        self._held: dict[str, bytes] = {}

    def _inside(self, name: str) -> str:
        return f"{self._name}/{name}".lstrip("/")

    def record(self, name: str, metadata: bytes) -> None:
        if name:
            self._place.put(self._inside(f"{name}/{GROUP}"), metadata)
        else:
            self._record = metadata

    def array(self, name: str) -> Any:
        return self._place.arrays(self._inside(name))

    @contextmanager
    def small_array(self, name: str) -> Iterator[Any]:
        """Held here until the commit, and sent together then: Zarr looks and writes several times, one by one."""
        from zarr.storage import MemoryStore

        made: dict[str, Any] = {}
        yield MemoryStore(made)
        self._held |= {self._inside(f"{name}/{file}"): buffer.to_bytes() for file, buffer in made.items()}

    def metadata(self, array: str) -> bytes:
        name = self._inside(f"{array}/{GROUP}")
        return self._held[name] if name in self._held else self._place.read(name)

    def commit(self) -> bool:
        self._place.put_all(self._held)
        return self._place.put_new(self._inside(GROUP), self._record)


class ObjectBoard:
    """Claims as small objects beside the store, renewed by being written again.

    Between looking at a claim and renewing or removing it another process may come: objects cannot be compared and
    changed in one step everywhere. Then two processes are at work on one video, of which one commits.
    """

    def __init__(self, place: ObjectPlace) -> None:
        self._place = place

    @cached_property
    def _staging(self) -> ObjectPlace:
        return ObjectPlace(f"{self._place.path}.staging")

    def now(self) -> float:
        name = f"clock/{Owner.me().name}~{uuid.uuid4().hex[:12]}"
        with writing(self._place.path, self._place.write_errors):
            self._staging.put(name, b"")
            try:
                return self._modified(name)
            finally:
                with suppress(*_ABSENT):
                    self._staging.files.rm_file(self._staging.full(name))

    def _modified(self, name: str) -> float:
        with self._staging.reading():
            self._staging.files.invalidate_cache()
            return _seconds(self._staging.files.info(self._staging.full(name)))

    def create(self, key: str, content: bytes) -> bool:
        with writing(self._place.path, self._place.write_errors):
            if self._staging.put_new(f"claims/{key}", content):
                return True
        # The library may have done it at a first try whose answer was lost: no two claims read alike.
        return self._reads(key, content)

    def _reads(self, key: str, content: bytes) -> bool:
        try:
            return self._staging.read(f"claims/{key}") == content
        except _ABSENT:
            return False

    def look(self, key: str) -> Seen | None:
        try:
            return Seen(self._staging.read(f"claims/{key}"), self._modified(f"claims/{key}"))
        except _ABSENT:
            return None

    def renew(self, key: str, content: bytes) -> bool:
        try:
            if not self._reads(key, content):
                return False
            self._staging.put(f"claims/{key}", content)
        except Exception:  # no connection for the moment, of which each library says so in its way: no claim, no harm
            return False
        return True

    def remove(self, key: str, content: bytes) -> None:
        with suppress(Exception):  # it ends with its process, or its lease
            if self._reads(key, content):
                self._staging.files.rm_file(self._staging.full(f"claims/{key}"))

    def keys(self) -> list[str]:
        with self._staging.reading():
            self._staging.files.invalidate_cache()
            try:
                return sorted(n.rpartition("/")[2] for n in self._staging.files.find(self._staging.full("claims")))
            except _ABSENT:
                return []

    def close(self) -> None:
        """Nothing: a prefix without objects is not there."""


def _seconds(info: Mapping[str, Any]) -> float:
    """When an object was written last, as its file system says it: seconds since 1970."""
    for name in ("LastModified", "mtime", "updated", "last_modified", "created"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):
            with suppress(ValueError):
                return datetime.fromisoformat(value).timestamp()
    raise StoreReadError(f"the object store does not say when {info.get('name')} was written")
