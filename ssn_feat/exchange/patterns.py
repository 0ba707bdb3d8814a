"""Patterns such as ``flow={id}_flow.npy`` for the file, or the data set of an HDF5 file, with a video's features."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ssn_feat.errors import UserError
from ssn_feat.exchange.array_files import HDF5_ENDINGS, PICKLE_ENDINGS, hdf5_datasets

ID = "{id}"


@dataclass(frozen=True)
class Location:
    """The location of one array: a file and, if it holds several arrays, the name in it."""

    path: Path
    key: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.key}" if self.key else str(self.path)


@dataclass(frozen=True)
class Pattern:
    """The locations of a stream's arrays: ``STREAM=FILE`` or ``STREAM=FILE:NAME``, with ``{id}`` in FILE or NAME.

    FILE is relative to the folder of features. It is empty if the features are a single HDF5 file: ``tsp=:{id}``.
    """

    stream: str
    file: str
    key: str

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Parse a pattern. Raises UserError if it has another form."""
        stream, equals, location = text.partition("=")
        file, _, key = location.partition(":")
        if not equals or not stream or (ID in file) == (ID in key):
            raise UserError(
                f"a pattern must be STREAM=FILE or STREAM=FILE:NAME with one {ID}, for example flow={ID}_flow.npy, "
                f"not {text!r}"
            )
        return cls(stream, file, key)

    @property
    def is_pickle(self) -> bool:
        return self.file.lower().endswith(PICKLE_ENDINGS)

    def find(self, folder: Path) -> dict[str, Location]:
        """The location of each array by the id in its file or name. Raises UserError if there are none."""
        path = folder / self.file if self.file else folder
        if ID not in self.file:
            if not path.is_file():
                raise UserError(f"there is no file {path} for the stream {self.stream!r}")
            if path.suffix.lower() not in HDF5_ENDINGS:
                raise UserError(f"{path} is not an HDF5 file: {ID} must then be in the file name")
            locations = {i: Location(path, name) for i, name in _matches(self.key, hdf5_datasets(path))}
        else:
            if not folder.is_dir():
                raise UserError(f"there is no folder of features at {folder}")
            files = (file.relative_to(folder).as_posix() for file in folder.glob(self.file.replace(ID, "*")))
            locations = {i: Location(folder / name, self.key) for i, name in _matches(self.file, files)}
        if not locations:
            raise UserError(f"nothing in {folder} matches {self.file}{':' if self.key else ''}{self.key}")
        return dict(sorted(locations.items()))


def _matches(pattern: str, names: Iterable[str]) -> list[tuple[str, str]]:
    """(id, name) of each of ``names`` that matches the pattern."""
    head, tail = (re.escape(part) for part in pattern.split(ID, 1))
    whole = re.compile(f"{head}(?P<id>[^/]+){tail.replace(re.escape(ID), '(?P=id)')}", re.DOTALL)
    return [(match["id"], name) for name in names if (match := whole.fullmatch(name))]


__all__ = ["ID", "Location", "Pattern"]
