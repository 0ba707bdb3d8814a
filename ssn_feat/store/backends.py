"""Where a store is kept: a tree of small files in a local folder or in an object store.

:class:`Place` is all that the rest of the package knows of either. Names are relative to the store, with slashes, and
made of keys (:mod:`ssn_feat.store.keys`) and names of arrays only.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.store.claims import Board
from ssn_feat.store.recipe import fingerprint, parsed

GROUP = "zarr.json"
# One letter would be a Windows drive.
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)


def location(path: Path | str) -> Path | str:
    """Where a store is: a local path as a Path, anything else as a URL.

    A URL that went through :class:`~pathlib.Path`, which makes one slash of two, is put right again. ``file://`` is a
    local path. Raises UserError for a URL that carries credentials, which belong into the environment.
    """
    match = _URL.fullmatch(str(path))
    if match is None:
        return Path(path)
    scheme, rest = match.groups()
    if scheme in ("file", "local"):
        return Path("/" + rest)
    if "@" in urlsplit(f"{scheme}://{rest}").netloc:
        raise UserError(f"a {scheme} URL must not hold credentials: leave them in the environment")
    return f"{scheme}://{rest.rstrip('/')}"


def place_of(path: Path | str) -> Place:
    """The place at a local path or URL. Raises UserError where the package for such URLs is not installed."""
    where = location(path)
    if isinstance(where, Path):
        from ssn_feat.store.local_store import LocalPlace

        return LocalPlace(where)
    from ssn_feat.store.object_store import ObjectPlace

    return ObjectPlace(where)


# The attribute that holds the checksum of the others: numbers in them have no other guard against a flipped bit.
_CHECKSUM = "checksum"


def group_bytes(attributes: Mapping[str, Any]) -> bytes:
    """The ``zarr.json`` of a Zarr 3 group, with a checksum of its attributes."""
    whole = {**attributes, _CHECKSUM: fingerprint(attributes)} if attributes else {}
    node = {"zarr_format": 3, "node_type": "group", "attributes": whole}
    return json.dumps(node, indent=2, allow_nan=False).encode("ascii")


def group_attributes(content: bytes, checksummed: bool = False) -> dict[str, Any]:
    """What :func:`group_bytes` was given. Raises ValueError where ``content`` is no group, or not what was written.

    ``checksummed``: a checksum must be there.
    """
    node = parsed(content)
    if not isinstance(node, dict) or node.get("node_type") != "group" or not isinstance(node.get("attributes"), dict):
        raise ValueError("it does not describe a Zarr group with attributes")
    attributes: dict[str, Any] = node["attributes"]
    checksum = attributes.pop(_CHECKSUM, None)
    if checksum is None and checksummed:
        raise ValueError("its attributes have lost their checksum")
    if checksum is not None and checksum != fingerprint(attributes):
        raise ValueError("its attributes do not match their checksum")
    return attributes


class Build(ABC):
    """A group in the making: nothing of it is there for readers before :meth:`commit`."""

    def group(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Make a group in it; the group itself has the name ""."""
        self.record(name, group_bytes(attributes))

    @abstractmethod
    def record(self, name: str, metadata: bytes) -> None:
        """Make a group in it from the bytes of its ``zarr.json``."""

    @abstractmethod
    def array(self, name: str) -> Any:
        """What Zarr makes the array of that name from."""

    @contextmanager
    def small_array(self, name: str) -> Iterator[Any]:
        """What Zarr makes the array of that name from, whole, within the block: one that fits into memory."""
        yield self.array(name)

    @abstractmethod
    def metadata(self, array: str) -> bytes:
        """The ``zarr.json`` of an array that was made."""

    @abstractmethod
    def commit(self) -> bool:
        """Make it be there, durably, at once; False, and nothing changes, where there is one of that name."""


class Place(ABC):
    """A store's files. Reading raises FileNotFoundError for a file that is not there."""

    path: Path | str
    """As users know it: a Path or a URL."""
    is_remote: ClassVar[bool]
    """Whether every file costs a round trip, so that many are to be read at once."""
    write_errors: ClassVar[tuple[type[Exception], ...]]
    """What writing raises where the place cannot be written."""
    board: Board
    """Where claims are kept."""
    checksummed = False
    """Whether attributes without a checksum are damaged ones; the first stores had none."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """A whole file."""

    @abstractmethod
    def read_bytes(self, name: str, start: int = 0, count: int | None = None) -> NDArray[np.uint8]:
        """Part of a file, in memory of its own; ``start`` counts from the end where negative. Short at its end."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""

    @abstractmethod
    def is_taken(self) -> bool:
        """Whether there is anything where the store would be, but for what a killed making of a store left."""

    @abstractmethod
    def groups(self, group: str) -> list[str]:
        """Names of groups in a group. Raises FileNotFoundError where there is no such group."""

    @abstractmethod
    def times(self, group: str) -> dict[str, float]:
        """When each group in a group was committed: seconds since 1970 by name."""

    @abstractmethod
    def building(self, name: str) -> AbstractContextManager[Build]:
        """A new group of that name. What was not committed when the block ends is not there."""

    @abstractmethod
    def replace(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Make a group without arrays, in place of an earlier one, at once."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Take a group away, its attributes first; nothing happens where there is none."""

    def remove_record(self, name: str) -> None:
        """Take away a group without arrays; nothing happens where there is none."""
        self.remove(name)

    @abstractmethod
    def arrays(self, name: str) -> Any:
        """What Zarr opens the array of that name from."""

    @abstractmethod
    def clean(self) -> None:
        """Remove what dead processes of this machine left behind."""

    def attributes(self, name: str) -> dict[str, Any]:
        """Attributes of a group.

        Raises FileNotFoundError where there is none, ValueError where they are not what was written.
        """
        return group_attributes(self.read(f"{name}/{GROUP}" if name else GROUP), self.checksummed)
