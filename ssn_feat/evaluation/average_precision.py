"""Average precision of detections in the two definitions of the field (see :mod:`ssn_feat.evaluation.matching`).

``activitynet``
    The ActivityNet toolkit's, the usual one in papers, also on THUMOS14: the area under the interpolated
    precision-recall curve.
``thumos14``
    That of the THUMOS 2014 challenge: the sum of the precision at each true positive, divided by the number of truths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.errors import UserError
from ssn_feat.evaluation.matching import Definition, Float, Int, Ranked, Scored, Truths, rank
from ssn_feat.intervals import as_intervals


def average_precision(
    detections: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]],
    dataset: Dataset,
    thresholds: ArrayLike,
    definition: Definition = "activitynet",
    ambiguous: Mapping[str, ArrayLike] | None = None,
    unknown_videos: Literal["refuse", "count", "drop"] = "refuse",
) -> Float:
    """Average precision of each class at each tIoU threshold, float64 ``(K, n_tiou)``; NaN for classes without truth.

    ``detections`` is ``{video id: (intervals (N, 2) seconds, classes (N,), scores (N,))}``, classes as label names or
    as indices into ``dataset.labels``. All videos of ``dataset`` count, with detections or not: give it the
    subset to be evaluated, and only its videos with instances if a false alarm elsewhere shall cost nothing.
    ``ambiguous`` is ``{video id: intervals (M, 2) seconds}`` for the definition ``thumos14``. What happens to
    detections in videos that the data set does not have is said by ``unknown_videos``: an error, false positives as
    in the ActivityNet toolkit, or nothing.

    Raises UserError on unknown classes and videos, intervals that are reversed or not finite, scores that are not
    numbers, and thresholds outside [0, 1], naming the video.
    """
    index = {video: position for position, video in enumerate(dataset.videos)}
    strangers = [video for video in detections if video not in index]
    if strangers and unknown_videos == "refuse":
        raise UserError(
            f"{len(strangers)} of {len(detections)} videos with detections are not in data set {dataset.name!r}, "
            f"the first is {strangers[0]!r}; choose the right subset, or count or drop unknown videos"
        )
    if unknown_videos == "count":
        index.update({video: len(dataset.videos) + number for number, video in enumerate(strangers)})
    scored = Scored(*_stack(detections, index, lambda video, found: _checked(video, found, dataset)))
    marks = _stack(ambiguous or {}, index, lambda video, found: _unscored(as_intervals(found, f"ambiguous {video!r}")))
    ranked = rank(scored, truths_of(dataset), len(dataset.labels), thresholds, definition, Truths(*marks[:3]))
    return average_precision_of(ranked)


def _stack(
    by_video: Mapping[str, Any], index: Mapping[str, int], rows: Callable[[str, Any], tuple[Int, Float, Float]]
) -> tuple[Int, Int, Float, Float]:
    """Video indices, classes, intervals and scores of the videos that are in ``index``, one below the other."""
    known = [video for video in by_video if video in index]
    parts = [_unscored(np.zeros((0, 2))), *(rows(video, by_video[video]) for video in known)]
    classes, intervals, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    videos = np.array([-1, *(index[video] for video in known)], dtype=np.int64)
    return np.repeat(videos, [len(part[0]) for part in parts]), classes, intervals, scores


def _unscored(intervals: Float) -> tuple[Int, Float, Float]:
    return np.zeros(len(intervals), dtype=np.int64), intervals, np.zeros(len(intervals))


def _checked(video: str, found: tuple[ArrayLike, ArrayLike, ArrayLike], dataset: Dataset) -> tuple[Int, Float, Float]:
    """Class indices, intervals and scores of one video's detections, as arrays that fit together."""
    boxes = as_intervals(found[0], f"detections of video {video!r}")
    names, ranking = np.asarray(found[1]), np.asarray(found[2], dtype=np.float64)
    if names.shape != (len(boxes),) or ranking.shape != (len(boxes),):
        raise UserError(
            f"video {video!r} has {len(boxes)} intervals, but labels of shape {names.shape} "
            f"and scores of shape {ranking.shape}"
        )
    if np.isnan(ranking).any():
        raise UserError(f"detection {int(np.isnan(ranking).argmax())} of video {video!r} has a score that is no number")
    if len(names) and names.dtype.kind not in "iu":
        unknown = set(names.tolist()) - set(dataset.labels)
        if unknown:
            raise UserError(
                f"video {video!r} has detections of the unknown class {min(unknown, key=str)!r}; "
                f"data set {dataset.name!r} has {', '.join(dataset.labels)}"
            )
        names = np.array([dataset.label_index[name] for name in names.tolist()])
    classes = names.astype(np.int64)
    if classes.min(initial=0) < 0 or classes.max(initial=-1) >= len(dataset.labels):
        raise UserError(
            f"video {video!r} has detections of classes {classes.min()} to {classes.max()}, "
            f"but data set {dataset.name!r} has {len(dataset.labels)} classes, counted from 0"
        )
    return classes, boxes, ranking


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
    "average_precision",
    "average_precision_of",
    "mean_average_precision",
    "truths_of",
    "video_average_precision",
]
