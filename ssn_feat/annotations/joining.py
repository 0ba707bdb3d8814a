"""Checks that two sources give the same times for the same videos, wherever annotations, proposals, results and stores
are joined.

A duration differs if the difference is larger than both :data:`SECONDS` and :data:`SHARE` of the longer duration, and
an interval is outside its video if it starts at or after the end, or ends after it by more than this tolerance.

The tolerance and the shares of videos that may differ come from published data. Durations of ActivityNet as annotated
and as measured differ in 0.4 % of the videos, which were cut when they were downloaded again; 99 % of the others differ
by less than 0.6 s. All durations of THUMOS14 agree within 0.15 s, but 1 % of its videos have instances after their end.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.annotations.duration_reasons import reason_for_durations, reason_for_intervals
from ssn_feat.errors import UserError
from ssn_feat.terminal import printable_lines

# Both must be exceeded.
SECONDS, SHARE = 0.5, 0.02
# Shares of the videos that may have another duration, or intervals outside.
_FEW_DURATIONS, _FEW_OUTSIDE = 0.01, 0.1
# Number of videos that a message names.
_NAMED = 5

Float = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class JoinOptions:
    """The option of every command that joins annotations, proposals, results or a store."""

    allow_duration_mismatch: bool = False
    """Continue with a warning if annotations, proposals, detections and features give different durations for the same
    videos."""


@dataclass(frozen=True)
class VideoTimes:
    """The times that one source gives for videos, by id."""

    what: str
    """The source in messages, as in ``the store features.zarr``."""
    durations: Mapping[str, float] = field(default_factory=dict)
    """Seconds, for the videos of which the source states the duration."""
    intervals: Mapping[str, Float] = field(default_factory=dict)
    """Start and end of its intervals, ``(N, 2)``, seconds."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Frames per second, where they are known."""

    def renamed(self, names: Mapping[str, str]) -> VideoTimes:
        """The same times with the id ``names[id]`` for each video of ``names``; others are left out."""
        parts = [
            {name: values[id] for id, name in names.items() if id in values}
            for values in (self.durations, self.intervals, self.rates)
        ]
        return VideoTimes(self.what, *parts)  # type: ignore[arg-type]


def times_of_dataset(dataset: Dataset, source: str | None = None) -> VideoTimes:
    """The times in annotations; ``source`` names them where ``dataset`` was changed in memory."""
    videos = dataset.videos.values()
    return VideoTimes(
        f"the annotations {source or dataset.source or dataset.name}",
        {video.id: video.duration for video in videos if not video.duration_assumed},
        {video.id: video.intervals() for video in videos},
        {video.id: video.fps for video in videos if video.fps},
    )


def check_times(given: VideoTimes, reference: VideoTimes, options: JoinOptions, quiet: bool = False) -> None:
    """Compare the times of ``given`` with the durations of ``reference``, for the videos that both have.

    Prints a note about single videos that differ unless ``quiet``. Raises UserError, with the worst videos and a reason
    that fits them, where more than 1 % of the videos have another duration, or more than 10 % (and more than one, or
    all) have intervals outside; with ``options.allow_duration_mismatch``, that is a warning.
    """
    for problem, serious in _problems(given, reference):
        if serious and not options.allow_duration_mismatch:
            raise UserError(f"{problem}; --allow-duration-mismatch continues nevertheless")
        if not quiet:
            print(printable_lines(f"{'warning' if serious else 'note'}: {problem}"), file=sys.stderr)
        if serious:
            return  # intervals of other videos say the same again


def check_own_times(dataset: Dataset, options: JoinOptions, quiet: bool = False, source: str | None = None) -> None:
    """Compare the instances in annotations with the durations there, as :func:`check_times` does."""
    annotated = times_of_dataset(dataset, source)
    check_times(annotated, replace(annotated, what="the same file"), options, quiet)


def _problems(given: VideoTimes, reference: VideoTimes) -> list[tuple[str, bool]]:
    """Descriptions of what differs, and whether each concerns so many videos that the sources do not fit together."""
    rates = {**given.rates, **reference.rates}
    problems = []
    for find in (_other_durations, _intervals_outside):
        if (problem := find(given, reference, rates)) is not None:
            problems.append(problem)
    return problems


