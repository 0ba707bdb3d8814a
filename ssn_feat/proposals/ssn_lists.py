"""SSN proposal lists: the text files in which SSN and its descendants exchange truth and proposals.

A list is a sequence of blocks::

    # 0                       number of the block
    frames/v_P2hrv6QzDPI      path of the frames, or id of the video
    3344                      length: frames; 1 in a normalised list
    1                         factor that multiplies the length
    1                         number of instances
    59 0 3343                   class, start, end of each
    1                         number of proposals
    59 0.6121 1.0000 112 2159   class, best tIoU, share of the proposal inside that instance, start, end of each

Classes count from 1; a proposal that meets no instance has class 0. Start and end are frames that count from 0, or in a
normalised list shares of the video.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.errors import UserError
from ssn_feat.proposals.collection import Proposals
from ssn_feat.proposals.labelling import label_proposals

# Frames and class numbers beyond this are no such thing, and would not survive as float64.
_LARGEST = 2**53


@dataclass(frozen=True)
class ListedBlock:
    """One block as it stands in the file.

    path: path of the frames or id. length, factor: their product is the number of frames, or 1 in a normalised list.
    truth: float64 ``(n, 3)``: class (from 1), start, end. proposals: float64 ``(m, 5)``: class (0 = none), tIoU,
    overlap, start, end. Start and end may be reversed or beyond the video: lists of others hold such rows.
    """

    path: str
    length: float
    factor: float
    truth: NDArray[np.float64]
    proposals: NDArray[np.float64]
    number: int

    @property
    def frames(self) -> int:
        """The number of frames, as the original counts them: ``int(length * factor)``."""
        return int(self.length * self.factor)


@dataclass(frozen=True)
class ListedVideo:
    """One block of a list in frames.

    truth: int64 ``(n, 3)``: class (from 1), start, end in frames from 0. proposals: float64 ``(m, 5)``: class (0 =
    none), tIoU, overlap, start, end. Rows are the file's, also those that are reversed or end beyond ``frames``.
    """

    id: str
    frames: int
    truth: NDArray[np.int64]
    proposals: NDArray[np.float64]


def read_ssn_list(path: Path) -> list[ListedBlock]:
    """All blocks of a list, normalised or in frames.

    Raises UserError naming the file and the line for whatever does not fit the format; a byte order mark, Windows line
    ends and blank lines between blocks are no fault.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").rstrip().split("\n")
    except OSError as error:
        raise UserError(f"cannot read the proposal list {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a proposal list: byte {error.start} is not UTF-8 text") from None
    blocks = list(_Reader(path, lines).blocks())
    if not blocks:
        raise UserError(f"{path}, line 1: the proposal list is empty; a block starts with '# 0'")
    return blocks


def read_listed_videos(path: Path) -> list[ListedVideo]:
    """A list in frames, as the original's data set reads it. Raises UserError also where a frame is no whole number."""
    videos = []
    for block in read_ssn_list(path):
        if (block.truth % 1 != 0).any() or (block.proposals[:, 3:] % 1 != 0).any():
            raise UserError(f"{path}: block # {block.number} ({block.path}) is normalised; needed is a list in frames")
        videos.append(ListedVideo(block.path, block.frames, block.truth.astype(np.int64), block.proposals))
    return videos


