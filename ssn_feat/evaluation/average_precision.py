"""Average precision of detections by the two definitions of the field (see :mod:`ssn_feat.evaluation.matching`).

``activitynet``
    The definition of the ActivityNet toolkit, which most papers use, also on THUMOS14: the area under the interpolated
    precision-recall curve.
``thumos14``
    The definition of the THUMOS 2014 challenge: the sum of the precisions at the true positives, divided by the number
    of instances.
"""

from __future__ import annotations

import numpy as np

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.evaluation.matching import Float, Ranked, Scored, Truths, rank


def truths_of(dataset: Dataset) -> Truths:
    """All instances of ``dataset``, with videos numbered in its order."""
    videos = list(dataset.videos.values())
    return Truths(
        np.repeat(np.arange(len(videos)), [len(video.instances) for video in videos]),
        np.concatenate([np.zeros(0, dtype=np.int64), *(dataset.classes(video) for video in videos)]),
        np.concatenate([np.zeros((0, 2)), *(video.intervals() for video in videos)]),
    )


def average_precision_of(ranked: Ranked) -> Float:
    """Average precision of each class at each threshold, float64 ``(K, n_tiou)``; NaN for classes without instances."""
    result = np.full((len(ranked.numbers), len(ranked.matched)), np.nan)
    for column, hits in enumerate(ranked.matched >= 0):
        positions = np.flatnonzero(hits)
        # Running number of detections that count: hits, and misses that are not left out.
        counted = np.cumsum(hits | ~ranked.left_out)
        before = np.concatenate([[0], counted])[ranked.starts]
        bounds = np.searchsorted(positions, ranked.starts)
        for label in np.flatnonzero(ranked.numbers):
            ranks = counted[positions[bounds[label] : bounds[label + 1]]] - before[label]
            precision = np.arange(1, len(ranks) + 1) / ranks
            if ranked.definition == "activitynet":
                precision = np.maximum.accumulate(precision[::-1])
            result[label, column] = precision.sum() / ranked.numbers[label]
    return result


def video_average_precision(detections: Scored, truths: Truths, videos: int, classes: int, threshold: float) -> Float:
    """AP (``activitynet``) within each video, float64 ``(V,)``: mean over the classes that the video has instances of.

    NaN for videos without instances. The mean over videos is not the mAP, which ranks the detections of all videos
    together: these values only serve to find videos that are worth inspecting.
    """
    inside = np.flatnonzero(detections.videos < videos)
    within = detections.rows(inside)
    # Each (video, class) becomes a class.
    separate = within._replace(classes=within.videos * classes + within.classes)
    instances = truths._replace(classes=truths.videos * classes + truths.classes)
    values = average_precision_of(rank(separate, instances, videos * classes, [threshold])).reshape(videos, classes)
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=1)
    mean: Float = np.divide(total, known.sum(axis=1), out=np.full(videos, np.nan), where=known.any(axis=1))
    return mean


def mean_average_precision(average_precisions: Float) -> Float:
    """Mean of ``(K, n_tiou)`` over the classes that have instances, float64 ``(n_tiou,)``; NaN if no class has any."""
    known = average_precisions[~np.isnan(average_precisions).all(axis=1)]
    return known.mean(axis=0) if len(known) else np.full(average_precisions.shape[1], np.nan)


__all__ = [
    "average_precision_of",
    "mean_average_precision",
    "truths_of",
    "video_average_precision",
]
