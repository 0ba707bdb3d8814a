"""Arithmetic of intervals in time: overlap and non-maximal suppression.

An interval is a row ``(start, end)`` with ``start <= end``, in any one unit (seconds nearly everywhere). Everything is
computed in float64, in the order of operations that published evaluators use, because pairs whose tIoU equals a
threshold up to rounding do occur and decide which detections survive.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

# Candidate pairs that are held in memory at once (about ten arrays of 8 bytes each are made of them).
_PAIRS_AT_ONCE = 1 << 18
# How many of the best intervals of each group the first round of suppression looks at; doubles with every round.
_FIRST_BLOCK = 64


def as_intervals(values: ArrayLike, what: str = "intervals") -> Floats:
    """``values`` as float64 ``(N, 2)``; an empty list becomes ``(0, 2)``.

    Raises UserError, naming ``what`` and the first bad row, where the shape is another, a number is not finite or an
    end lies before its start.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return array.reshape(0, 2)
    if array.ndim != 2 or array.shape[1] != 2:
        raise UserError(f"{what} must be rows of (start, end), not an array of shape {array.shape}")
    good = np.isfinite(array).all(axis=1) & (array[:, 0] <= array[:, 1])
    if not good.all():
        row = int(np.argmin(good))
        raise UserError(f"{what}: row {row} is ({array[row, 0]:g}, {array[row, 1]:g}); needed is a finite start <= end")
    return array


def _intersection(a: Floats, b: Floats) -> Floats:
    """Length shared by intervals that broadcast against each other; 0 where they are apart."""
    shared = np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])
    return np.maximum(shared, 0.0)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def tiou(a: ArrayLike, b: ArrayLike) -> Floats:
    """Temporal intersection over union of every interval of ``a`` with every one of ``b``.

    ``(N, 2)`` and ``(M, 2)`` give float64 ``(N, M)`` in [0, 1], computed as ``inter / (d_a + d_b - inter)`` like the
    ActivityNet toolkit. Two empty intervals at one point have tIoU 0.
    """
    rows, columns = as_intervals(a)[:, None, :], as_intervals(b)[None, :, :]
    inter = _intersection(rows, columns)
    return _ratio(inter, (rows[..., 1] - rows[..., 0]) + (columns[..., 1] - columns[..., 0]) - inter)


def overlap_over(a: ArrayLike, b: ArrayLike) -> Floats:
    """The share of every interval of ``a`` that lies in each interval of ``b``: intersection / length of ``a``.

    ``(N, 2)`` and ``(M, 2)`` give float64 ``(N, M)`` in [0, 1]; 0 where the interval of ``a`` is empty.
    """
    rows, columns = as_intervals(a)[:, None, :], as_intervals(b)[None, :, :]
    inter = _intersection(rows, columns)
    return _ratio(inter, np.broadcast_to(rows[..., 1] - rows[..., 0], inter.shape))


def nms(intervals: ArrayLike, scores: ArrayLike, threshold: float) -> Indices:
    """Greedy non-maximal suppression: int64 ``(K,)`` indices of the kept intervals, score descending.

    ``intervals`` is ``(N, 2)``, ``scores`` ``(N,)``. Going down the scores (of equal ones the lower index first), an
    interval is dropped if its tIoU with a kept one is greater than ``threshold``. Computed in float64 as
    ``inter / (d_i + d_j - inter)`` with ``inter = min(ends) - max(starts)``, as the original SSN evaluation does.

    Raises UserError on malformed intervals, scores that are not numbers, or a threshold outside [0, 1].
    """
    return nms_grouped(intervals, scores, np.zeros(np.shape(scores), dtype=np.int64), threshold)


def nms_grouped(intervals: ArrayLike, scores: ArrayLike, groups: ArrayLike, threshold: float) -> Indices:
    """:func:`nms` inside each group (a video and class, say) at once; intervals of different groups do not meet.

    ``groups`` is a whole number ``(N,)`` per interval. The kept indices, int64 ``(K,)``, come by group ascending, then
    by score descending. Cost is nearly linear in N where few pairs exceed the threshold and where few survive.
    """
    boxes = as_intervals(intervals)
    ranking = np.asarray(scores, dtype=np.float64)
    members = np.asarray(groups)
    if ranking.shape != (len(boxes),) or members.shape != (len(boxes),):
        raise UserError(
            f"{len(boxes)} intervals need as many scores and groups, got {ranking.shape} and {members.shape}"
        )
    if np.isnan(ranking).any():
        raise UserError(f"score {int(np.isnan(ranking).argmax())} is not a number; suppression needs an order")
    if not 0.0 <= threshold <= 1.0:
        raise UserError(f"the suppression threshold is a tIoU in [0, 1], not {threshold}")
    if not len(boxes):
        return np.zeros(0, dtype=np.int64)
    order = np.lexsort((-ranking, members))
    boxes, members = boxes[order], members[order]
    group = np.concatenate([[0], np.cumsum(members[1:] != members[:-1])])
    return order[_suppress(boxes, group, threshold)]


