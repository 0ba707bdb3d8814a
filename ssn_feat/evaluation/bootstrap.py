"""How far mAP would move with other videos: the bootstrap over videos, the same draws for everything compared.

A draw takes as many videos as there are, with replacement; mAP is measured on it as if each copy were a video of its
own. Which detection is counted for which truth is decided inside a video, so a draw only changes how often each counts.
Of a difference between two files both are measured on the same draws (paired), which takes out what the files share:
that some videos are hard.

Interpolated AP is higher the fewer different videos there are, and a draw has only two thirds of the data's. So draws
lie above the number itself, by more than they spread where classes are many, and their plain percentiles would miss it.
Intervals are therefore percentiles of the draws moved so that their mean is the number: where mAP may lie on another
set of as many videos.
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

# Draws worked on at once: bounds memory to this many columns for every hit.
_DRAWS_AT_ONCE = 128


class Interval(NamedTuple):
    """Where a number lies with some confidence; arrays of one shape."""

    low: Float
    """Lower end."""
    high: Float
    """Upper end."""


def draw_videos(videos: int, draws: int, seed: int) -> Float:
    """How often each of ``videos`` is in each draw: float64 ``(videos, draws)``, columns add up to ``videos``."""
    if videos < 1 or draws < 1:
        raise UserError(f"resampling needs at least one video and one draw, got {videos} and {draws}")
    counts = np.random.default_rng(seed).multinomial(videos, np.full(videos, 1 / videos), size=draws)
    return counts.T.astype(np.float64)


def interval_of(values: Float, point: ArrayLike, confidence: float = 0.95) -> Interval:
    """Interval of the number ``point`` ``(n,)`` from its ``values`` on draws, ``(R, n)``; see the module.

    NaN draws (no truth in them) do not count; without any other the interval is NaN.
    """
    if not 0 < confidence < 1:
        raise UserError(f"confidence is a share between 0 and 1, not {confidence}")
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    ends = np.full((2, values.shape[1]), np.nan)
    for column, (draws, own) in enumerate(zip(values.T, np.asarray(point, dtype=np.float64), strict=True)):
        known = draws[~np.isnan(draws)]
        if len(known):
            ends[:, column] = own + np.quantile(known, tails) - known.mean()
    return Interval(ends[0], ends[1])


def resampled_map(ranked: Ranked, truths: Truths, draws: Float) -> Float:
    """mAP of each draw at each threshold: float64 ``(R, n_tiou)``.

    ``ranked``: of :func:`ssn_feat.evaluation.matching.rank` with these ``truths``.
    ``draws`` ``(V, R)``: how often each video counts; detections in videos from V on (false alarms outside the data
    set) count once in each draw. Copies of a detection rank one after the other. A class counts in a draw that has a
    truth of it.
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
    """What of a ranking matters for any draw: the rows that are a hit at some threshold, and what lies before each."""

    videos: Int
    """Video of each such row, ``(H,)``."""
    classes: Int
    """Class, ``(H,)``, never falling."""
    hit: NDArray[np.bool_]
    """Whether it is a hit at each threshold, ``(n_tiou, H)``."""
    left_out: NDArray[np.bool_]
    """Whether it counts only as a hit, ``(H,)``."""
    passed: csr_array
    """Counting detections of each video after the row before (of the same class) up to this one, ``(H, V)``."""

    @classmethod
    def of(cls, ranked: Ranked, videos: int) -> _Hits:
        hits = ranked.matched >= 0
        rows = np.flatnonzero(hits.any(axis=0))
        found = ranked.detections
        counting = np.flatnonzero(~ranked.left_out)
        target = np.searchsorted(rows, counting)
        # What follows the last hit of its class is of no consequence.
        inside = target < len(rows)
        counting, target = counting[inside], target[inside]
        same = found.classes[counting] == found.classes[rows[target]]
        cells = (target[same], found.videos[counting[same]])
        passed = coo_array((np.ones(len(cells[0])), cells), shape=(len(rows), videos)).tocsr()
        return cls(found.videos[rows], found.classes[rows], hits[:, rows], ranked.left_out[rows], passed)

    def mean_ap(self, weights: Float, truth_counts: csr_array, definition: Definition) -> Float:
        """mAP ``(R, n_tiou)`` with ``weights`` ``(V, R)``; ``truth_counts`` ``(K, V)``."""
        truths = truth_counts @ weights
        passed = self.passed @ weights
        own = weights[self.videos]
        result = np.empty((weights.shape[1], len(self.hit)))
        for level, hit in enumerate(self.hit):
            extra = hit & self.left_out
            places = passed + own * extra[:, None] if extra.any() else passed
            place = _running_sum(places, self.classes)[hit]
            share = own[hit]
            area = _area(share, place, self.classes[hit], definition)
            total = np.zeros_like(truths)
            np.add.at(total, self.classes[hit], area)
            ap = np.divide(total, truths, out=np.full_like(truths, np.nan), where=truths > 0)
            known = np.maximum((truths > 0).sum(axis=0), 1)
            result[:, level] = np.where((truths > 0).any(axis=0), np.nansum(ap, axis=0) / known, np.nan)
        return result


def _area(share: Float, place: Float, classes: Int, definition: Definition) -> Float:
    """What each hit adds to the area under the curve, times the number of truths: ``(h, R)``.

    ``share``: how often the hit counts; ``place``: how many detections count up to its last copy.
    """
    found = _running_sum(share, classes)
    if definition == "activitynet":
        # Precision only rises from copy to copy, so all of them take that of the last, or a later better one.
        precision = np.divide(found, place, out=np.zeros_like(found), where=place > 0)
        return share * running_maximum(precision, classes)
    # The sum of (found - n + i) / (place - n + i) over i = 1..n copies, by harmonic numbers.
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, int(place.max(initial=0)) + 1))])
    before = place - share
    return share + (found - place) * (harmonic[place.astype(np.int64)] - harmonic[before.astype(np.int64)])


def _running_sum(values: Float, classes: Int) -> Float:
    """Sum of the rows so far, beginning anew with each class; ``values`` ``(n, R)``, ``classes`` ``(n,)`` sorted."""
    total = np.cumsum(values, axis=0)
    first = np.searchsorted(classes, classes)
    before = np.concatenate([np.zeros((1, values.shape[1])), total])[first]
    return total - before


def running_maximum(values: Float, classes: Int) -> Float:
    """The largest of this row and those after it of the same class; ``values`` in [0, 1], ``(n, ...)``, sorted."""
    # Going backwards classes fall: an offset that rises more than any value makes one pass do for all of them.
    offset = (2.0 * (classes.max(initial=0) - classes)).reshape(-1, *([1] * (values.ndim - 1)))
    return np.maximum.accumulate((values + offset)[::-1], axis=0)[::-1] - offset


__all__ = ["Interval", "draw_videos", "interval_of", "resampled_map", "running_maximum"]
