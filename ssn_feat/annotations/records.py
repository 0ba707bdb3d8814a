"""What every reader makes first: one record per video and per instance, each with its place in the file.

A reader turns a file into :class:`Records`; :meth:`Records.dataset` turns those into a :class:`Dataset` or says what is
wrong with the first bad one. The two steps are apart so that ``validate`` can list every fault of a file, by its line
or key, with the same parsing that ``load`` uses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssn_feat.annotations.dataset import Dataset, Instance, Video, subset_name
from ssn_feat.errors import UserError

# The subset of a video whose file names none.
NO_SUBSET = "unnamed"


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """What a file says of one video; ``where`` is its line or key, ``duration`` seconds (None where it is missing)."""

    where: str
    id: str
    duration: float | None
    subset: str = NO_SUBSET
    fps: float | None = None
    frames: int | None = None


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """What a file says of one instance of the video ``video``; times in seconds."""

    where: str
    video: str
    label: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of an annotation file: its kind (a short name), its line or key, and what is wrong there."""

    kind: str
    where: str
    what: str

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return " ".join(text.splitlines())  # an id or key with a line break in it must not break the message


@dataclass
class Records:
    """All that a reader found in ``source``, in the order of the file, and what it could not read."""

    source: Path
    name: str
    videos: list[VideoRecord] = field(default_factory=list)
    instances: list[InstanceRecord] = field(default_factory=list)
    labels: tuple[str, ...] | None = None
    unreadable: list[Problem] = field(default_factory=list)

    def complain(self, where: str, what: str) -> None:
        """Note that the entry at ``where`` cannot be read."""
        self.unreadable.append(Problem("unreadable", where, what))

    def dataset(self) -> Dataset:
        """The data set. Raises UserError with file and place at the first entry that is unreadable or makes no sense.

        Kept, since published annotations have them: instances of no length, ends past the duration, duplicates.
        """
        problems = faults(self)
        if problems:
            more = f" (and {len(problems) - 1} more faults; list them with python -m ssn_feat.annotations validate)"
            raise UserError(f"{self.source}: {problems[0]}{more if len(problems) > 1 else ''}")
        instances: dict[str, list[Instance]] = {v.id: [] for v in self.videos}
        for i in self.instances:
            instances[i.video].append(Instance(i.label, i.start, i.end))
        return Dataset.of(
            self.name,
            [
                Video(v.id, v.duration or 0.0, subset_name(v.subset), tuple(instances[v.id]), v.fps, v.frames)
                for v in self.videos
            ],
            self.labels,
        )


def _videos_at_fault(records: Records) -> list[Problem]:
    """Videos that no data set can hold: without a duration, or listed twice."""
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


def _instances_at_fault(records: Records) -> list[Problem]:
    """Instances that no data set can hold: reversed, before 0, of an unknown class or of an unknown video."""
    problems = []
    videos = {v.id for v in records.videos}
    labels = None if records.labels is None else set(records.labels)
    for i in records.instances:
        if i.video not in videos:
            problems.append(Problem("video", i.where, f"nothing is said of video {i.video!r} itself (its duration)"))
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
    """Everything for which :meth:`Records.dataset` would refuse the records, in that order."""
    return [*records.unreadable, *_videos_at_fault(records), *_instances_at_fault(records)]


def read_text(path: Path) -> str:
    """The text of an annotation file, UTF-8 with or without a byte-order mark, line ends as they are.

    Raises UserError naming the file.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"cannot read the annotations {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}") from None


def write_text(path: Path, text: str) -> None:
    """Write an annotation file as UTF-8, line ends as they are, its folder too. Raises UserError naming the file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"cannot write the annotations {path}: {error.strerror}") from None
    except UnicodeEncodeError as error:
        raise UserError(
            f"cannot write the annotations {path}: {error.object[error.start : error.end]!r} is no text"
        ) from None


def number(value: Any) -> float | None:
    """A finite number from a number or from the text of one; None for anything else (booleans included)."""
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
    "write_text",
]