def _suppress(boxes: Floats, group: Indices, threshold: float) -> Indices:
    """Positions kept of intervals that are sorted by group and rank, ascending.

    In rounds: the best few of each group are settled among themselves, then strike out what is left. With a low
    threshold the first rounds empty the list; with a high one almost no pair passes the threshold.
    """
    alive = np.arange(len(boxes), dtype=np.int64)
    kept, block = [], _FIRST_BLOCK
    while alive.size:
        current = group[alive]
        first = np.flatnonzero(np.diff(current, prepend=-1))
        rank = np.arange(alive.size) - np.repeat(first, np.diff(first, append=alive.size))
        head, alive = alive[rank < block], alive[rank >= block]
        winners = head[_settle(boxes[head], group[head], threshold)]
        kept.append(winners)
        if alive.size:
            struck = np.zeros(alive.size, dtype=bool)
            for loser, _ in _pairs_above(boxes[alive], group[alive], boxes[winners], group[winners], threshold):
                struck[loser] = True
            alive = alive[~struck]
        block *= 2
    return np.sort(np.concatenate(kept))


def _settle(boxes: Floats, group: Indices, threshold: float) -> NDArray[np.bool_]:
    """Which of some intervals, best first inside each group, greedy suppression keeps: bool ``(n,)``."""
    better, worse = [], []
    for i, j in _pairs_above(boxes, group, boxes, group, threshold):
        below = i < j
        better.append(i[below])
        worse.append(j[below])
    high, low = np.concatenate(better), np.concatenate(worse)
    dropped = np.zeros(len(boxes), dtype=bool)
    # An interval is certain to stay once no undecided one above it can strike it out: as many rounds as the longest
    # chain of such dependencies, each linear in the pairs that are still undecided.
    while high.size:
        threatened = np.zeros(len(boxes), dtype=bool)
        threatened[low] = True
        certain = ~threatened[high]
        dropped[low[certain]] = True
        open_ = ~(certain | dropped[low] | dropped[high])
        high, low = high[open_], low[open_]
    return ~dropped


def _pairs_above(
    a: Floats, group_a: Indices, b: Floats, group_b: Indices, threshold: float
) -> Iterator[tuple[Indices, Indices]]:
    """All pairs (index in ``a``, index in ``b``) of one group whose tIoU exceeds the threshold, in bounded portions.

    tIoU > t needs lengths within a factor t of each other, hence starts within (1 - t) d_a after and (1/t - 1) d_a
    before that of ``a``. With ``b`` sorted by group and start, the candidates of each ``a`` are one range.
    """
    origin = min(a[:, 0].min(), b[:, 0].min())
    room = max(a[:, 1].max(), b[:, 1].max()) - origin
    slack = 1e-12 * (room + 1.0) * (1 + max(group_a.max(), group_b.max()))  # rounding of the keys must lose no pair
    step = 2.0 * room + 1.0 + 4.0 * slack
    by_start = np.lexsort((b[:, 0], group_b))
    keys = (b[by_start, 0] - origin) + step * group_b[by_start]
    base, length = (a[:, 0] - origin) + step * group_a, a[:, 1] - a[:, 0]
    before = np.minimum(length * (1.0 / threshold - 1.0), room) if threshold > 0 else room
    low = np.searchsorted(keys, base - before - slack, side="left")
    high = np.searchsorted(keys, base + (1.0 - threshold) * length + slack, side="right")
    for chosen in _portions(high - low):
        count = (high - low)[chosen]
        i = np.repeat(np.arange(chosen.start, chosen.stop), count)
        within = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
        j = by_start[np.repeat(low[chosen], count) + within]
        (start_i, end_i), (start_j, end_j) = a[i].T, b[j].T
        inter = np.minimum(end_i, end_j) - np.maximum(start_i, start_j)
        union = (end_i - start_i) + (end_j - start_j) - inter
        above = (_ratio(inter, union) > threshold) & (group_a[i] == group_b[j])
        yield i[above], j[above]


def _portions(counts: Indices) -> Iterator[slice]:
    """Consecutive slices of rows whose counts add up to about _PAIRS_AT_ONCE (a single row may hold more)."""
    portion = np.cumsum(counts) // _PAIRS_AT_ONCE
    edges = [0, *(np.flatnonzero(np.diff(portion)) + 1).tolist(), len(counts)]
    for start, stop in pairwise(edges):
        yield slice(start, stop)


__all__ = ["as_intervals", "nms", "nms_grouped", "overlap_over", "tiou"]
