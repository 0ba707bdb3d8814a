"""Temporal actionness grouping (TAG) of the SSN paper (section on temporal region proposals).

Runs of snippets whose actionness is above a threshold are basins. Neighbouring basins are merged as long as the share
of snippets below the threshold stays within a tolerance. The proposals are the groups of many thresholds and
tolerances, reduced by non-maximum suppression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError
from ssn_feat.intervals import as_intervals, nms
from ssn_feat.proposals.actionness import ScoreName, action_probability, score_by_actionness, smear_as_original

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

# Standard deviation of the Gaussian in the original code, in snippets; its videos have five or six per second.
_ORIGINAL_SMOOTHING = 3.0


@dataclass(frozen=True)
class TagOptions:
    """How actionness is grouped; the default thresholds and tolerances are those of the original code."""

    thresholds: tuple[float, ...] = (0.01, 0.05, 0.1, 0.15, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    """Probabilities of action above which a snippet belongs to a basin; each threshold gives other basins."""
    tolerances: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
    """Largest share of snippets below the threshold in a group of basins, in (0, 1]."""
    smoothing: float = 0.4
    """Standard deviation in seconds of the Gaussian that smooths actionness before the thresholds; 0: no smoothing."""
    tag_nms: float = 0.9
    """tIoU above which the lower-scored of two groups is removed."""
    minimum_length: float = 0.0
    """Groups shorter than this many seconds are left out."""
    tag_score: ScoreName = "contrast"
    """Score of a group: mean actionness inside minus that of its flanks (contrast), mean actionness inside (mean), or
    the sum of the action logits inside (sum, as in the original code)."""
    original_grouping: bool = False
    """Groups as in the original code: actionness is smoothed over 3 snippets whatever their length, groups end one
    snippet too late (perhaps after the video), their scores include up to two more snippets, and they are ranked by
    the sum of logits."""
    original_smearing: bool = False
    """First mix every four snippets as the original code does when it scores snippets, for comparisons."""

    def __post_init__(self) -> None:
        if not self.thresholds or not all(0.0 <= t < 1.0 for t in self.thresholds):
            raise UserError(f"TAG thresholds must be probabilities in [0, 1), at least one, not {self.thresholds}")
        if not self.tolerances or not all(0.0 < t <= 1.0 for t in self.tolerances):
            raise UserError(f"TAG tolerances must be shares in (0, 1], at least one, not {self.tolerances}")
        if not self.smoothing >= 0.0:
            raise UserError(f"smoothing of actionness must be at least 0 seconds, not {self.smoothing}")
        if not 0.0 <= self.tag_nms <= 1.0:
            raise UserError(f"the tIoU of TAG's suppression must be in [0, 1], not {self.tag_nms}")
        if not self.minimum_length >= 0.0:
            raise UserError(f"the minimum length of a proposal must be at least 0 seconds, not {self.minimum_length}")

    @property
    def ranked_by(self) -> str:
        """Name of the score of the groups."""
        return "sum" if self.original_grouping else self.tag_score


def tag(actionness: ArrayLike, spans: ArrayLike, options: TagOptions | None = None) -> tuple[Floats, Floats]:
    """Proposals of one video from the actionness of its snippets.

    actionness: logits ``(T, 2)`` of background and action, or probabilities ``(T,)``, which exclude the score ``sum``.
    spans: ``(T, 2)``, start and end of each snippet in seconds, contiguous.
    Returns intervals, float64 ``(N, 2)``, seconds inside the video, and scores, float64 ``(N,)``, descending.

    Raises UserError on malformed actionness, and unless there are as many spans as snippets.
    """
    options = options or TagOptions()
    seconds = as_intervals(spans, "spans of snippets")
    values = np.asarray(actionness)
    if len(seconds) != len(values) or not len(seconds):
        raise UserError(f"actionness has {len(values)} snippets and {len(seconds)} spans: give one span per snippet")
    if options.original_smearing:
        values = smear_as_original(values)
    if options.original_grouping:
        boxes, scores = original_groups(values, options)
        intervals = boxes / len(seconds) * seconds[-1, 1]
    else:
        smooth = _smooth(values, options.smoothing / max(float(np.diff(seconds).mean()), 1e-9))
        groups = np.concatenate(group_basins(smooth, options.thresholds, options.tolerances)[:2])
        groups = _distinct(groups, len(seconds))
        intervals = np.stack([seconds[groups[:, 0], 0], seconds[groups[:, 1] - 1, 1]], axis=1)
        scores = score_by_actionness(intervals, values, seconds, options.tag_score)
        kept = nms(intervals, scores, options.tag_nms)
        intervals, scores = intervals[kept], scores[kept]
    long = intervals[:, 1] - intervals[:, 0] >= options.minimum_length
    return intervals[long], scores[long]


def original_groups(logits: ArrayLike, options: TagOptions) -> tuple[Indices, Floats]:
    """Boxes of the original code in snippets, int64 ``(N, 2)``, and their sums of action logits, float64 ``(N,)``.

    ``logits`` is ``(T, 2)``; boxes are sorted by descending sum. A box ends one snippet after the first one below the
    threshold, at most at T + 1, and its sum includes that snippet. If the backward search of a group met no stop, its
    sum starts at snippet 0 and includes one snippet more. Of equal boxes only the best is kept, since suppression in
    the original code removes the others.

    Raises UserError if only probabilities are given.
    """
    if np.ndim(logits) != 2:
        raise UserError("the original grouping ranks by the sum of logits, but only probabilities are given")
    smooth = _smooth(logits, _ORIGINAL_SMOOTHING)
    forward, backward, unstopped = group_basins(smooth, options.thresholds, options.tolerances)
    boxes = np.concatenate([forward, backward]) + np.array([0, 1])
    unstopped = np.concatenate([np.zeros(len(forward), dtype=bool), unstopped])
    total = np.concatenate([[0.0], np.cumsum(np.asarray(logits, dtype=np.float32)[:, 1], dtype=np.float64)])
    stop = np.minimum(boxes[:, 1] + unstopped, len(total) - 1)
    scores = total[stop] - total[np.where(unstopped, 0, boxes[:, 0])]
    best = np.lexsort((-scores, boxes[:, 1], boxes[:, 0]))
    boxes, scores = boxes[best], scores[best]
    first = np.flatnonzero((np.diff(boxes, axis=0, prepend=-1) != 0).any(axis=1))
    boxes, scores = boxes[first], scores[first]
    kept = nms(boxes + np.array([0, 1]), scores, options.tag_nms)  # its suppression counts both end snippets of a box
    return boxes[kept], scores[kept]


def _smooth(logits: ArrayLike, snippets: float) -> NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter1d  # slow to import, and only TAG needs it

    probability = action_probability(logits)
    snippets = min(snippets, len(probability))  # a larger one would need more memory without smoothing more
    smooth: NDArray[np.float32] = gaussian_filter1d(probability, snippets) if snippets else probability
    return smooth


def _distinct(groups: Indices, snippets: int) -> Indices:
    """Each distinct group once, sorted by start and end."""
    keys = np.unique(groups[:, 0] * (snippets + 1) + groups[:, 1])
    return np.stack(np.divmod(keys, snippets + 1), axis=1)


def group_basins(
    actionness: ArrayLike, thresholds: ArrayLike, tolerances: ArrayLike
) -> tuple[Indices, Indices, NDArray[np.bool_]]:
    """Groups of basins: from each basin forward, and from each basin backward.

    A basin is a run of snippets whose ``actionness`` ``(T,)`` exceeds one of the ``thresholds`` ``(L,)``. A forward
    group starts with a basin and absorbs the following ones of the same threshold; it stops before the first basin at
    whose start the share of snippets below the threshold, since the start of the group, exceeds the tolerance. Backward
    groups mirror this.

    Returns forward and backward groups, int64 ``(tolerances * basins, 2)`` half-open ranges of snippets with
    repetitions, and for each backward group whether its search reached the first basin without a stop, bool.
    """
    above = np.asarray(actionness)[None, :] > np.asarray(thresholds, dtype=np.float64)[:, None]
    edges = np.diff(above.astype(np.int8), axis=1, prepend=0, append=0)
    level, up = np.nonzero(edges == 1)
    down = np.nonzero(edges == -1)[1]
    first = np.searchsorted(level, level, side="left")  # first basin of the same threshold
    after = np.searchsorted(level, level, side="right")
    # The share of snippets below the threshold can equal the tolerance exactly; rounding in this expression, which is
    # that of the original code, then decides.
    below, tolerance = np.cumsum(~above, axis=1), np.asarray(tolerances, dtype=np.float64)[:, None]
    rising = below[level, up] - tolerance * up
    inside = np.minimum(down, above.shape[1] - 1)
    falling = (below[level, inside] - tolerance * inside) - np.where(down > inside, tolerance, 0.0)
    last = np.minimum(_next_greater(rising), after) - 1
    stop = len(level) - 1 - _next_greater(-falling[:, ::-1])[:, ::-1]
    forward = np.stack(np.broadcast_arrays(up, down[last]), axis=-1)
    backward = np.stack(np.broadcast_arrays(up[np.maximum(stop + 1, first)], down), axis=-1)
    return forward.reshape(-1, 2), backward.reshape(-1, 2), (stop < first).reshape(-1)


def _next_greater(values: Floats) -> Indices:
    """Index of the first later element that is greater, along the last axis of ``(K, R)``; R if there is none.

    The maxima of blocks of 1, 2, 4, ... elements are computed first; then every element skips the largest blocks
    without a greater element. The time is O(R log R) for all values.
    """
    count = values.shape[1]
    blocks = [np.pad(values, ((0, 0), (0, 1)), constant_values=np.inf)]
    while 1 << len(blocks) <= count:
        half = 1 << (len(blocks) - 1)
        later = np.minimum(np.arange(count + 1) + half, count)
        blocks.append(np.maximum(blocks[-1], blocks[-1][:, later]))
    position = np.broadcast_to(np.arange(1, count + 1), values.shape).copy()
    for exponent in reversed(range(len(blocks))):
        skip = np.take_along_axis(blocks[exponent], position, axis=1) <= values
        position += skip << exponent
    return position


__all__ = ["TagOptions", "group_basins", "original_groups", "tag"]