class _Reader:
    """Goes through the lines; every fault is a UserError with its line."""

    def __init__(self, path: Path, lines: list[str]) -> None:
        self.path, self.lines, self.at = path, lines, 0

    def blocks(self) -> Iterator[ListedBlock]:
        while self._skip_blank():
            if not self.lines[self.at].startswith("#"):
                raise self._fault(self.at, f"expected the start of a block, '# <number>', not {self._seen(self.at)}")
            number = self._count(self._next("")[1:], "the number of the block")
            name = self._next("the path of the video")
            if not name or name.startswith("#"):
                raise self._fault(self.at - 1, f"expected the path of the video, not {self._seen(self.at - 1)}")
            length, factor = self._number("the length in frames"), self._number("the factor of the length")
            if length * factor > _LARGEST:
                raise self._fault(self.at - 2, f"a video of {length * factor:g} frames is no video")
            truth = self._rows("instances", ("class", "start", "end"))
            proposals = self._rows("proposals", ("class", "tIoU", "overlap", "start", "end"))
            yield ListedBlock(name, length, factor, truth, proposals, number)

    def _skip_blank(self) -> bool:
        while self.at < len(self.lines) and not self.lines[self.at].strip():
            self.at += 1
        return self.at < len(self.lines)

    def _next(self, what: str) -> str:
        if self.at >= len(self.lines):
            raise self._fault(len(self.lines) - 1, f"the file ends where {what} should follow")
        self.at += 1
        return self.lines[self.at - 1].strip()

    def _number(self, what: str) -> float:
        text = self._next(what)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise self._fault(self.at - 1, f"expected {what}, not {self._seen(self.at - 1)}")
        return value

    def _count(self, text: str, what: str) -> int:
        text = text.strip()
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise self._fault(self.at - 1, f"expected {what}, not {self._seen(self.at - 1)}")
        return int(text)

    def _rows(self, what: str, columns: tuple[str, ...]) -> NDArray[np.float64]:
        count = self._count(self._next(f"the number of {what}"), f"the number of {what}")
        first, self.at = self.at, self.at + count
        if self.at > len(self.lines):
            left = len(self.lines) - first
            raise self._fault(first - 1, f"{count} {what} should follow, but only {left} lines do")
        rows = [line.split() for line in self.lines[first : self.at]]
        values = _table(rows, len(columns))
        if values is None:
            index = next(i for i, row in enumerate(rows) if _table([row], len(columns)) is None)
            place = f"{what.removesuffix('s')} {index + 1} of {count}"
            raise self._fault(
                first + index, f"expected '{' '.join(columns)}' of {place}, not {self._seen(first + index)}"
            )
        return values

    def _seen(self, at: int) -> str:
        text = self.lines[at].strip()
        return repr(text if len(text) <= 60 else text[:57] + "...") if text else "an empty line"

    def _fault(self, at: int, message: str) -> UserError:
        return UserError(f"{self.path}, line {at + 1}: {message}")


def _table(rows: list[list[str]], width: int) -> NDArray[np.float64] | None:
    """The numbers of some rows, float64 ``(n, width)``; None where any row is not a class and finite numbers."""
    if not set(map(len, rows)) <= {width}:
        return None
    try:
        values = np.array(list(map(float, chain.from_iterable(rows))), dtype=np.float64).reshape(-1, width)
    except ValueError:
        return None
    classes = values[:, 0]
    good = bool((np.abs(values) <= _LARGEST).all() and (classes >= 0).all() and (classes % 1 == 0).all())
    return values if good else None


def write_ssn_list(blocks: Iterable[ListedBlock], path: Path, normalised: bool) -> None:
    """Write a list; reading it and writing it again gives the same bytes.

    ``normalised``: starts and ends are shares, written with 4 decimals; otherwise frames, written as whole numbers.
    Raises UserError where a path cannot stand in a line, a frame is not whole, or the file cannot be written.
    """
    text = "".join(_format(block, normalised) for block in blocks)
    try:
        Path(path).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(f"cannot write the proposal list {path}: {error.strerror}") from None


def _format(block: ListedBlock, normalised: bool) -> str:
    if not block.path or block.path != block.path.strip() or block.path.startswith("#") or "\n" in block.path:
        raise UserError(f"the path {block.path!r} cannot stand in a proposal list")
    if not normalised and (block.truth[:, 1:] % 1 != 0).any() | (block.proposals[:, 3:] % 1 != 0).any():
        raise UserError(f"{block.path}: a list in frames needs whole frames; write it normalised or convert it")
    place = " %.4f %.4f\n" if normalised else " %d %d\n"
    return "".join(
        [
            f"# {block.number}\n{block.path}\n{_plain(block.length)}\n{_plain(block.factor)}\n",
            f"{len(block.truth)}\n",
            *map(("%d" + place).__mod__, map(tuple, block.truth.tolist())),
            f"{len(block.proposals)}\n",
            *map(("%d %.4f %.4f" + place).__mod__, map(tuple, block.proposals.tolist())),
        ]
    )


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def in_frames(
    blocks: Iterable[ListedBlock], frames: Mapping[str, int], paths: Mapping[str, str] | None = None
) -> list[ListedBlock]:
    """A normalised list in frames, as the original's ``process_proposal_list`` makes it.

    ``frames``: number of frames by path as it stands in the list; ``paths``: paths to put in its place. Shares times
    frames are cut to whole frames, tIoU and overlap stay as they are, blocks are numbered from 0.

    Raises UserError where ``frames`` lacks a video.
    """
    converted = []
    for number, block in enumerate(blocks):
        if block.path not in frames:
            raise UserError(f"the number of frames of {block.path!r} (block # {block.number}) is not known")
        scale = np.array([1, frames[block.path], frames[block.path]], dtype=np.float64)
        truth, proposals = np.trunc(block.truth * scale), block.proposals.copy()
        proposals[:, 3:] = np.trunc(proposals[:, 3:] * scale[1:])
        path = paths[block.path] if paths else block.path
        converted.append(ListedBlock(path, frames[block.path], 1, truth, proposals, number))
    return converted


