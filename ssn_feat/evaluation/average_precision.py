"""Average precision of detections in the two definitions of the field (see :mod:`ssn_feat.evaluation.matching`).

``activitynet``
    The ActivityNet toolkit's, the usual one in papers, also on THUMOS14: the area under the interpolated
    precision-recall curve.
``thumos14``
    That of the THUMOS 2014 challenge: the sum of the precision at each true positive, divided by the number of truths.
"""

from __future__ import annotations

import numpy as np

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.evaluation.matching import Float, Ranked, Scored, Truths, rank


def truths_of(dataset: Dataset) -> Truths:
    """All instances of ``dataset``; videos are numbered in its order."""
    videos = list(dataset.videos.values())
    return Truths(
        np.repeat(np.arange(len(videos)), [len(video.instances) for video in videos]),
        np.concatenate([np.zeros(0, dtype=np.int64), *(dataset.classes(video) for video in videos)]),
        np.concatenate([np.zeros((0, 2)), *(video.intervals() for video in videos)]),
    )


def average_precision_of(ranked: Ranked) -> Float:
    """Average precision of each class at each threshold, float64 ``(K, n_tiou)``; NaN for classes without truth."""
    result = np.full((len(ranked.numbers), len(ranked.matched)), np.nan)
    for column, hits in enumerate(ranked.matched >= 0):
        positions = np.flatnonzero(hits)
        # How many detections up to each hit are neither left out nor, with it, of an earlier class.
        counted = np.cumsum(hits | ~ranked.left_out)
        before = np.concatenate([[0], counted])[ranked.starts]
        bounds = np.searchsorted(positions, ranked.starts)
        for label in np.flatnonzero(ranked.numbers):
            place = counted[positions[bounds[label] : bounds[label + 1]]] - before[label]
            precision = np.arange(1, len(place) + 1) / place
            if ranked.definition == "activitynet":
                precision = np.maximum.accumulate(precision[::-1])
            result[label, column] = precision.sum() / ranked.numbers[label]
    return result


def video_average_precision(detections: Scored, truths: Truths, videos: int, classes: int, threshold: float) -> Float:
    """How well each video alone is solved, float64 ``(V,)``: AP (``activitynet``) of its detections among themselves,
    mean over the classes that it has truths of; NaN for videos without truths.

    Its mean is no mAP, which ranks the detections of all videos together: it is there to find videos worth looking at.
    """
    inside = np.flatnonzero(detections.videos < videos)
    own = detections.rows(inside)
    # Each (video, class) as a class of its own.
    apart = own._replace(classes=own.videos * classes + own.classes)
    wanted = truths._replace(classes=truths.videos * classes + truths.classes)
    found = average_precision_of(rank(apart, wanted, videos * classes, [threshold])).reshape(videos, classes)
    known = ~np.isnan(found)
    total = np.where(known, found, 0.0).sum(axis=1)
    return np.divide(total, known.sum(axis=1), out=np.full(videos, np.nan), where=known.any(axis=1))


def mean_average_precision(average_precisions: Float) -> Float:
    """Mean over the classes that have truths, float64 ``(n_tiou,)``, of ``(K, n_tiou)``; NaN where none has any."""
    known = average_precisions[~np.isnan(average_precisions).all(axis=1)]
    return known.mean(axis=0) if len(known) else np.full(average_precisions.shape[1], np.nan)


__all__ = [
    "average_precision_of",
    "mean_average_precision",
    "truths_of",
    "video_average_precision",
]
