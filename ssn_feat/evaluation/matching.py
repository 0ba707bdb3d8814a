"""Matching of detections with annotated instances (truths), by the two definitions of the field.

``activitynet``
    The definition of the ActivityNet toolkit. In the order of descending score, each detection of a class takes the
    free truth of its video with the largest tIoU, if that is at least the threshold (ties: the later truth). Two
    intervals of length 0 have no tIoU; such a pair is a hit at every threshold, as in the toolkit.
``thumos14``
    The definition of the THUMOS 2014 challenge. In the order of time, each truth of a class and video takes the free
    detection with the largest tIoU, if that is above the threshold (ties: the detection of higher score). False
    positives that overlap an ambiguous interval do not count.

The result does not depend on the order of the annotations: truths of a video are ordered by start and end, and equal
scores of a class by the id of the video, then by the row of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError
from ssn_feat.intervals import as_intervals

Definition = Literal["activitynet", "thumos14"]
Float = NDArray[np.float64]
Int = NDArray[np.int64]

# Largest number of pairs of a detection and a truth in memory.
_PAIRS_AT_ONCE = 1 << 16


class Truths(NamedTuple):
    """Annotated intervals, one per row."""

    videos: Int
    """Index of the video, int64 ``(M,)``."""
    classes: Int
    """Index of the class, int64 ``(M,)`` from 0."""
    intervals: Float
    """Start and end, seconds, float64 ``(M, 2)``."""


class Scored(NamedTuple):
    """Detections, one per row."""

    videos: Int
    """Index of the video, int64 ``(N,)``; detections in videos without truths are false positives."""
    classes: Int
    """Index of the class, int64 ``(N,)`` from 0."""
    intervals: Float
    """Start and end, seconds, float64 ``(N, 2)``."""
    scores: Float
    """Score, ``(N,)``, higher means more confident."""

    def rows(self, rows: Int) -> Scored:
        """The detections in the given rows, in that order."""
        return Scored(self.videos[rows], self.classes[rows], self.intervals[rows], self.scores[rows])


class Ranked(NamedTuple):
    """Detections sorted by class and descending score, with their matches; made by :func:`rank`."""

    definition: Definition
    """The definition of the matches."""
    detections: Scored
    """All detections, sorted."""
    order: Int
    """Original row of each detection, int64 ``(N,)``."""
    matched: Int
    """Row of the truth matched with each detection at each threshold, or -1: int64 ``(n_tiou, N)``."""
    left_out: NDArray[np.bool_]
    """Detections that overlap an ambiguous interval and so count only if they are hits, bool ``(N,)``."""
    starts: Int
    """Row of the first detection of each class, and N: int64 ``(K + 1,)``."""
    numbers: Int
    """Number of truths of each class, int64 ``(K,)``."""


def rank(
    detections: Scored,
    truths: Truths,
    classes: int,
    thresholds: ArrayLike,
    definition: Definition = "activitynet",
    ambiguous: Truths | None = None,
    tie_order: Int | None = None,
) -> Ranked:
    """Sort detections by class and score, and match them with truths.

    ``tie_order``: position of each video, int64 ``(V,)``, by which detections of equal score are ordered; without it,
    and within a video, by row.
    Classes are numbered below ``classes``; those of ``ambiguous`` are ignored. Raises UserError on inconsistent arrays,
    intervals that are reversed or not finite, scores that are not numbers, and thresholds outside [0, 1].
    """
    levels = _check_input(detections, truths, thresholds, definition)
    order = _by_class_and_score(detections, tie_order)
    best_first = detections.rows(order)
    left_out = np.zeros(len(order), dtype=bool)
    if ambiguous is not None and definition == "thumos14":
        left_out = _overlapping(best_first, ambiguous)
    return Ranked(
        definition,
        best_first,
        order,
        _match(best_first, truths, levels, definition),
        left_out,
        np.searchsorted(best_first.classes, np.arange(classes + 1)),
        np.bincount(truths.classes, minlength=classes)[:classes],
    )


def _check_input(detections: Scored, truths: Truths, thresholds: ArrayLike, definition: Definition) -> Float:
    """The thresholds as an array. Raises UserError as :func:`rank`."""
    if definition not in ("activitynet", "thumos14"):
        raise UserError(f"definition must be activitynet or thumos14, not {definition!r}")
    for what, rows in (("detections", detections), ("truths", truths)):
        as_intervals(rows.intervals, what)
        for name, column in (("videos", rows.videos), ("classes", rows.classes)):
            if column.shape != (len(rows.intervals),) or column.dtype.kind not in "iu":
                raise UserError(
                    f"{name} of {len(rows.intervals)} {what} must be that many whole numbers, "
                    f"not {column.dtype} of shape {column.shape}"
                )
        if rows.classes.min(initial=0) < 0:
            raise UserError(f"classes of {what} are counted from 0, but one is {rows.classes.min()}")
    if detections.scores.shape != detections.videos.shape or np.isnan(detections.scores).any():
        raise UserError("every detection needs a score that is a number")
    levels = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    if not len(levels) or not ((levels >= 0) & (levels <= 1)).all():
        raise UserError(f"tIoU thresholds must be in [0, 1], not {levels.tolist()}")
    return levels


def _by_class_and_score(detections: Scored, tie_order: Int | None) -> Int:
    """Rows sorted by class, descending score, ``tie_order`` of the video, and row."""
    if tie_order is None:
        order = np.argsort(-detections.scores, kind="stable")
    else:
        by_video = _sorted_rows(tie_order[detections.videos])
        order = by_video[np.argsort(-detections.scores[by_video], kind="stable")]
    return order[_sorted_rows(detections.classes[order])]


def _sorted_rows(keys: Int) -> Int:
    """Rows in the order of ``keys``, which are not negative; equal keys keep their order."""
    # Small integers are sorted much faster.
    return np.argsort(keys.astype(np.min_scalar_type(keys.max(initial=0))), kind="stable")


def _match(best_first: Scored, truths: Truths, levels: Float, definition: Definition) -> Int:
    """The matches of detections sorted by :func:`_by_class_and_score`; see :class:`Ranked`."""
    by_time = np.lexsort((truths.intervals[:, 1], truths.intervals[:, 0]))
    ordered = Truths(truths.videos[by_time], truths.classes[by_time], truths.intervals[by_time])
    detection, truth, overlap = _candidates(best_first, ordered, float(levels.min()), definition)
    result = np.full((len(levels), len(best_first.scores)), -1, dtype=np.int64)
    if definition == "activitynet":
        # Of truths with equal tIoU the toolkit takes the later one.
        order = np.lexsort((-truth, -overlap, detection))
        level, taken, turn = _take_in_turn(detection[order], truth[order], overlap[order], levels, inclusive=True)
        result[level, turn] = by_time[taken]
    else:
        order = np.lexsort((detection, -overlap, truth))
        level, taken, turn = _take_in_turn(truth[order], detection[order], overlap[order], levels, inclusive=False)
        result[level, taken] = by_time[turn]
    return result


def _take_in_turn(turn: Int, wanted: Int, overlap: Float, levels: Float, inclusive: bool) -> tuple[Int, Int, Int]:
    """Greedy assignment at all thresholds: each taker in turn takes the free item that it prefers.

    Each pair has a taker (``turn``: lower numbers choose earlier), an item (``wanted``) and their tIoU. Pairs are
    sorted by turn, then by preference. At a threshold only pairs with at least that tIoU (``inclusive``) or with a
    larger tIoU count. Returns (index of the threshold, item, turn) of every assignment.

    All takers request their first choice at the same time; each item goes to the earliest turn, and the takers that
    were refused or displaced request their next choice, until none is left. The result is that of the sequential
    algorithm, since all items prefer earlier turns, and needs only a few rounds.
    """
    takers, first, number = np.unique(turn, return_index=True, return_inverse=True)
    items, item = np.unique(wanted, return_inverse=True)
    enough = [overlap >= level if inclusive else overlap > level for level in levels]
    # Number of acceptable items of each taker at each threshold; they come first in its pairs.
    choices = np.array([np.bincount(number[mask], minlength=len(takers)) for mask in enough], dtype=np.int64)
    holder = np.full((len(levels), len(items)), len(takers))
    choice = np.zeros_like(choices)
    level, taker = np.nonzero(choices > 0)
    while len(level):
        target = item[first[taker] + choice[level, taker]]
        before = holder[level, target]
        np.minimum.at(holder, (level, target), taker)
        after = holder[level, target]
        lost = after != taker
        # Several takers may have displaced the same holder, which then moves on once.
        displaced = np.flatnonzero((before != after) & (before < len(takers)) & ~lost)
        level = np.concatenate([level[lost], level[displaced]])
        taker = np.concatenate([taker[lost], before[displaced]])
        choice[level, taker] += 1
        left = choice[level, taker] < choices[level, taker]
        level, taker = level[left], taker[left]
    level, target = np.nonzero(holder < len(takers))
    return level, items[target], takers[holder[level, target]]


def _candidates(detections: Scored, truths: Truths, floor: float, definition: Definition) -> tuple[Int, Int, Float]:
    """Rows of detection and truth, and tIoU, of all pairs in one video and class with a tIoU of at least ``floor``."""
    classes = 1 + max(int(rows.classes.max(initial=0)) for rows in (detections, truths))
    keys = [rows.videos * classes + rows.classes for rows in (detections, truths)]
    starts, ends = (np.ascontiguousarray(detections.intervals[:, side]) for side in (0, 1))
    parts = []
    for detection, truth in pairs(*keys):
        a0, a1, b0, b1 = starts[detection], ends[detection], *truths.intervals[truth].T
        shared = np.minimum(a1, b1) - np.maximum(a0, b0)
        # In the order of operations of each reference, since rounding decides if a tIoU equals a threshold.
        if definition == "activitynet":
            shared, both_empty = np.maximum(shared, 0), np.inf
            union = (a1 - a0) + (b1 - b0) - shared
        else:
            both_empty = 0.0
            union = np.maximum(a1, b1) - np.minimum(a0, b0)
        overlap = np.divide(shared, union, out=np.full(len(shared), both_empty), where=union > 0)
        keep = np.flatnonzero(overlap >= floor)
        parts.append((detection[keep], truth[keep], overlap[keep]))
    detection, truth, overlap = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return detection, truth, overlap


def _overlapping(detections: Scored, marks: Truths) -> NDArray[np.bool_]:
    """Whether each detection overlaps an interval of ``marks`` in its video, bool ``(N,)``."""
    result = np.zeros(len(detections.videos), dtype=bool)
    for row, mark in pairs(detections.videos, marks.videos):
        a, b = detections.intervals[row], marks.intervals[mark]
        result[row[np.minimum(a[:, 1], b[:, 1]) > np.maximum(a[:, 0], b[:, 0])]] = True
    return result


def pairs(left: Int, right: Int) -> Iterator[tuple[Int, Int]]:
    """All pairs of rows with equal keys, in parts of limited size, ``left`` ascending; yields at least one part."""
    order = np.argsort(right, kind="stable")
    ordered = right[order]
    first = np.searchsorted(ordered, left, side="left")
    counts = np.searchsorted(ordered, left, side="right") - first
    rows = np.flatnonzero(counts)
    ends = np.cumsum(counts[rows])
    begin = 0
    while True:
        limit = (ends[begin - 1] if begin else 0) + _PAIRS_AT_ONCE
        end = max(begin + 1, int(np.searchsorted(ends, limit, side="right")))
        part = rows[begin:end]
        repeated = np.repeat(part, counts[part])
        offset = np.arange(len(repeated)) - np.repeat(np.cumsum(counts[part]) - counts[part], counts[part])
        yield repeated, order[first[repeated] + offset]
        begin = end
        if begin >= len(rows):
            return


__all__ = ["Definition", "Ranked", "Scored", "Truths", "pairs", "rank"]
