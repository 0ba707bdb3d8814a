"""Which detection is counted for which truth, in the two definitions of the field.

``activitynet``
    The ActivityNet toolkit's. Going down the scores of a class, a detection takes the free truth of its video with
    which it has the largest tIoU, if that is at least the threshold. Two intervals of length zero have no tIoU; the
    toolkit counts such a pair as a hit at every threshold, and so does this.
``thumos14``
    That of the THUMOS 2014 challenge. Going through the truths of a class and video in the order given, a truth takes
    the free detection with which it has the largest tIoU, if that is above the threshold. False positives that touch
    an interval marked as ambiguous are left out.
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

# Pairs of a detection and a truth that are held in memory at once.
_PAIRS_AT_ONCE = 1 << 16


class Truths(NamedTuple):
    """Intervals that are known; a row each."""

    videos: Int
    """Index of the video, int64 ``(M,)``."""
    classes: Int
    """Index of the class, int64 ``(M,)`` from 0."""
    intervals: Float
    """Start and end, seconds, float64 ``(M, 2)``."""


class Scored(NamedTuple):
    """Detections; a row each."""

    videos: Int
    """Index of the video, int64 ``(N,)``; one without truths makes its detections false positives."""
    classes: Int
    """Index of the class, int64 ``(N,)`` from 0."""
    intervals: Float
    """Start and end, seconds, float64 ``(N, 2)``."""
    scores: Float
    """Score, ``(N,)``, higher is surer. Where two of a class are equal the earlier row ranks higher."""

    def rows(self, rows: Int) -> Scored:
        """The detections of the given rows, in their order."""
        return Scored(self.videos[rows], self.classes[rows], self.intervals[rows], self.scores[rows])


class Ranked(NamedTuple):
    """Detections by class, inside a class best first, and what they are counted for; made by :func:`rank`."""

    definition: Definition
    """Whose."""
    detections: Scored
    """All detections, sorted."""
    order: Int
    """Where each was before, int64 ``(N,)``."""
    matched: Int
    """Row of the truth that each is counted for at each threshold, or -1: int64 ``(n_tiou, N)``."""
    left_out: NDArray[np.bool_]
    """Detections that do not count where they are no hit (they touch an ambiguous interval), ``(N,)``."""
    starts: Int
    """Row of the first detection of each class, and N: int64 ``(K + 1,)``."""
    numbers: Int
    """Truths of each class, int64 ``(K,)``."""


def rank(
    detections: Scored,
    truths: Truths,
    classes: int,
    thresholds: ArrayLike,
    definition: Definition = "activitynet",
    ambiguous: Truths | None = None,
) -> Ranked:
    """Sort and match detections once for everything that goes down their scores.

    Classes are numbered below ``classes``; those of ``ambiguous`` are ignored. Raises UserError on inconsistent arrays,
    intervals that are reversed or not finite, scores that are not numbers, and thresholds outside [0, 1].
    """
    levels = _check_input(detections, truths, thresholds, definition)
    order = _by_class_and_score(detections)
    best_first = detections.rows(order)
    left_out = np.zeros(len(order), dtype=bool)
    if ambiguous is not None and definition == "thumos14":
        left_out = _touching(best_first, ambiguous)
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
                    f"{name} of {len(rows.intervals)} {what} must be as many whole numbers, "
                    f"got {column.dtype} of shape {column.shape}"
                )
        if rows.classes.min(initial=0) < 0:
            raise UserError(f"classes of {what} are counted from 0, got {rows.classes.min()}")
    if detections.scores.shape != detections.videos.shape or np.isnan(detections.scores).any():
        raise UserError("every detection needs a score that is a number")
    levels = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    if not len(levels) or not ((levels >= 0) & (levels <= 1)).all():
        raise UserError(f"tIoU thresholds must lie in [0, 1], got {levels.tolist()}")
    return levels


def _by_class_and_score(detections: Scored) -> Int:
    """Rows by class, inside a class by descending score, equal scores in the order given."""
    order = np.argsort(-detections.scores, kind="stable")
    # Small integers are sorted much faster.
    small = detections.classes.astype(np.min_scalar_type(detections.classes.max(initial=0)))
    return order[np.argsort(small[order], kind="stable")]


def _match(best_first: Scored, truths: Truths, levels: Float, definition: Definition) -> Int:
    """The matches of detections sorted by :func:`_by_class_and_score`; see :class:`Ranked`."""
    detection, truth, overlap = _candidates(best_first, truths, float(levels.min()), definition)
    result = np.full((len(levels), len(best_first.scores)), -1, dtype=np.int64)
    if definition == "activitynet":
        # Of truths with the same tIoU the toolkit takes the later one.
        order = np.lexsort((-truth, -overlap, detection))
        level, taken, turn = _take_in_turn(detection[order], truth[order], overlap[order], levels, inclusive=True)
        result[level, turn] = taken
    else:
        order = np.lexsort((detection, -overlap, truth))
        level, taken, turn = _take_in_turn(truth[order], detection[order], overlap[order], levels, inclusive=False)
        result[level, taken] = turn
    return result


def _take_in_turn(turn: Int, wanted: Int, overlap: Float, levels: Float, inclusive: bool) -> tuple[Int, Int, Int]:
    """Everyone, in turn, takes the free thing wanted most; at all thresholds at once.

    A pair is one who takes (``turn``: who comes first has the lower number) and a thing that is ``wanted``, with
    their tIoU; pairs are sorted by turn and by how much the thing is wanted. At a threshold only pairs with a tIoU of
    at least it (``inclusive``) or above it count. Returns (index of the threshold, thing, turn) of all that was taken.

    Instead of one after the other, all reach for their first wish together and the earlier turn gets it, the others
    and whoever had it before go on to their next wish, until nobody reaches: the outcome is the same, since all
    things prefer who comes earlier, and it takes few rounds.
    """
    takers, first, number = np.unique(turn, return_index=True, return_inverse=True)
    things, thing = np.unique(wanted, return_inverse=True)
    enough = [overlap >= level if inclusive else overlap > level for level in levels]
    # How many wishes each has at each threshold: those of enough tIoU come first.
    wishes = np.array([np.bincount(number[mask], minlength=len(takers)) for mask in enough], dtype=np.int64)
    holder = np.full((len(levels), len(things)), len(takers))
    wish = np.zeros_like(wishes)
    level, taker = np.nonzero(wishes > 0)
    while len(level):
        target = thing[first[taker] + wish[level, taker]]
        before = holder[level, target]
        np.minimum.at(holder, (level, target), taker)
        after = holder[level, target]
        lost = after != taker
        # Several may have reached for a thing that its holder lost: the holder goes on once.
        ousted = np.flatnonzero((before != after) & (before < len(takers)) & ~lost)
        level = np.concatenate([level[lost], level[ousted]])
        taker = np.concatenate([taker[lost], before[ousted]])
        wish[level, taker] += 1
        on = wish[level, taker] < wishes[level, taker]
        level, taker = level[on], taker[on]
    level, target = np.nonzero(holder < len(takers))
    return level, things[target], takers[holder[level, target]]


def _candidates(detections: Scored, truths: Truths, floor: float, definition: Definition) -> tuple[Int, Int, Float]:
    """Rows of detections and truths of one video and class with a tIoU of at least ``floor``, and that tIoU."""
    classes = 1 + max(int(rows.classes.max(initial=0)) for rows in (detections, truths))
    keys = [rows.videos * classes + rows.classes for rows in (detections, truths)]
    starts, ends = (np.ascontiguousarray(detections.intervals[:, side]) for side in (0, 1))
    found = []
    for detection, truth in pairs(*keys):
        a0, a1, b0, b1 = starts[detection], ends[detection], *truths.intervals[truth].T
        shared = np.minimum(a1, b1) - np.maximum(a0, b0)
        # Each in the order of operations of its reference: pairs whose tIoU is a threshold up to rounding do occur.
        if definition == "activitynet":
            shared, both_empty = np.maximum(shared, 0), np.inf
            union = (a1 - a0) + (b1 - b0) - shared
        else:
            both_empty = 0.0
            union = np.maximum(a1, b1) - np.minimum(a0, b0)
        overlap = np.divide(shared, union, out=np.full(len(shared), both_empty), where=union > 0)
        keep = np.flatnonzero(overlap >= floor)
        found.append((detection[keep], truth[keep], overlap[keep]))
    detection, truth, overlap = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return detection, truth, overlap


def _touching(detections: Scored, marks: Truths) -> NDArray[np.bool_]:
    """Whether each detection shares time with an interval of ``marks`` in its video, bool ``(N,)``."""
    result = np.zeros(len(detections.videos), dtype=bool)
    for row, mark in pairs(detections.videos, marks.videos):
        a, b = detections.intervals[row], marks.intervals[mark]
        result[row[np.minimum(a[:, 1], b[:, 1]) > np.maximum(a[:, 0], b[:, 0])]] = True
    return result


def pairs(left: Int, right: Int) -> Iterator[tuple[Int, Int]]:
    """All pairs of rows with equal keys, int64 each, ``left`` ascending; at least once, limited in number at a time."""
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
        place = np.arange(len(repeated)) - np.repeat(np.cumsum(counts[part]) - counts[part], counts[part])
        yield repeated, order[first[repeated] + place]
        begin = end
        if begin >= len(rows):
            return


__all__ = ["Definition", "Ranked", "Scored", "Truths", "pairs", "rank"]