def list_blocks(proposals: Proposals, dataset: Dataset, frames: Mapping[str, int] | None = None) -> list[ListedBlock]:
    """Blocks of the videos that are in both, in the data set's order: truth, and proposals labelled by it.

    Normalised by the durations of ``dataset``, or in frames where ``frames`` gives the number of each video (seconds
    times frames / duration, cut to whole frames; labels are of the seconds, before that).

    Raises UserError where no video is in both, or ``frames`` lacks one.
    """
    blocks: list[ListedBlock] = []
    for video in dataset.only(proposals.ids).videos.values():
        if frames is not None and video.id not in frames:
            raise UserError(f"the number of frames of video {video.id!r} is not known")
        length = 1 if frames is None else frames[video.id]
        truth, classes, boxes = video.intervals(), dataset.classes(video), proposals.intervals[video.id]
        found = label_proposals(boxes, truth, classes)
        places = [times * (length / video.duration) for times in (truth, boxes)]
        if frames is not None:
            places = [np.trunc(place) for place in places]
        rows = np.column_stack([found.label, found.tiou, found.overlap, places[1]])
        blocks.append(ListedBlock(video.id, length, 1, np.column_stack([classes + 1, places[0]]), rows, len(blocks)))
    if not blocks:
        raise UserError(f"none of the {len(proposals.ids)} videos with proposals is in data set {dataset.name!r}")
    return blocks


def listed_proposals(
    blocks: Iterable[ListedBlock],
    durations: Mapping[str, float] | None = None,
    fps: float | Mapping[str, float] | None = None,
) -> Proposals:
    """The proposals of a list in seconds.

    With ``fps`` (one for all videos or by id), frame / fps; otherwise ``durations`` by id, and start and end are taken
    as shares of the block's length. An id is the path of the block, its last component, or that without its ending or
    a leading ``v_``: the first of these that ``durations`` or ``fps`` knows; blocks of which they know none are left
    out, and so are rows that end before they start: ``parameters`` counts both. Lists carry no score: the order in a
    block is the rank (``score`` is "order", 0 for the first, then -1, -2, ...).

    Raises UserError where neither or both are given, or no block's video is known.
    """
    if (durations is None) == (fps is None):
        raise UserError("to place a proposal list in time, give either durations or frames per second")
    known: Mapping[str, float] | None = (
        durations if durations is not None else fps if isinstance(fps, Mapping) else None
    )
    intervals, unknown, reversed_rows = {}, list[str](), 0
    for block in blocks:
        names = _names(block.path)
        id = next((name for name in names if name in known), None) if known is not None else names[1]
        if id is None:
            unknown.append(block.path)
            continue
        if durations is not None:
            unit = durations[id] / (block.length * block.factor)
        else:
            unit = 1.0 / (fps[id] if isinstance(fps, Mapping) else float(fps or 0.0))
        rows = block.proposals[:, 3:]
        forward = rows[rows[:, 0] <= rows[:, 1]]
        reversed_rows += len(rows) - len(forward)
        intervals[id] = forward * unit
    if not intervals:
        raise UserError(f"no video of the proposal list is known: {', '.join(map(repr, unknown[:3]))}, ...")
    scores = {id: -np.arange(len(rows), dtype=np.float64) for id, rows in intervals.items()}
    parameters = {"unknown_videos": len(unknown), "reversed_rows": reversed_rows}
    return Proposals(intervals, scores, "ssn list", parameters, score="order")


def _names(path: str) -> tuple[str, ...]:
    """What the id of a video may be, given the path in a list."""
    last = path.rstrip("/").rsplit("/", 1)[-1]
    stem = last.rsplit(".", 1)[0] or last
    return path, last, stem, last.removeprefix("v_"), stem.removeprefix("v_")


__all__ = [
    "ListedBlock",
    "ListedVideo",
    "in_frames",
    "list_blocks",
    "listed_proposals",
    "read_listed_videos",
    "read_ssn_list",
    "write_ssn_list",
]
