"""Soft non-maximum suppression and voting for all videos and classes at once.

Groups (one class of one video each) of similar size are padded and processed together, so that Python loops over the
members of the longest group rather than over groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssn_feat.results.ragged import Float, Int

# Largest number of entries of a padded array (8 MB of float64); larger buckets are split.
_MAX_CELLS = 1 << 20


def soft_nms_grouped(
    intervals: Float,
    scores: NDArray[np.floating],
    groups: Int,
    method: Literal["linear", "gaussian"],
    threshold: float,
    sigma: float,
) -> Float:
    """Scores after soft NMS (Bodla et al., 2017) within each group, float64 ``(N,)``, in the given order.

    The best remaining interval (ties: the first) keeps its score; the scores of the others in its group are multiplied
    by ``1 - tIoU`` if tIoU > ``threshold`` (linear), or by ``exp(-tIoU^2 / sigma)`` (gaussian). ``intervals``:
    ``(N, 2)``, seconds; ``scores``: ``(N,)``, not negative; ``groups``: int ``(N,)``.
    """
    result = np.zeros(len(scores))
    for members in _buckets(groups):
        inside = members >= 0
        starts, ends = intervals[members, 0], intervals[members, 1]
        alive = np.where(inside, scores[members], -np.inf).astype(np.float64)
        row = np.arange(len(members))
        linear = method == "linear"
        for _ in range(members.shape[1]):
            best = alive.argmax(axis=1)
            score = alive[row, best]
            open_rows = np.isfinite(score)
            result[members[row, best][open_rows]] = score[open_rows]
            alive[row, best] = -np.inf
            overlap = _tiou(starts, ends, starts[row, best][:, None], ends[row, best][:, None])
            factor = np.where(overlap > threshold, 1 - overlap, 1.0) if linear else np.exp(-(overlap**2) / sigma)
            np.multiply(alive, factor, out=alive, where=alive > -np.inf)
    return result


def vote_grouped(
    intervals: Float, scores: NDArray[np.floating], groups: Int, kept: Int, threshold: float
) -> NDArray[np.float64]:
    """The score-weighted mean of each kept interval and those of its group with tIoU > ``threshold`` with it.

    Arguments as for :func:`soft_nms_grouped`; ``kept`` are positions. Returns float64 ``(len(kept), 2)``, seconds.
    Weights are the scores before suppression (Gidaris and Komodakis, 2015).
    """
    result = intervals.copy()
    wanted = np.zeros(len(scores), dtype=bool)
    wanted[kept] = True
    for members in _buckets(groups):
        inside = members >= 0
        starts, ends = intervals[members, 0], intervals[members, 1]
        weights = np.where(inside, scores[members].astype(np.float64), 0.0)
        for column in range(members.shape[1]):
            active = inside[:, column] & wanted[members[:, column]]
            if not active.any():
                continue
            s, e, w = starts[active], ends[active], weights[active]
            share = w * (_tiou(s, e, s[:, column, None], e[:, column, None]) > threshold)
            share[:, column] = w[:, column]
            total = share.sum(axis=1)
            voted = (
                np.stack([(share * s).sum(axis=1), (share * e).sum(axis=1)], axis=1)
                / np.maximum(total, 1e-300)[:, None]
            )
            chosen = members[active, column]
            result[chosen] = np.where(total[:, None] > 0, voted, result[chosen])
    return result[kept]


def _tiou(starts: Float, ends: Float, start: Float, end: Float) -> Float:
    """tIoU of padded rows ``(G, n)`` with one interval per row ``(G, 1)``; 0 if both are empty."""
    shared = np.maximum(np.minimum(ends, end) - np.maximum(starts, start), 0)
    union = (ends - starts) + (end - start) - shared
    result: Float = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result


def _buckets(groups: Int) -> Iterator[Int]:
    """Positions of the members of groups of similar size, ``(G, n)``, padded with -1; together they hold all groups."""
    if not len(groups):
        return
    order = np.argsort(groups, kind="stable")
    firsts = np.flatnonzero(np.diff(groups[order], prepend=groups[order[0]] - 1))
    sizes = np.diff(firsts, append=len(groups))
    width = np.int64(1) << np.ceil(np.log2(sizes)).astype(np.int64)
    for n in np.unique(width):
        in_bucket = np.flatnonzero(width == n)
        for part in np.array_split(in_bucket, -(-len(in_bucket) * n // _MAX_CELLS)):
            columns = np.arange(sizes[part].max())
            at = np.minimum(firsts[part][:, None] + columns, len(groups) - 1)
            yield np.where(columns < sizes[part][:, None], order[at], -1)
