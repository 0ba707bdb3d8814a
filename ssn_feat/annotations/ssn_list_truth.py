"""Read SSN proposal lists, the text files with instances and proposals of SSN and related projects.

A list is a sequence of blocks::

    # 0                       number of the block
    frames/v_P2hrv6QzDPI      path of the frames, or id of the video
    3344                      length in frames; 1 in a normalised list
    1                         factor that multiplies the length
    1                         number of instances
    59 0 3343                   class, start, end of each
    1                         number of proposals
    59 0.6121 1.0000 112 2159   class, best tIoU, share of the proposal inside that instance, start, end of each

Classes are numbered from 1; a proposal that overlaps no instance has class 0. Start and end are frames from 0, or in a
normalised list fractions of the video.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, chain, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations.records import InstanceRecord, Records, VideoRecord
from ssn_feat.errors import UserError

# Larger frames and class numbers are invalid and not exact in float64.
_LARGEST = 2**53


@dataclass(frozen=True)
class ListedBlock:
    """One block of the file.

    path: path of the frames or id. length, factor: their product is the number of frames, or 1 in a normalised list.
    truth: float64 ``(n, 3)``: class (from 1), start, end. proposals: float64 ``(m, 5)``: class (0 = none), tIoU,
    overlap, start, end. Start and end may be reversed or outside the video, as in some published lists.
    """

    path: str
    length: float
    factor: float
    truth: NDArray[np.float64]
    proposals: NDArray[np.float64]
    number: int

    @property
    def frames(self) -> int:
        """The number of frames as in the original code: ``int(length * factor)``."""
        return int(self.length * self.factor)


@dataclass(frozen=True)
class ListedVideo:
    """One block of a list in frames.

    truth: int64 ``(n, 3)``: class (from 1), start, end in frames from 0. proposals: float64 ``(m, 5)``: class (0 =
    none), tIoU, overlap, start, end. Rows that are reversed or end beyond ``frames`` are kept.
    """

    id: str
    frames: int
    truth: NDArray[np.int64]
    proposals: NDArray[np.float64]


def read_ssn_list(path: Path) -> list[ListedBlock]:
    """All blocks of a list, normalised or in frames.

    Raises UserError naming the file and the line for content that does not fit the format. A byte order mark, Windows
    line ends and blank lines between blocks are accepted.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").rstrip().split("\n")
    except OSError as error:
        raise UserError(f"cannot read the proposal list {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a proposal list: byte {error.start} is not UTF-8 text") from None
    blocks = _Reader(path, lines).blocks()
    if not blocks:
        raise UserError(f"{path}, line 1: the proposal list is empty; a block starts with '# 0'")
    return blocks


def read_listed_videos(path: Path) -> list[ListedVideo]:
    """Read a list in frames like the original data set. Also raises UserError if a frame is not a whole number."""
    videos = []
    for block in read_ssn_list(path):
        if (block.truth % 1 != 0).any() or (block.proposals[:, 3:] % 1 != 0).any():
            raise UserError(f"{path}: block # {block.number} ({block.path}) is normalised; a list in frames is needed")
        videos.append(ListedVideo(block.path, block.frames, block.truth.astype(np.int64), block.proposals))
    return videos


@dataclass(frozen=True)
class _Rows:
    """The location of rows of one kind: ``count`` lines from line ``first``."""

    first: int
    count: int


_TRUTH, _PROPOSALS = ("class", "start", "end"), ("class", "tIoU", "overlap", "start", "end")


