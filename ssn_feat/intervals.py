"""Arithmetic of time intervals: overlap and non-maximum suppression.

An interval is a row ``(start, end)`` with ``start <= end``, in any unit (usually seconds). Everything is computed in
float64 with the same order of operations as published evaluators, because a tIoU that equals a threshold up to rounding
does occur and decides which detections are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

# Candidate pairs held in memory at once, each in about ten arrays of 8 bytes.
_PAIRS_AT_ONCE = 1 << 18
# Intervals of each group that are processed at once. With many more, near duplicates (long groups of TAG)
# would all be compared with each other.
_BLOCK = 512


def as_intervals(values: ArrayLike, what: str = "intervals") -> Floats:
    """``values`` as float64 ``(N, 2)``; an empty list becomes ``(0, 2)``.

    Raises UserError, naming ``what`` and the first bad row, if the shape differs, a number is not finite or an end
    lies before its start.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return array.reshape(0, 2)
    if array.ndim != 2 or array.shape[1] != 2:
        raise UserError(f"{what} must be rows of (start, end), not an array of shape {array.shape}")
    # A finite sum has finite terms; rows are checked one by one only if something is wrong.
    if not (np.isfinite(array.sum()) and (array[:, 0] <= array[:, 1]).all()):
        good = np.isfinite(array).all(axis=1) & (array[:, 0] <= array[:, 1])
        if good.all():
            return array
        row = int(np.argmin(good))
        raise UserError(f"{what}: row {row} is ({array[row, 0]:g}, {array[row, 1]:g}), not finite with start <= end")
    return array


def _intersection(a: Floats, b: Floats) -> Floats:
    """Length of the intersection of every interval of ``a`` with every one of ``b``, ``(N, M)``."""
    start, end = b.T.copy()
    shared: Floats = np.minimum(a[:, 1:], end)
    shared -= np.maximum(a[:, :1], start)
    np.maximum(shared, 0.0, out=shared)
    return shared


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """The quotient, written into the numerator; 0 where the denominator is 0."""
    if denominator.size and denominator.min() > 0:  # the usual case, much faster than a masked division
        return np.divide(numerator, denominator, out=numerator)
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def tiou(a: ArrayLike, b: ArrayLike) -> Floats:
    """Temporal intersection over union of every interval of ``a`` with every one of ``b``.

    ``(N, 2)`` and ``(M, 2)`` give float64 ``(N, M)`` in [0, 1], computed as ``inter / (d_a + d_b - inter)`` like the
    ActivityNet toolkit. Two empty intervals at the same point have tIoU 0.
    """
    rows, columns = as_intervals(a), as_intervals(b)
    inter = _intersection(rows, columns)
    union = (rows[:, 1] - rows[:, 0])[:, None] + (columns[:, 1] - columns[:, 0])
    union -= inter
    return _ratio(inter, union)


def overlap_over(a: ArrayLike, b: ArrayLike) -> Floats:
    """The share of every interval of ``a`` that lies in each interval of ``b``: intersection / length of ``a``.

    ``(N, 2)`` and ``(M, 2)`` give float64 ``(N, M)`` in [0, 1], with 0 for an empty interval of ``a``.
    """
    rows, columns = as_intervals(a), as_intervals(b)
    inter = _intersection(rows, columns)
    return _ratio(inter, np.broadcast_to((rows[:, 1] - rows[:, 0])[:, None], inter.shape))


def overlapping(
    a: ArrayLike, b: ArrayLike, groups: tuple[ArrayLike, ArrayLike] | None = None
) -> tuple[Indices, Indices, Floats]:
    """The overlapping pairs of ``a`` ``(N, 2)`` and ``b`` ``(M, 2)``, and their tIoU.

    ``groups``: an integer for each interval of ``a`` and of ``b``, for example its video; only intervals of the same
    group are paired. Returns row numbers of ``a`` (ascending), row numbers of ``b``, and tIoU, each ``(P,)``. Contains
    every pair with a tIoU above 0, and possibly pairs with tIoU 0. Fast if the intervals of ``b`` hardly overlap each
    other, like annotated instances. The tIoU equals that of :func:`tiou` exactly.

    Raises UserError for malformed intervals or a wrong number of groups.
    """
    rows, columns = as_intervals(a), as_intervals(b)
    if not (rows.size and columns.size):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    keys_a, keys_b = (rows, columns) if groups is None else _keys_by_group(rows, columns, groups)
    order = np.argsort(keys_b[:, 0], kind="stable")
    first = np.searchsorted(np.maximum.accumulate(keys_b[order, 1]), keys_a[:, 0], side="right")
    count = np.maximum(np.searchsorted(keys_b[order, 0], keys_a[:, 1], side="left") - first, 0)
    i = np.repeat(np.arange(len(rows)), count)
    j = order[np.arange(len(i)) - np.repeat(np.cumsum(count) - count - first, count)]
    (start_i, end_i), (start_j, end_j) = rows[i].T, columns[j].T
    inter = np.maximum(np.minimum(end_i, end_j) - np.maximum(start_i, start_j), 0.0)
    return i, j, _ratio(inter, (end_i - start_i) + (end_j - start_j) - inter)


