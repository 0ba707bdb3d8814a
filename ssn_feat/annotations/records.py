"""The intermediate result of every reader: one record per video and instance, each with its line or key in the file.

A reader turns a file into :class:`Records`, and :meth:`Records.dataset` turns these into a :class:`Dataset` or names
the first fault. With these two steps, ``validate`` lists every fault of a file with the parsers of
:func:`~ssn_feat.annotations.read_annotations`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssn_feat.annotations.dataset import Dataset, Instance, Video, subset_name
from ssn_feat.errors import UserError
from ssn_feat.foreign_json import is_text

# The subset of a video whose file names none.
NO_SUBSET = "unnamed"


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """A video in a file. ``where`` is its line or key, ``duration`` is in seconds (None if missing).

    ``duration_assumed``: as in :class:`~ssn_feat.annotations.Video`.
    """

    where: str
    id: str
    duration: float | None
    subset: str = NO_SUBSET
    fps: float | None = None
    frames: int | None = None
    duration_assumed: bool = False


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """An instance of the video ``video`` in a file. ``where`` is its line or key; times are in seconds."""

    where: str
    video: str
    label: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of an annotation file: its kind (a short name), its line or key, and a description."""

    kind: str
    where: str
    what: str

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return " ".join(text.splitlines())  # ids and keys may contain line breaks


@dataclass
class Records:
    """The content of ``source`` in the order of the file, and the entries that could not be read."""

    source: Path
    name: str
    videos: list[VideoRecord] = field(default_factory=list)
    instances: list[InstanceRecord] = field(default_factory=list)
    ambiguous: list[InstanceRecord] = field(default_factory=list)
    labels: tuple[str, ...] | None = None
    unreadable: list[Problem] = field(default_factory=list)

    def add_unreadable(self, where: str, what: str) -> None:
        """Record that the entry at ``where`` cannot be read."""
        self.unreadable.append(Problem("unreadable", where, what))

    def dataset(self) -> Dataset:
        """The data set. Raises UserError with file and line or key for the first unreadable or invalid entry.

        Empty instances, ends past the duration and duplicates are kept, since published annotations contain them.
        """
        problems = faults(self)
        if problems:
            more = f" (and {len(problems) - 1} more faults; list them with python -m ssn_feat.annotations validate)"
            raise UserError(f"{self.source}: {problems[0]}{more if len(problems) > 1 else ''}")
        instances, ambiguous = (_by_video(rows) for rows in (self.instances, self.ambiguous))
        videos = [
            Video(
                v.id,
                v.duration or 0.0,
                subset_name(v.subset),
                tuple(instances.get(v.id, ())),
                v.fps,
                v.frames,
                tuple(ambiguous.get(v.id, ())),
                v.duration_assumed,
            )
            for v in self.videos
        ]
        return Dataset.of(self.name, videos, self.labels)


def _by_video(records: list[InstanceRecord]) -> dict[str, list[Instance]]:
    instances: dict[str, list[Instance]] = {}
    for i in records:
        instances.setdefault(i.video, []).append(Instance(i.label, i.start, i.end))
    return instances


def _invalid_text(records: Records) -> list[Problem]:
    """Labels and ids that are not text: results with them could not be written."""
    labels, ids = dict.fromkeys(records.labels or (), ""), {v.id: v.where for v in reversed(records.videos)}
    for i in [*records.instances, *records.ambiguous]:
        labels[i.label] = labels.get(i.label) or i.where
    return [
        Problem("text", where, f"the {kind} {name!r} holds half of a surrogate pair, which is not valid text")
        for kind, names in (("class", labels), ("id", ids))
        for name, where in names.items()
        if not is_text(name, of_file=kind == "id")
    ]


def _invalid_videos(records: Records) -> list[Problem]:
    """Invalid videos: without a duration, or repeated."""
    problems: list[Problem] = []
    first: dict[str, str] = {}
    for v in records.videos:
        if v.id in first:
            problems.append(Problem("twice", v.where, f"video {v.id!r} occurs twice, first at {first[v.id]}"))
        elif v.duration is None:
            problems.append(Problem("duration", v.where, f"video {v.id!r} has no duration in seconds"))
        elif not v.duration > 0:
            problems.append(Problem("duration", v.where, f"video {v.id!r} has the duration {v.duration:g} s"))
        first.setdefault(v.id, v.where)
    return problems


def _invalid_instances(records: Records) -> list[Problem]:
    """Invalid instances: reversed, before 0, of an unknown class or of an unknown video."""
    problems = []
    videos = {v.id for v in records.videos}
    labels = None if records.labels is None else set(records.labels)
    for i in [*records.instances, *records.ambiguous]:
        if i.video not in videos:
            problems.append(Problem("video", i.where, f"the video {i.video!r} has no entry with its duration"))
        elif labels is not None and i.label not in labels:
            problems.append(
                Problem("label", i.where, f"the class {i.label!r} is not among the {len(labels)} that the file lists")
            )
        elif i.end < i.start:
            problems.append(Problem("reversed", i.where, f"the segment [{i.start:g}, {i.end:g}] ends before it starts"))
        elif i.start < 0:
            problems.append(Problem("negative", i.where, f"the segment [{i.start:g}, {i.end:g}] starts before 0 s"))
    return problems


def faults(records: Records) -> list[Problem]:
    """All faults for which :meth:`Records.dataset` raises, in that order."""
    return [*records.unreadable, *_invalid_text(records), *_invalid_videos(records), *_invalid_instances(records)]


def read_text(path: Path) -> str:
    """The text of an annotation file in UTF-8, with or without a byte-order mark. Line ends are kept.

    Raises UserError naming the file.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"cannot read the annotations {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}") from None


def number(value: Any) -> float | None:
    """A finite number from a number or its text; None for anything else, including booleans."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


__all__ = [
    "NO_SUBSET",
    "InstanceRecord",
    "Problem",
    "Records",
    "VideoRecord",
    "faults",
    "number",
    "read_text",
]