class _Reader:
    """Parses the lines; raises UserError with the line of a fault.

    The numbers of all rows are converted together at the end, which is much faster than block by block.
    """

    def __init__(self, path: Path, lines: list[str]) -> None:
        self.path, self.lines, self.at = path, lines, 0
        self.truth: list[_Rows] = []
        self.proposals: list[_Rows] = []

    def blocks(self) -> list[ListedBlock]:
        try:
            heads = list(self._heads())
        except UserError:
            self._check_rows()  # a malformed row may be the cause
            raise
        parts = zip(heads, self._tables(self.truth, _TRUTH), self._tables(self.proposals, _PROPOSALS), strict=True)
        return [ListedBlock(name, *size, truth, rows, number) for (number, name, size), truth, rows in parts]

    def _heads(self) -> Iterator[tuple[int, str, tuple[float, float]]]:
        """Number, path, length and factor of every block; records the location of its rows."""
        while self._skip_blank():
            if not self.lines[self.at].startswith("#"):
                raise self._fault(self.at, f"expected the start of a block, '# <number>', not {self._quoted(self.at)}")
            number = self._count(self._next("")[1:], "the number of the block")
            name = self._next("the path of the video")
            if not name or name.startswith("#"):
                raise self._fault(self.at - 1, f"expected the path of the video, not {self._quoted(self.at - 1)}")
            length, factor = self._number("the length in frames"), self._number("the factor of the length")
            if length * factor > _LARGEST:
                raise self._fault(self.at - 2, f"a video cannot have {length * factor:g} frames")
            self.truth.append(self._rows("instances"))
            self.proposals.append(self._rows("proposals"))
            yield number, name, (length, factor)

    def _skip_blank(self) -> bool:
        while self.at < len(self.lines) and not self.lines[self.at].strip():
            self.at += 1
        return self.at < len(self.lines)

    def _next(self, what: str) -> str:
        if self.at >= len(self.lines):
            raise self._fault(len(self.lines) - 1, f"the file ends before {what}")
        self.at += 1
        return self.lines[self.at - 1].strip()

    def _number(self, what: str) -> float:
        text = self._next(what)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise self._fault(self.at - 1, f"expected {what}, not {self._quoted(self.at - 1)}")
        return value

    def _count(self, text: str, what: str) -> int:
        text = text.strip()
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise self._fault(self.at - 1, f"expected {what}, not {self._quoted(self.at - 1)}")
        return int(text)

    def _rows(self, what: str) -> _Rows:
        count = self._count(self._next(f"the number of {what}"), f"the number of {what}")
        first, self.at = self.at, self.at + count
        if self.at > len(self.lines):
            left = len(self.lines) - first
            raise self._fault(first - 1, f"{count} {what} should follow, but only {left} lines are left")
        return _Rows(first, count)

    def _tables(self, rows: list[_Rows], columns: tuple[str, ...]) -> list[NDArray[np.float64]]:
        """The numbers of the rows of each block."""
        table = _table(list(chain.from_iterable(self._lines_of(each) for each in rows)), len(columns))
        if table is None:
            self._check_rows()
            raise UserError(f"{self.path}: a row of {' '.join(columns)} is malformed")
        edges = accumulate((each.count for each in rows), initial=0)
        return [table[start:stop] for start, stop in pairwise(edges)]

    def _lines_of(self, rows: _Rows) -> list[str]:
        return self.lines[rows.first : rows.first + rows.count]

    def _check_rows(self) -> None:
        """Raises UserError for the first malformed row of all blocks, if there is one."""
        kinds: list[tuple[_Rows, str, tuple[str, ...]]] = [(rows, "instance", _TRUTH) for rows in self.truth]
        kinds += [(rows, "proposal", _PROPOSALS) for rows in self.proposals]
        for rows, what, columns in sorted(kinds, key=lambda kind: kind[0].first):
            for index, line in enumerate(self._lines_of(rows)):
                if _table([line], len(columns)) is None:
                    at, row = rows.first + index, f"{what} {index + 1} of {rows.count}"
                    raise self._fault(at, f"expected '{' '.join(columns)}' of {row}, not {self._quoted(at)}")

    def _quoted(self, at: int) -> str:
        text = self.lines[at].strip()
        return repr(text if len(text) <= 60 else text[:57] + "...") if text else "an empty line"

    def _fault(self, at: int, message: str) -> UserError:
        return UserError(f"{self.path}, line {at + 1}: {message}")


def _table(lines: list[str], width: int) -> NDArray[np.float64] | None:
    """The numbers of some rows, float64 ``(n, width)``; None unless every row is a class and finite numbers."""
    values = _decimals(lines, width)
    if values is None:
        values = _numbers(lines)
    if values is None or values.shape != (len(lines), width):
        return None
    classes = values[:, 0]
    good = bool((np.abs(values) <= _LARGEST).all() and (classes >= 0).all() and (classes % 1 == 0).all())
    return values if good else None


