"""Writes groups into an object store: the arrays first, the group's ``zarr.json`` last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ssn_feat.store.backends import GROUP, GroupBuilder, group_bytes

if TYPE_CHECKING:
    from ssn_feat.store.object_backend import ObjectBackend


class ObjectBuilder(GroupBuilder):
    """Writes a new group."""

    def __init__(self, backend: ObjectBackend, name: str) -> None:
        self._backend, self._name = backend, name
        self._own_metadata = group_bytes({})
        self._held: dict[str, bytes] = {}

    def _inside(self, name: str) -> str:
        return f"{self._name}/{name}".lstrip("/")

    def add_metadata(self, name: str, metadata: bytes) -> None:
        if name:
            self._backend.put(self._inside(f"{name}/{GROUP}"), metadata)
        else:
            self._own_metadata = metadata

    def zarr_target(self, name: str) -> Any:
        return self._backend.zarr_source(self._inside(name))

    @contextmanager
    def small_zarr_target(self, name: str) -> Iterator[Any]:
        """Kept in memory until the commit and then sent together: Zarr would send several requests one by one."""
        from zarr.storage import MemoryStore

        written: dict[str, Any] = {}
        yield MemoryStore(written)
        self._held |= {self._inside(f"{name}/{file}"): buffer.to_bytes() for file, buffer in written.items()}

    def array_metadata(self, array: str) -> bytes:
        name = self._inside(f"{array}/{GROUP}")
        return self._held[name] if name in self._held else self._backend.read(name)

    def commit(self) -> bool:
        self._backend.put_all(self._held)
        return self._backend.put_new(self._inside(GROUP), self._own_metadata)


class ObjectRebuilder(ObjectBuilder):
    """Adds arrays to an existing group and replaces its attributes."""

    def commit(self) -> bool:
        if not self._backend.exists(self._inside(GROUP)):
            return False
        self._backend.put_all(self._held)
        self._backend.put(self._inside(GROUP), self._own_metadata)
        return True


__all__ = ["ObjectBuilder", "ObjectRebuilder"]
