"""Points in time of all videos of a data set, and what annotations and results say at each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_precision import truths_of
from ssn_feat.results.detections import Detections
from ssn_feat.results.snippet_scores import SnippetScores

Float = NDArray[np.float64]
Int = NDArray[np.int64]

BACKGROUND = -1
"""Label of points without an action."""

ClassScores = Callable[[int], Float]
"""From a class to its score at every point, float64 ``(P,)``; ``-inf`` where no score is known."""


@dataclass(frozen=True)
class Points:
    """P ascending points in time of each of the V videos of a data set, one video after the other."""

    times: Float
    """Seconds, ``(P,)``."""
    offsets: Int
    """Where the points of each video start, int64 ``(V + 1,)``."""
    closed: bool
    """Whether an interval contains its end; it always contains its start."""

    def covered(self, videos: Int, intervals: Float) -> tuple[Int, Int]:
        """First point of each interval of a video, and the point after its last one, int64 ``(N,)`` each.

        ``videos``: positions ``(N,)``; ``intervals``: ``(N, 2)``, seconds.
        """
        first, last = np.zeros(len(videos), dtype=np.int64), np.zeros(len(videos), dtype=np.int64)
        order = np.argsort(videos, kind="stable")
        bounds = np.searchsorted(videos[order], np.arange(len(self.offsets)))
        for video in np.unique(videos):
            rows = order[bounds[video] : bounds[video + 1]]
            times = self.times[self.offsets[video] : self.offsets[video + 1]]
            first[rows] = self.offsets[video] + np.searchsorted(times, intervals[rows, 0], side="left")
            ends = np.searchsorted(times, intervals[rows, 1], side="right" if self.closed else "left")
            last[rows] = self.offsets[video] + ends
        return first, np.maximum(first, last)

    def split(self, values: Int) -> list[Int]:
        """The values ``(P,)`` of each video."""
        return np.split(values, self.offsets[1:-1])


def equidistant_points(dataset: Dataset, number: int) -> Points:
    """``number`` points of each video: 0, d / n, ..., (n - 1) d / n of its duration d; intervals contain their ends.

    As in ``Charades_v1_localize.m``, the evaluation of Charades (Sigurdsson et al., Hollywood in Homes, 2016), which
    uses 25 points. Raises UserError if ``number`` is below 1.
    """
    if number < 1:
        raise UserError(f"the number of points per video must be at least 1, not {number}")
    durations = np.array([video.duration for video in dataset.videos.values()])
    times = durations[:, None] * (np.arange(number) / number)
    return Points(times.ravel(), np.arange(len(durations) + 1) * number, closed=True)


def every_frame(dataset: Dataset, fps: float | None = None) -> Points:
    """The start of each frame of each video: 0, 1 / fps, 2 / fps, ... below its duration.

    ``fps``: frames per second; by default those in the annotations. Raises UserError if they are unknown or not
    positive.
    """
    times = []
    for video in dataset.videos.values():
        rate = fps or video.fps
        if rate is None or not (np.isfinite(rate) and rate > 0):
            raise UserError(f"the frame rate of video {video.id!r} is unknown: give frames per second with --fps")
        # Slightly fewer, so that rounding of the duration adds no frame.
        times.append(np.arange(max(1, int(np.ceil(video.duration * rate - 1e-6)))) / rate)
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in times])]).astype(np.int64)
    return Points(np.concatenate([np.zeros(0), *times]), offsets, closed=False)


def true_classes(dataset: Dataset, points: Points) -> Callable[[int], NDArray[np.bool_]]:
    """A function from a class to whether an instance of it covers each point, bool ``(P,)``."""
    truths = truths_of(dataset)
    first, last = points.covered(truths.videos, truths.intervals)

    def of_class(label: int) -> NDArray[np.bool_]:
        covered = np.zeros(len(points.times), dtype=bool)
        for row in np.flatnonzero(truths.classes == label):
            covered[first[row] : last[row]] = True
        return covered

    return of_class


def true_labels(dataset: Dataset, points: Points) -> tuple[Int, int]:
    """The class of each point, int64 ``(P,)``, and the number of points that instances of several classes cover.

    There, the instance that starts last counts; of those that start together, the shortest.
    """
    truths = truths_of(dataset)
    first, last = points.covered(truths.videos, truths.intervals)
    starts, ends = truths.intervals.T
    labels = np.full(len(points.times), BACKGROUND, dtype=np.int64)
    several = np.zeros(len(labels), dtype=bool)
    for row in np.lexsort((truths.classes, -ends, starts)):
        inside = slice(first[row], last[row])
        several[inside] |= (labels[inside] != BACKGROUND) & (labels[inside] != truths.classes[row])
        labels[inside] = truths.classes[row]
    return labels, int(several.sum())


def detection_scores(detections: Detections, points: Points) -> ClassScores:
    """The highest score of the detections of a class that cover each point.

    ``detections`` have the videos of the points in their order (:meth:`Detections.matched`).
    """
    first, last = points.covered(detections.videos, detections.intervals)
    order = np.lexsort((detections.scores, detections.classes))
    bounds = np.searchsorted(detections.classes[order], np.arange(len(detections.labels) + 1))

    def of_class(label: int) -> Float:
        scores = np.full(len(points.times), -np.inf)
        for row in order[bounds[label] : bounds[label + 1]]:  # the best last
            scores[first[row] : last[row]] = detections.scores[row]
        return scores

    return of_class


def detected_labels(detections: Detections, points: Points, least: float | None = None) -> Int:
    """The class of the detection of highest score that covers each point, int64 ``(P,)``.

    Detections below ``least`` do not count. Of equal scores, the detection that starts last counts.
    """
    first, last = points.covered(detections.videos, detections.intervals)
    starts, ends = detections.intervals.T
    labels = np.full(len(points.times), BACKGROUND, dtype=np.int64)
    for row in np.lexsort((detections.classes, -ends, starts, detections.scores)):
        if least is None or detections.scores[row] >= least:
            labels[first[row] : last[row]] = detections.classes[row]
    return labels


def snippet_at(scores: SnippetScores, dataset: Dataset, points: Points) -> Int:
    """The row of ``scores`` whose snippet contains each point, int64 ``(P,)``; -1 in videos without scores.

    Points before the first snippet or after the last one belong to these.
    """
    rows = np.full(len(points.times), -1, dtype=np.int64)
    for number, video in enumerate(dataset.videos):
        if video in scores and scores.counts[scores.index[video]]:
            own, part = scores.rows(video), slice(points.offsets[number], points.offsets[number + 1])
            position = np.searchsorted(scores.spans[own, 0], points.times[part], side="right") - 1
            rows[part] = own.start + np.maximum(position, 0)
    return rows


def snippet_class_scores(scores: SnippetScores, at: Int) -> ClassScores:
    """The score of the snippet at each point; ``at`` by :func:`snippet_at`."""
    return lambda label: np.where(at >= 0, scores.scores[at, label].astype(np.float64), -np.inf)


def snippet_labels(scores: SnippetScores, at: Int, least: float) -> Int:
    """The class with the highest score of the snippet at each point, if it is at least ``least``: int64 ``(P,)``."""
    best = scores.scores.argmax(axis=1)
    labels = np.where(scores.scores[np.arange(len(best)), best] >= least, best, BACKGROUND)
    return np.where(at >= 0, labels[at], BACKGROUND)


__all__ = [
    "BACKGROUND",
    "ClassScores",
    "Points",
    "detected_labels",
    "detection_scores",
    "equidistant_points",
    "every_frame",
    "snippet_at",
    "snippet_class_scores",
    "snippet_labels",
    "true_classes",
    "true_labels",
]