def _keys_by_group(a: Floats, b: Floats, groups: tuple[ArrayLike, ArrayLike]) -> tuple[Floats, Floats]:
    """Both lists, shifted so that groups do not overlap in time; ``b`` is slightly widened because of rounding."""
    of_a, of_b = (np.asarray(group) for group in groups)
    if of_a.shape != (len(a),) or of_b.shape != (len(b),):
        raise UserError(f"{len(a)} and {len(b)} intervals need as many groups, not {of_a.shape} and {of_b.shape}")
    origin, end = min(a[:, 0].min(), b[:, 0].min()), max(a[:, 1].max(), b[:, 1].max())
    step = 2.0 * (end - origin) + 1.0
    margin = 1e-12 * step * (1.0 + float(max(of_a.max(), of_b.max())))
    return (a - origin) + (step * of_a)[:, None], (b - origin) + (step * of_b)[:, None] + np.array([-margin, margin])


def nms(intervals: ArrayLike, scores: ArrayLike, threshold: float) -> Indices:
    """Greedy non-maximum suppression: int64 ``(K,)`` indices of the kept intervals by descending score.

    ``intervals`` is ``(N, 2)``, ``scores`` ``(N,)``. In the order of descending scores (for equal scores, the lower
    index first), an interval is dropped if its tIoU with a kept one is greater than ``threshold``. Computed in float64
    as ``inter / (d_i + d_j - inter)`` with ``inter = min(ends) - max(starts)``, as in the original SSN evaluation.

    Raises UserError for malformed intervals, scores that are not numbers, or a threshold outside [0, 1].
    """
    return nms_grouped(intervals, scores, np.zeros(np.shape(scores), dtype=np.int64), threshold)


def nms_grouped(intervals: ArrayLike, scores: ArrayLike, groups: ArrayLike, threshold: float) -> Indices:
    """:func:`nms` within each group, for example each video and class.

    ``groups``: integers ``(N,)``. The kept indices, int64 ``(K,)``, are sorted by ascending group, then by descending
    score. The cost is nearly linear in N if few pairs exceed the threshold or few intervals are kept.
    """
    boxes = as_intervals(intervals)
    ranking = np.asarray(scores, dtype=np.float64)
    members = np.asarray(groups)
    if ranking.shape != (len(boxes),) or members.shape != (len(boxes),):
        raise UserError(
            f"{len(boxes)} intervals need as many scores and as many groups, not {ranking.shape} and {members.shape}"
        )
    if np.isnan(ranking).any():
        raise UserError(f"score {int(np.isnan(ranking).argmax())} is not a number, so the intervals cannot be ranked")
    if not 0.0 <= threshold <= 1.0:
        raise UserError(f"the suppression threshold must be a tIoU in [0, 1], not {threshold}")
    if not len(boxes):
        return np.zeros(0, dtype=np.int64)
    order = np.lexsort((-ranking, members))
    boxes, members = boxes[order], members[order]
    group = np.concatenate([[0], np.cumsum(members[1:] != members[:-1])])
    return order[_suppress(boxes, group, threshold)]


def _suppress(boxes: Floats, group: Indices, threshold: float) -> Indices:
    """Ascending positions of the kept ones among intervals that are sorted by group and rank.

    Works in rounds on the next best intervals of each group: drop those that a kept interval suppresses, then suppress
    the others among themselves. Kept intervals hardly overlap, so few of them are near any interval, and the cost of a
    round does not grow with their number.
    """
    first = np.flatnonzero(np.diff(group, prepend=-1))
    turn = (np.arange(len(boxes)) - np.repeat(first, np.diff(first, append=len(boxes)))) // _BLOCK
    by_turn = np.argsort(turn, kind="stable")
    space = _Space.of(boxes, group, threshold)
    kept = np.zeros(0, dtype=np.int64)  # in the order of keys
    for head in np.split(by_turn, np.cumsum(np.bincount(turn))[:-1]):
        head = head[~space.suppressed(head, kept)]
        kept_now = space.by_key(head[_keep_greedily(space, head)])
        kept = np.insert(kept, np.searchsorted(space.keys[kept], space.keys[kept_now]), kept_now)
    return np.sort(kept)


def _keep_greedily(space: _Space, chosen: Indices) -> NDArray[np.bool_]:
    """Which of the ``chosen`` positions, best first in each group, greedy suppression keeps: bool ``(n,)``."""
    i, j = (np.concatenate(side) for side in zip(*space.pairs(chosen), strict=True))
    high, low = np.minimum(i, j), np.maximum(i, j)
    dropped = np.zeros(len(space.boxes), dtype=bool)
    threatened = np.zeros(len(space.boxes), dtype=bool)
    # An interval is certain to be kept once no undecided better one can suppress it. This takes as many rounds as the
    # longest chain of such dependencies, each linear in the number of undecided pairs.
    while high.size:
        threatened[low] = True
        certain = ~threatened[high]
        threatened[low] = False
        dropped[low[certain]] = True
        undecided = ~(dropped[low] | dropped[high])
        high, low = high[undecided], low[undecided]
    return ~dropped[chosen]