def _numbers(lines: list[str]) -> NDArray[np.float64] | None:
    """The numbers of rows in any notation; None if a row is not numeric or has a different length."""
    if not all(map(str.strip, lines)):  # loadtxt would skip blank lines
        return None
    try:
        return np.loadtxt(lines, dtype=np.float64, comments=None, ndmin=2)
    except ValueError:
        return None


def _decimals(lines: list[str], width: int) -> NDArray[np.float64] | None:
    """The numbers of rows of plain decimals (``12``, ``0.6121``) separated by single spaces; None for anything else.

    The digits without their points are read as integers, several times faster than fractions, and divided by powers of
    ten. With at most 15 digits both are exact in float64, so the quotient equals ``float`` of the text.
    """
    text = "\n".join([*lines, ""]).encode()
    data = np.frombuffer(text, dtype=np.uint8)
    marks = np.flatnonzero(data - np.uint8(ord("0")) > 9)  # everything except digits; characters below "0" wrap around
    points = data[marks] == ord(".")
    last = np.flatnonzero(~points)  # the marks that end a number
    ends, before = marks[last], last - 1
    pointed = points[before]
    digits = np.diff(ends, prepend=-1) - 1 - pointed
    spaces = np.tile([*b" " * (width - 1), *b"\n"], len(lines))
    one_point = np.count_nonzero(points) == np.count_nonzero(pointed)
    if not (np.array_equal(data[ends], spaces) and one_point and ((digits >= 1) & (digits <= 15)).all()):
        return None
    whole = np.fromstring(text.translate(None, b"."), dtype=np.int64, sep=" ")
    decimals = np.where(pointed, ends - marks[before] - 1, 0)
    return (whole / (10 ** np.arange(16, dtype=np.int64))[decimals]).reshape(-1, width)


def names_of(path: str) -> tuple[str, ...]:
    """Candidates for the id of a video, given its path in a list."""
    last = path.rstrip("/").rsplit("/", 1)[-1]
    stem = last.rsplit(".", 1)[0] or last
    return path, last, stem, last.removeprefix("v_"), stem.removeprefix("v_")


def known_id(path: str, known: Container[str]) -> str | None:
    """The first candidate of :func:`names_of` that is among the ``known`` ids; None if there is none."""
    return next((name for name in names_of(path) if name in known), None)


def ssn_list_records(path: Path, videos: Iterable[VideoRecord]) -> Records:
    """The instances in a list, normalised or in frames, as annotations of those of ``videos`` that it contains.

    A list holds no seconds: times are the fractions of a block's length times the duration from ``videos``. It holds no
    names of classes either: number 7 of 100 is ``class 007``.

    Raises UserError as :func:`read_ssn_list` does. Blocks of other videos and without a length are recorded as
    unreadable.
    """
    known: Mapping[str, VideoRecord] = {video.id: video for video in videos}
    records, blocks = Records(path, path.stem), read_ssn_list(path)
    width = len(str(max((int(block.truth[:, 0].max()) for block in blocks if len(block.truth)), default=0)))
    for block in blocks:
        where = f"block # {block.number}"
        video = known.get(known_id(block.path, known) or "")
        if video is None or video.duration is None:
            records.add_unreadable(where, f"the duration of video {block.path!r} is unknown")
        elif not block.length * block.factor > 0:
            records.add_unreadable(where, f"video {block.path!r} has no length")
        else:
            records.videos.append(replace(video, where=where))
            unit = video.duration / (block.length * block.factor)
            records.instances += [
                InstanceRecord(
                    f"{where}, instance {index}", video.id, f"class {int(label):0{width}d}", start * unit, end * unit
                )
                for index, (label, start, end) in enumerate(block.truth.tolist(), start=1)
            ]
    return records


__all__ = [
    "ListedBlock",
    "ListedVideo",
    "known_id",
    "names_of",
    "read_listed_videos",
    "read_ssn_list",
    "ssn_list_records",
]
