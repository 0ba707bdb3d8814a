"""The interface between a store and the files it consists of, in a local folder or in an object store.

Names of files are relative to the store, use slashes, and consist of keys (:mod:`ssn_feat.store.keys`) and names of
arrays only.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ssn_feat.store.claims import ClaimStore
from ssn_feat.store.recipe import fingerprint, fingerprint_of_plain, parse_json

GROUP = "zarr.json"
# The attribute that holds the checksum of the others. Nothing else protects numbers in them against a flipped bit.
_CHECKSUM = "checksum"


def group_bytes(attributes: Mapping[str, Any]) -> bytes:
    """The ``zarr.json`` of a Zarr 3 group, with a checksum of its attributes."""
    checksummed = {**attributes, _CHECKSUM: fingerprint(attributes)} if attributes else {}
    node = {"zarr_format": 3, "node_type": "group", "attributes": checksummed}
    return json.dumps(node, indent=2, allow_nan=False).encode("ascii")


def group_attributes(content: bytes, checksummed: bool = False) -> dict[str, Any]:
    """The attributes that :func:`group_bytes` was given.

    ``checksummed``: a missing checksum is an error. Raises ValueError if ``content`` does not describe a group or does
    not match its checksum.
    """
    node = parse_json(content)
    if not isinstance(node, dict) or node.get("node_type") != "group" or not isinstance(node.get("attributes"), dict):
        raise ValueError("it does not describe a Zarr group with attributes")
    attributes: dict[str, Any] = node["attributes"]
    checksum = attributes.pop(_CHECKSUM, None)
    if checksum is None and checksummed:
        raise ValueError("its attributes have lost their checksum")
    if checksum is not None and checksum != fingerprint_of_plain(attributes):
        raise ValueError("its attributes do not match their checksum")
    return attributes


class GroupBuilder(ABC):
    """A group that is being written. Readers do not see it before :meth:`commit`."""

    def add_group(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Add a subgroup, or with the name "" the attributes of the group itself."""
        self.add_metadata(name, group_bytes(attributes))

    @abstractmethod
    def add_metadata(self, name: str, metadata: bytes) -> None:
        """Like :meth:`add_group`, from the bytes of its ``zarr.json``."""

    @abstractmethod
    def zarr_target(self, name: str) -> Any:
        """The Zarr store (or path) to create the array ``name`` in."""

    @contextmanager
    def small_zarr_target(self, name: str) -> Iterator[Any]:
        """Like :meth:`zarr_target`, for an array that fits into memory and is written completely within the block."""
        yield self.zarr_target(name)

    @abstractmethod
    def array_metadata(self, array: str) -> bytes:
        """The ``zarr.json`` of an array that was written."""

    @abstractmethod
    def commit(self) -> bool:
        """Commit atomically and durably. False, without any change, if a group of this name exists.

        See :meth:`StoreBackend.rebuild` for groups that exist.
        """


class StoreBackend(ABC):
    """The files of a store. Reading a file that does not exist raises FileNotFoundError."""

    path: Path | str
    """The path or URL, as users know it."""
    is_remote: ClassVar[bool]
    """Whether every file costs a round trip, so that many should be read at once."""
    write_errors: ClassVar[tuple[type[Exception], ...]]
    """Exceptions that mean that the store cannot be written."""
    claim_store: ClaimStore
    """Where claims are kept."""
    checksummed = False
    """Whether attributes without a checksum are damaged. The first stores had no checksums."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Read a whole file."""

    @abstractmethod
    def read_bytes(self, name: str, start: int = 0, count: int | None = None) -> NDArray[np.uint8]:
        """Read part of a file into a new writable array, shorter than ``count`` if the file ends before.

        A negative ``start`` counts from the end.
        """

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""

    @abstractmethod
    def is_taken(self) -> bool:
        """Whether anything exists at :attr:`path`, apart from what a killed creation of a store left behind."""

    @abstractmethod
    def groups(self, group: str) -> list[str]:
        """Names of the subgroups of a group. Raises FileNotFoundError if there is no such group."""

    @abstractmethod
    def commit_times(self, group: str) -> dict[str, float]:
        """The time at which each subgroup was committed, seconds since 1970, by name."""

    @abstractmethod
    def build(self, name: str) -> AbstractContextManager[GroupBuilder]:
        """Build a new group of that name. It is discarded if the block ends without a commit."""

    @abstractmethod
    def rebuild(self, name: str) -> AbstractContextManager[GroupBuilder]:
        """Build arrays and attributes for the existing group of that name.

        The commit puts the arrays beside those of the group and then replaces its attributes atomically. It returns
        False if the group does not exist. Only one process at a time may rebuild a group.
        """

    @abstractmethod
    def replace(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Write a group without arrays atomically, replacing an earlier one.

        The group that contains it must exist.
        """

    @abstractmethod
    def arrays(self, name: str) -> list[str]:
        """Names of the arrays of a group, whether or not its attributes refer to them; empty if there is no group."""

    @abstractmethod
    def note_change(self, key: str, video_id: str) -> None:
        """Record that the group ``key`` of a video is being changed, so that leftovers of a killed writer are found."""

    @abstractmethod
    def noted_changes(self) -> dict[str, str]:
        """Ids by key of the recorded changes."""

    @abstractmethod
    def forget_change(self, key: str) -> None:
        """Remove the record of a change. Does nothing if there is none."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a group or an array, its metadata first. Does nothing if there is none."""

    def remove_record(self, name: str) -> None:
        """Remove a group without arrays. Does nothing if there is none."""
        self.remove(name)

    @abstractmethod
    def zarr_source(self, name: str) -> Any:
        """The Zarr store (or path) to open the array ``name`` from."""

    @abstractmethod
    def clean(self) -> None:
        """Remove what ended processes of this machine left behind."""

    def attributes(self, name: str) -> dict[str, Any]:
        """Attributes of a group.

        Raises FileNotFoundError if there is no such group, ValueError if its attributes are damaged.
        """
        return group_attributes(self.read(f"{name}/{GROUP}" if name else GROUP), self.checksummed)


__all__ = ["GROUP", "GroupBuilder", "StoreBackend", "group_attributes", "group_bytes"]