@dataclass(frozen=True)
class _Space:
    """Intervals with keys that are close for intervals that can overlap more than the threshold.

    tIoU > t requires that the shorter length is at least t times the longer one, and that the later start lies within
    (1 - t) of the earlier interval's length. Intervals are therefore divided into classes of length, each a factor 1/t
    wide. ``keys`` are their starts, shifted by group and class so that different groups and classes are far apart.
    """

    boxes: Floats
    keys: Floats
    step: float
    span: float
    threshold: float

    @classmethod
    def of(cls, boxes: Floats, group: Indices, threshold: float) -> _Space:
        length, origin = boxes[:, 1] - boxes[:, 0], boxes[:, 0].min()
        width = -math.log(threshold) if 0.0 < threshold < 1.0 else math.inf
        # Slightly wider, so that rounding cannot move a pair two classes apart. Empty intervals overlap nothing.
        logarithm = np.log(length, out=np.zeros_like(length), where=length > 0)
        sort = np.floor((logarithm - logarithm.min()) / (width * (1 + 1e-9)))
        span = float(boxes[:, 1].max() - origin)
        step = 2.0 * span + 1.0
        return cls(boxes, (boxes[:, 0] - origin) + step * (group * (sort.max() + 2) + sort), step, span, threshold)

    def by_key(self, chosen: Indices) -> Indices:
        """The same positions sorted by key."""
        return chosen[np.argsort(self.keys[chosen], kind="stable")]

    def pairs(self, chosen: Indices) -> Iterator[tuple[Indices, Indices]]:
        """Pairs among the ``chosen`` with tIoU above the threshold, in parts of bounded size.

        The second interval of a pair does not start before the first. A pair with equal starts may occur twice; no
        interval is paired with itself.
        """
        length = self.boxes[chosen, 1] - self.boxes[chosen, 0]
        for i, j in self._near(chosen, self.by_key(chosen), np.zeros(len(chosen)), length):
            above = (self._tiou(i, j) > self.threshold) & (i != j)
            yield i[above], j[above]

    def suppressed(self, chosen: Indices, others: Indices) -> NDArray[np.bool_]:
        """Which ``chosen`` have a tIoU above the threshold with any of the ``others``, which are sorted by key."""
        length = self.boxes[chosen, 1] - self.boxes[chosen, 0]
        hit = np.zeros(len(self.boxes), dtype=bool)
        if len(others):
            # An earlier interval is at most 1/threshold times as long.
            earlier = np.divide(length, self.threshold) if self.threshold else np.full(len(length), np.inf)
            for i, j in self._near(chosen, others, earlier, length):
                hit[i[self._tiou(i, j) > self.threshold]] = True
        return hit[chosen]

    def _near(
        self, chosen: Indices, others: Indices, before: Floats, after: Floats
    ) -> Iterator[tuple[Indices, Indices]]:
        """Each of ``chosen`` with those of ``others`` (sorted by key) that may overlap it, in parts of bounded size.

        ``before``, ``after``: lengths ``(n,)``; starts may differ by 1 - threshold times these lengths.
        """
        keys = self.keys[others]
        key = (self.keys[chosen] + self.step * np.array([[-1], [0], [1]])).ravel()
        back, reach = (np.tile(np.minimum((1.0 - self.threshold) * side, self.span), 3) for side in (before, after))
        chosen = np.tile(chosen, 3)
        slack = 1e-12 * (1.0 + (keys[-1] if len(keys) else 0.0))  # rounding must not lose a pair
        low = np.searchsorted(keys, key - back - slack, side="left")
        high = np.searchsorted(keys, key + reach + slack, side="right")
        for part in _portions(high - low):
            count = (high - low)[part]
            i = np.repeat(chosen[part], count)
            j = others[np.arange(len(i)) - np.repeat(np.cumsum(count) - count - low[part], count)]
            yield i, j

    def _tiou(self, i: Indices, j: Indices) -> Floats:
        start, end = self.boxes[:, 0], self.boxes[:, 1]
        start_i, end_i, start_j, end_j = start[i], end[i], start[j], end[j]
        inter = np.minimum(end_i, end_j) - np.maximum(start_i, start_j)
        union = (end_i - start_i) + (end_j - start_j) - inter
        with np.errstate(invalid="ignore"):  # 0 / 0, two empty intervals at the same point, compares as False
            ratio: Floats = inter / union
        return ratio


def _portions(counts: Indices) -> Iterator[slice]:
    """Consecutive slices of rows whose counts sum to about _PAIRS_AT_ONCE (a single row may have more)."""
    portion = np.cumsum(counts) // _PAIRS_AT_ONCE
    edges = [0, *(np.flatnonzero(np.diff(portion)) + 1).tolist(), len(counts)]
    for start, stop in pairwise(edges):
        yield slice(start, stop)


__all__ = ["as_intervals", "nms", "nms_grouped", "overlap_over", "overlapping", "tiou"]
