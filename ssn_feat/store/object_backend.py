"""A store in an object store (``s3://``, ``gs://``, ``memory://``, ...), through fsspec and Zarr's own remote stores.

Objects cannot be renamed, so arrays are written under their final names and the group's ``zarr.json`` last, only if
there is none yet. This file marks the commit: readers and listings ignore a group without it, and the next writer of
that video overwrites what a killed writer left.

Credentials and endpoints come from the environment (or the configuration files) of the fsspec package, for example
``AWS_ACCESS_KEY_ID`` and ``AWS_ENDPOINT_URL``. They are never written into a store.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.store.backends import GROUP, GroupBuilder, StoreBackend, group_bytes
from ssn_feat.store.claims import StoredClaim
from ssn_feat.store.object_builder import ObjectBuilder, ObjectRebuilder
from ssn_feat.store.staging import Owner, StoreReadError, writing

# Groups that exist before the store's own metadata: its writer is still at work, or was killed.
_WRITTEN_FIRST = {"videos", "failed", "runs"}
# s3fs repeats requests (of a read twice over), and botocore repeats each of these. With their defaults, a server that
# resets every connection is asked 125 times in four minutes before a read fails.
_RETRIES, _ATTEMPTS = 2, 3
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class ObjectBackend(StoreBackend):
    """A prefix in an object store."""

    is_remote = True
    # Libraries of object stores raise exceptions of any type.
    write_errors = (Exception,)
    path: str

    def __init__(self, url: str) -> None:
        self.path = url
        self.claim_store = ObjectClaims(self)

    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.checksummed  # open connections cannot be pickled

    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path, self.checksummed = state
        self.claim_store = ObjectClaims(self)

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The fsspec file system and the prefix in it."""
        from fsspec.core import url_to_fs

        scheme = self.path.partition(":")[0]
        is_s3 = scheme in ("s3", "s3a")
        try:
            files, root = url_to_fs(self.path, **(_s3_options() if is_s3 else {}))
        except ImportError:
            extra = "ssn-feat[s3]" if is_s3 else f"the fsspec package for {scheme}://"
            raise UserError(f"{self.path} needs a package that is not installed: pip install '{extra}'") from None
        except ValueError as error:
            raise UserError(f"{self.path} is not a valid location of a store: {error}") from None
        if is_s3:
            files.retries = _RETRIES  # s3fs offers no option for it
        return files, root.rstrip("/")

    @property
    def files(self) -> Any:
        """The fsspec file system."""
        return self._opened[0]

    def full(self, name: str) -> str:
        """The name of an object in :attr:`files`."""
        root = self._opened[1]
        return f"{root}/{name}" if name else root

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn exceptions of the library in the block into StoreReadError, except those for a missing object."""
        try:
            yield
        except (UserError, *_ABSENT):
            raise
        except Exception as error:  # no connection, no permission, no such bucket: types differ between libraries
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise StoreReadError(f"cannot read the store {self.path}: {reason}") from error

    def read(self, name: str) -> bytes:
        with self.reading():
            return self._part(name, 0, None)

    def _part(self, name: str, start: int, end: int | None) -> bytes:
        try:
            # Always with a range: for a whole object s3fs would request its size first.
            return bytes(self.files.cat_file(self.full(name), start=start, end=end))
        except _ABSENT:
            raise
        except Exception:  # a range of an empty object is an error whose type differs between libraries
            if self.files.size(self.full(name)) == 0:
                return b""
            raise

    def read_bytes(self, name: str, start: int = 0, count: int | None = None) -> NDArray[np.uint8]:
        with self.reading():
            end = None if count is None else start + count
            return np.frombuffer(bytearray(self._part(name, start, end)), dtype=np.uint8)

    def exists(self, name: str) -> bool:
        try:
            self.read(name)  # one request; the exists() of some libraries also looks for a folder
        except _ABSENT:
            return False
        return True

    def is_taken(self) -> bool:
        with self.reading():
            self.files.invalidate_cache()
            try:
                names = {name.rstrip("/").rpartition("/")[2] for name in self.files.ls(self.full(""), detail=False)}
            except _ABSENT:
                return False
        # The store's own name is listed if it was created between two requests of this listing.
        return not names <= {*_WRITTEN_FIRST, self.path.rpartition("/")[2]}

    def groups(self, group: str) -> list[str]:
        return list(self.commit_times(group))

    def commit_times(self, group: str) -> dict[str, float]:
        head, tail = f"{self.full(group)}/", f"/{GROUP}"
        with self.reading():
            self.files.invalidate_cache()
            # One listing of all objects: a request for each group would be a round trip per video.
            objects = self.files.find(self.full(group), detail=True)
        if f"{head}{GROUP}" not in objects and not self.exists(f"{group}/{GROUP}"):
            raise FileNotFoundError(group)
        names = {
            name[len(head) : -len(tail)]: _modification_time(info)
            for name, info in objects.items()
            if name.startswith(head) and name.endswith(tail)
        }
        return {name: at for name, at in names.items() if name and "/" not in name}

    @contextmanager
    def build(self, name: str) -> Iterator[GroupBuilder]:
        yield ObjectBuilder(self, name)

    @contextmanager
    def rebuild(self, name: str) -> Iterator[GroupBuilder]:
        yield ObjectRebuilder(self, name)

    def arrays(self, name: str) -> list[str]:
        with self.reading():
            self.files.invalidate_cache()
            try:
                found = self.files.ls(self.full(name), detail=True)
            except _ABSENT:
                return []
        return [each["name"].rstrip("/").rpartition("/")[2] for each in found if each["type"] == "directory"]

    @cached_property
    def staging(self) -> ObjectBackend:
        """The prefix beside the store for claims and records of changes."""
        return ObjectBackend(f"{self.path}.staging")

    def note_change(self, key: str, video_id: str) -> None:
        self.staging.put(f"changes/{key}", json.dumps(video_id).encode())

    def noted_changes(self) -> dict[str, str]:
        changes = {}
        for key in self.staging.names("changes"):
            with suppress(ValueError, *_ABSENT):
                changes[key] = str(json.loads(self.staging.read(f"changes/{key}")))
        return changes

    def forget_change(self, key: str) -> None:
        with suppress(*_ABSENT):
            self.staging.files.rm_file(self.staging.full(f"changes/{key}"))

    def names(self, prefix: str) -> list[str]:
        """Names of the objects under a prefix, sorted."""
        with self.reading():
            self.files.invalidate_cache()
            try:
                return sorted(name.rpartition("/")[2] for name in self.files.find(self.full(prefix)))
            except _ABSENT:
                return []

    def put(self, name: str, content: bytes) -> None:
        """Write a whole object, replacing an earlier one."""
        self.files.pipe_file(self.full(name), content)

    def put_all(self, contents: Mapping[str, bytes]) -> None:
        """Write whole objects concurrently, replacing earlier ones."""
        self.files.pipe({self.full(name): content for name, content in contents.items()})

    def put_new(self, name: str, content: bytes) -> bool:
        """Write an object unless it exists; False if it does. Atomic on S3 and in memory."""
        try:
            self.files.pipe_file(self.full(name), content, mode="create")
        except FileExistsError:
            return False
        except Exception as error:  # libraries without FileExistsError
            with suppress(StoreReadError):
                if self.exists(name):
                    return False
            raise error from None
        return True

    def replace(self, name: str, attributes: Mapping[str, Any]) -> None:
        self.put(f"{name}/{GROUP}".lstrip("/"), group_bytes(attributes))

    def remove(self, name: str) -> None:
        with suppress(*_ABSENT):
            self.files.rm_file(self.full(f"{name}/{GROUP}"))
        self.files.invalidate_cache()
        with suppress(*_ABSENT):
            self.files.rm(self.full(name), recursive=True)

    def remove_record(self, name: str) -> None:
        with suppress(*_ABSENT):
            self.files.rm_file(self.full(f"{name}/{GROUP}"))

    def zarr_source(self, name: str) -> Any:
        from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
        from zarr.storage import FsspecStore

        # By itself Zarr would use a second file system in its event loop, whose connections stay open at exit.
        return FsspecStore(AsyncFileSystemWrapper(self.files, asynchronous=True), path=self.full(name))

    def clean(self) -> None:
        """Does nothing: the next writer overwrites what is not committed."""


class ObjectClaims:
    """Claims as small objects beside the store, renewed by writing them again.

    Not every object store can compare and change an object atomically, so another process may act between reading a
    claim and renewing or removing it. Then two processes work on one video, and the first one commits it.
    """

    def __init__(self, backend: ObjectBackend) -> None:
        self._backend = backend

    @property
    def _staging(self) -> ObjectBackend:
        return self._backend.staging

    def now(self) -> float:
        name = f"clock/{Owner.me().name}~{uuid.uuid4().hex[:12]}"
        with writing(self._backend.path, self._backend.write_errors):
            self._staging.put(name, b"")
            try:
                return self._time_of(name)
            finally:
                with suppress(*_ABSENT):
                    self._staging.files.rm_file(self._staging.full(name))

    def _time_of(self, name: str) -> float:
        with self._staging.reading():
            self._staging.files.invalidate_cache()
            return _modification_time(self._staging.files.info(self._staging.full(name)))

    def create(self, key: str, content: bytes) -> bool:
        with writing(self._backend.path, self._backend.write_errors):
            if self._staging.put_new(f"claims/{key}", content):
                return True
        # The library may have written it in a first attempt whose answer was lost. Contents of claims are unique.
        return self._has_content(key, content)

    def _has_content(self, key: str, content: bytes) -> bool:
        try:
            return self._staging.read(f"claims/{key}") == content
        except _ABSENT:
            return False

    def read(self, key: str) -> StoredClaim | None:
        try:
            return StoredClaim(self._staging.read(f"claims/{key}"), self._time_of(f"claims/{key}"))
        except _ABSENT:
            return None

    def renew(self, key: str, content: bytes) -> bool:
        try:
            if not self._has_content(key, content):
                return False
            self._staging.put(f"claims/{key}", content)
        except Exception:  # no connection for the moment: work continues without a claim
            return False
        return True

    def remove(self, key: str, content: bytes) -> None:
        with suppress(Exception):  # the claim ends with its process or its lease
            if self._has_content(key, content):
                self._staging.files.rm_file(self._staging.full(f"claims/{key}"))

    def keys(self) -> list[str]:
        return self._staging.names("claims")

    def close(self) -> None:
        """Does nothing: a prefix without objects does not exist."""


def _s3_options() -> dict[str, Any]:
    """Options of s3fs. The environment variable of botocore takes precedence."""
    if "AWS_MAX_ATTEMPTS" in os.environ:
        return {}
    return {"config_kwargs": {"retries": {"total_max_attempts": _ATTEMPTS}}}


def _modification_time(info: Mapping[str, Any]) -> float:
    """When an object was last written, seconds since 1970, from what its file system reports."""
    for name in ("LastModified", "mtime", "updated", "last_modified", "created"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):
            with suppress(ValueError):
                return datetime.fromisoformat(value).timestamp()
    raise StoreReadError(f"the object store does not report when {info.get('name')} was written")


__all__ = ["ObjectBackend", "ObjectClaims"]