def differ(one: ArrayLike, other: ArrayLike) -> NDArray[np.bool_]:
    """Whether durations differ by more than the tolerance."""
    return np.asarray(np.abs(np.subtract(one, other)) > np.maximum(SECONDS, SHARE * np.maximum(one, other)))


def _other_durations(given: VideoTimes, reference: VideoTimes, rates: Mapping[str, float]) -> tuple[str, bool] | None:
    ids = [video for video in given.durations if video in reference.durations]
    ours, theirs = (np.array([each.durations[video] for video in ids]) for each in (given, reference))
    wrong = np.flatnonzero(differ(ours, theirs))
    if not len(wrong):
        return None
    worst = wrong[np.argsort(-_ratio(ours[wrong], theirs[wrong]), kind="stable")][:_NAMED]
    named = ", ".join(f"{ids[i]!r} {_seconds(ours[i])} and {_seconds(theirs[i])}" for i in worst)
    known = np.array([rates.get(video, np.nan) for video in ids])
    reason = ""
    for some in (slice(None), wrong):  # a factor may change short videos by less than the tolerance
        reason = reason or reason_for_durations(ours[some], theirs[some], known[some], given.what, reference.what)
    text = (
        f"durations in {given.what} and in {reference.what} differ for {len(wrong):,} of {len(ids):,} videos: "
        f"{named}{', ...' * (len(worst) < len(wrong))}{reason and f'; {reason}'}"
    )
    return text, len(wrong) > _FEW_DURATIONS * len(ids)


def _ratio(one: Float, other: Float) -> Float:
    """How many times the longer duration is as long as the shorter one."""
    return np.asarray(np.maximum(one, other) / np.maximum(np.minimum(one, other), 1e-9))


def _intervals_outside(given: VideoTimes, reference: VideoTimes, rates: Mapping[str, float]) -> tuple[str, bool] | None:
    ids = [video for video, rows in given.intervals.items() if len(rows) and video in reference.durations]
    outside = {video: rows for video in ids if len(rows := _outside(given, reference, video))}
    if not outside:
        return None
    total, count = sum(len(given.intervals[video]) for video in ids), sum(map(len, outside.values()))
    duration = reference.durations
    beyond = [video for video, rows in outside.items() if differ(rows[:, 1].max(), duration[video])]
    few = len(beyond) < len(ids) and (len(beyond) < 2 or len(beyond) <= _FEW_OUTSIDE * len(ids))
    worst = sorted(outside, key=lambda video: -float(outside[video][:, 1].max() / max(duration[video], 1e-9)))[:_NAMED]
    named = ", ".join(f"{v!r} {_longest(outside[v])} of {_seconds(duration[v])}" for v in worst)
    reason = ""
    if not few:
        known = np.array([rates.get(video, np.nan) for video in ids])
        reason = reason_for_intervals([given.intervals[v] for v in ids], np.array([duration[v] for v in ids]), known)
    text = (
        f"{count:,} of {total:,} intervals in {given.what} are outside their video in {reference.what}, in "
        f"{len(outside):,} of {len(ids):,} videos: {named}{', ...' * (len(worst) < count)}{reason and f'; {reason}'}"
    )
    return text, not few


def _outside(given: VideoTimes, reference: VideoTimes, video: str) -> Float:
    rows, duration = given.intervals[video], reference.durations[video]
    after = (rows[:, 1] > duration) & differ(rows[:, 1], duration)
    return rows[after | (rows[:, 0] >= duration)]


def _longest(rows: Float) -> str:
    """The interval that ends last."""
    start, end = rows[rows[:, 1].argmax()]
    return f"[{start:.1f}, {end:.1f}]"


def _seconds(value: float) -> str:
    return f"{value:.1f} s"


__all__ = ["SECONDS", "SHARE", "JoinOptions", "VideoTimes", "check_own_times", "check_times", "times_of_dataset"]
