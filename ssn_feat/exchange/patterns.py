"""Which file, or which data set of an HDF5 file, holds a video's features: patterns such as ``flow={id}_flow.npy``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ssn_feat.errors import UserError
from ssn_feat.exchange.arrays import HDF5_ENDINGS, PICKLE_ENDINGS, datasets

ID = "{id}"


@dataclass(frozen=True)
class Location:
    """One array: a file and, where it holds several, the name in it."""

    path: Path
    key: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.key}" if self.key else str(self.path)


@dataclass(frozen=True)
class Pattern:
    """Where one stream's arrays are: ``STREAM=FILE`` or ``STREAM=FILE:NAME``, with ``{id}`` in FILE or NAME.

    FILE is relative to the folder of features; it is left out where that is itself the (HDF5) file: ``tsp=:{id}``.
    """

    stream: str
    file: str
    key: str

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Raises UserError for a pattern of another form."""
        stream, equals, place = text.partition("=")
        file, _, key = place.partition(":")
        if not equals or not stream or (ID in file) == (ID in key):
            raise UserError(
                f"a pattern must be STREAM=FILE or STREAM=FILE:NAME with one {ID} in it, as flow={ID}_flow.npy, "
                f"not {text!r}"
            )
        return cls(stream, file, key)

    @property
    def is_pickle(self) -> bool:
        return self.file.lower().endswith(PICKLE_ENDINGS)

    def find(self, folder: Path) -> dict[str, Location]:
        """Where each id's array is, by id as the file or name has it. Raises UserError where there is nothing."""
        path = folder / self.file if self.file else folder
        if ID not in self.file:
            if not path.is_file():
                raise UserError(f"there is no file {path} for the stream {self.stream!r}")
            if path.suffix.lower() not in HDF5_ENDINGS:
                raise UserError(f"{path} is no HDF5 file: {ID} must then be in the name of the file")
            found = {i: Location(path, name) for i, name in _matches(self.key, datasets(path))}
        else:
            if not folder.is_dir():
                raise UserError(f"there is no folder of features at {folder}")
            files = (file.relative_to(folder).as_posix() for file in folder.glob(self.file.replace(ID, "*")))
            found = {i: Location(folder / name, self.key) for i, name in _matches(self.file, files)}
        if not found:
            raise UserError(f"nothing in {folder} is named {self.file}{':' if self.key else ''}{self.key}")
        return dict(sorted(found.items()))


def _matches(pattern: str, names: Iterable[str]) -> list[tuple[str, str]]:
    """(id, name) of each of ``names`` that the pattern fits."""
    head, tail = (re.escape(part) for part in pattern.split(ID, 1))
    whole = re.compile(f"{head}(?P<id>[^/]+){tail.replace(re.escape(ID), '(?P=id)')}", re.DOTALL)
    return [(match["id"], name) for name in names if (match := whole.fullmatch(name))]
