"""Confidence intervals of mAP by the bootstrap over videos.

A draw takes as many videos as the data set has, with replacement; mAP is computed as if each copy were a separate
video. Detections are matched with instances inside a video, so a draw only changes how often each match counts. Both
files of a difference are measured on the same draws (paired), so that the variation they share cancels: some videos are
hard for both.

Interpolated AP grows as the number of distinct videos falls, and a draw has only about two thirds of them. Draws are
therefore biased upwards, with many classes by more than their spread, and plain percentiles would not contain the mAP.
The intervals are percentiles of the draws shifted so that their mean is the mAP.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, csr_array

from ssn_feat.errors import UserError
from ssn_feat.evaluation.matching import Definition, Ranked, Truths

Float = NDArray[np.float64]
Int = NDArray[np.int64]

# Number of draws processed at once, which bounds memory to this many columns per hit.
_DRAWS_AT_ONCE = 128


class Interval(NamedTuple):
    """Confidence intervals; both arrays have the same shape."""

    low: Float
    """Lower end."""
    high: Float
    """Upper end."""


def draw_videos(videos: int, draws: int, seed: int) -> Float:
    """How often each video is in each draw: float64 ``(videos, draws)``; each column sums to ``videos``."""
    if videos < 1 or draws < 1:
        raise UserError(f"resampling needs at least one video and one draw, not {videos} and {draws}")
    counts = np.random.default_rng(seed).multinomial(videos, np.full(videos, 1 / videos), size=draws)
    return counts.T.astype(np.float64)


def interval_of(values: Float, point: ArrayLike, confidence: float = 0.95) -> Interval:
    """Interval of the estimates ``point`` ``(n,)`` from their ``values`` on draws, ``(R, n)``; see the module.

    NaN values (draws without instances) are left out; the interval is NaN if all are.
    """
    if not 0 < confidence < 1:
        raise UserError(f"confidence is a share between 0 and 1, not {confidence}")
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    ends = np.full((2, values.shape[1]), np.nan)
    for column, (draws, estimate) in enumerate(zip(values.T, np.asarray(point, dtype=np.float64), strict=True)):
        known = draws[~np.isnan(draws)]
        if len(known):
            ends[:, column] = estimate + np.quantile(known, tails) - known.mean()
    return Interval(ends[0], ends[1])


def resampled_map(ranked: Ranked, truths: Truths, draws: Float) -> Float:
    """mAP of each draw at each threshold: float64 ``(R, n_tiou)``.

    ``ranked``: result of :func:`ssn_feat.evaluation.matching.rank` with these ``truths``.
    ``draws`` ``(V, R)``: how often each video counts. Detections in videos from V on (false alarms outside the data
    set) count once in each draw. The copies of a detection have consecutive ranks. A class counts in the draws that
    have an instance of it.
    """
    outside = int(ranked.detections.videos.max(initial=-1)) + 1 - len(draws)
    weights = np.concatenate([draws, np.ones((max(outside, 0), draws.shape[1]))])
    parts = np.array_split(np.arange(draws.shape[1]), -(-draws.shape[1] // _DRAWS_AT_ONCE))
    space = _Hits.of(ranked, weights.shape[0])
    truth_counts = coo_array(
        (np.ones(len(truths.videos)), (truths.classes, truths.videos)), shape=(len(ranked.numbers), len(weights))
    ).tocsr()
    return np.concatenate([space.mean_ap(weights[:, part], truth_counts, ranked.definition) for part in parts])


class _Hits(NamedTuple):
    """The part of a ranking that draws need: rows that are a hit at some threshold, and the counts between them."""

    videos: Int
    """Video of each row, ``(H,)``."""
    classes: Int
    """Class of each row, ``(H,)``, non-decreasing."""
    hit: NDArray[np.bool_]
    """Whether the row is a hit at each threshold, ``(n_tiou, H)``."""
    left_out: NDArray[np.bool_]
    """Whether the row counts only if it is a hit, ``(H,)``."""
    passed: csr_array
    """Number of counting detections of each video after the previous row of the class, up to this row, ``(H, V)``."""

    @classmethod
    def of(cls, ranked: Ranked, videos: int) -> _Hits:
        hits = ranked.matched >= 0
        rows = np.flatnonzero(hits.any(axis=0))
        detections = ranked.detections
        counting = np.flatnonzero(~ranked.left_out)
        target = np.searchsorted(rows, counting)
        # Detections after the last hit of their class do not matter.
        inside = target < len(rows)
        counting, target = counting[inside], target[inside]
        same = detections.classes[counting] == detections.classes[rows[target]]
        cells = (target[same], detections.videos[counting[same]])
        passed = coo_array((np.ones(len(cells[0])), cells), shape=(len(rows), videos)).tocsr()
        return cls(detections.videos[rows], detections.classes[rows], hits[:, rows], ranked.left_out[rows], passed)

    def mean_ap(self, weights: Float, truth_counts: csr_array, definition: Definition) -> Float:
        """mAP ``(R, n_tiou)`` with ``weights`` ``(V, R)``; ``truth_counts`` ``(K, V)``."""
        truths = truth_counts @ weights
        passed = self.passed @ weights
        weight = weights[self.videos]
        result = np.empty((weights.shape[1], len(self.hit)))
        for level, hit in enumerate(self.hit):
            extra = hit & self.left_out
            counts = passed + weight * extra[:, None] if extra.any() else passed
            rank = _running_sum(counts, self.classes)[hit]
            area = _area(weight[hit], rank, self.classes[hit], definition)
            total = np.zeros_like(truths)
            np.add.at(total, self.classes[hit], area)
            ap = np.divide(total, truths, out=np.full_like(truths, np.nan), where=truths > 0)
            known = np.maximum((truths > 0).sum(axis=0), 1)
            result[:, level] = np.where((truths > 0).any(axis=0), np.nansum(ap, axis=0) / known, np.nan)
        return result


def _area(copies: Float, rank: Float, classes: Int, definition: Definition) -> Float:
    """The part of each hit in the area under the curve, times the number of instances: ``(h, R)``.

    ``copies``: how often the hit counts; ``rank``: number of detections that count up to its last copy.
    """
    hits = _running_sum(copies, classes)
    if definition == "activitynet":
        # Precision rises from copy to copy, so the interpolated precision of all is at least that of the last copy.
        precision = np.divide(hits, rank, out=np.zeros_like(hits), where=rank > 0)
        interpolated: Float = copies * running_maximum(precision, classes)
        return interpolated
    # The sum of (hits - n + i) / (rank - n + i) over i = 1..n copies, by harmonic numbers.
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, int(rank.max(initial=0)) + 1))])
    before = rank - copies
    area: Float = copies + (hits - rank) * (harmonic[rank.astype(np.int64)] - harmonic[before.astype(np.int64)])
    return area


def _running_sum(values: Float, classes: Int) -> Float:
    """Running sum of ``values`` ``(n, R)`` within each class; ``classes`` ``(n,)`` are sorted."""
    total = np.cumsum(values, axis=0)
    first = np.searchsorted(classes, classes)
    before = np.concatenate([np.zeros((1, values.shape[1])), total])[first]
    result: Float = total - before
    return result


def running_maximum(values: Float, classes: Int) -> Float:
    """Maximum of each row and the later rows of its class; ``values`` ``(n, ...)`` in [0, 1], ``classes`` sorted."""
    # Classes fall from the last row to the first: an offset per class lets one pass serve all classes.
    offset = (2.0 * (classes.max(initial=0) - classes)).reshape(-1, *([1] * (values.ndim - 1)))
    maximum: Float = np.maximum.accumulate((values + offset)[::-1], axis=0)[::-1] - offset
    return maximum


__all__ = ["Interval", "draw_videos", "interval_of", "resampled_map", "running_maximum"]
