"""Metrics of labels of frames: per-frame average precision, and the metrics of action segmentation.

Per-frame average precision ranks the points of all videos by their score for a class. It is the metric of Charades
(``Charades_v1_localize.m``: 25 points per video) and MultiTHUMOS (Yeung et al., Every Moment Counts, IJCV 2018: every
frame). Accuracy, edit score and F1 at an overlap compare one label per frame (Lea et al., Temporal Convolutional
Networks for Action Segmentation and Detection, CVPR 2017, as computed by the evaluation of MS-TCN, Abu Farha and Gall,
CVPR 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssn_feat.evaluation.points import BACKGROUND

Float = NDArray[np.float64]
Int = NDArray[np.int64]

OVERLAPS = (0.10, 0.25, 0.50)
"""The usual overlaps of F1."""


def frame_average_precision(scores: Float, truth: NDArray[np.bool_]) -> float:
    """Average precision of points ``(P,)``: the mean over the true points of the precision at their score.

    Points with equal scores are retrieved together, so the result does not depend on the order of points, unlike that
    of ``Charades_v1_localize.m``, which it equals for distinct scores. Points without a score (``-inf``) are retrieved
    last. NaN without true points.
    """
    positives = int(truth.sum())
    if not positives:
        return float("nan")
    scored = np.flatnonzero(scores > -np.inf)
    order = scored[np.argsort(-scores[scored], kind="stable")]
    ranked, hits = scores[order], np.cumsum(truth[order])
    # The last point of each group of equal scores, and of all points.
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(order) - 1) if len(order) else order
    retrieved, correct = np.append(last + 1, len(scores)), np.append(hits[last], positives)
    return float((np.diff(correct, prepend=0) * (correct / retrieved)).sum() / positives)


@dataclass(frozen=True)
class Segments:
    """The runs of equal labels in a sequence, without background."""

    labels: Int
    """Class of each segment, ``(S,)``."""
    starts: Int
    """First position of each segment, ``(S,)``."""
    ends: Int
    """Position after the last one of each segment, ``(S,)``."""


def segments_of(labels: Int) -> Segments:
    """The segments of a sequence of labels ``(T,)``, in which BACKGROUND stands for no action."""
    starts = np.flatnonzero(np.diff(labels, prepend=BACKGROUND - 1))
    ends = np.append(starts[1:], len(labels))[: len(starts)]
    actions = labels[starts] != BACKGROUND
    return Segments(labels[starts][actions], starts[actions], ends[actions])


def edit_score(predicted: Segments, truth: Segments) -> float:
    """1 minus the Levenshtein distance of the sequences of segment labels, divided by the longer length; in [0, 1].

    1 if both are empty.
    """
    longest = max(len(predicted.labels), len(truth.labels))
    return 1.0 - _distance(predicted.labels, truth.labels) / longest if longest else 1.0


def _distance(left: Int, right: Int) -> int:
    positions = np.arange(len(right) + 1)
    row = positions
    for number, label in enumerate(left, start=1):
        changed = np.append(number, np.minimum(row[1:] + 1, row[:-1] + (right != label)))
        # Insertions: the smallest value to the left plus the distance to it.
        row = np.minimum.accumulate(changed - positions) + positions
    return int(row[-1])


def hits_at(predicted: Segments, truth: Segments, overlaps: Sequence[float]) -> Int:
    """Number of true positives at each overlap, int64 ``(len(overlaps),)``.

    In the order of time, each predicted segment selects the true segment of its class with the largest IoU (ties: the
    first), and is a hit if the IoU reaches the overlap and that segment has not been hit before.
    """
    if not len(truth.labels) or not len(predicted.labels):
        return np.zeros(len(overlaps), dtype=np.int64)
    shared = np.minimum(predicted.ends[:, None], truth.ends) - np.maximum(predicted.starts[:, None], truth.starts)
    hull = np.maximum(predicted.ends[:, None], truth.ends) - np.minimum(predicted.starts[:, None], truth.starts)
    iou = np.where(predicted.labels[:, None] == truth.labels, np.maximum(shared, 0) / hull, 0.0)
    best = iou.argmax(axis=1)
    reached = iou[np.arange(len(best)), best]
    return np.array([len(np.unique(best[reached >= overlap])) for overlap in overlaps], dtype=np.int64)


@dataclass(frozen=True)
class SegmentalScores:
    """The metrics of action segmentation, each in [0, 1]."""

    accuracy: float
    """Share of the frames with the correct label; background is a label. NaN without frames."""
    edit: float
    """Mean edit score of the videos."""
    f1: tuple[float, ...]
    """F1 at each overlap, with the segments of all videos counted together; NaN without segments."""
    overlaps: tuple[float, ...]
    """The overlaps."""


def segmental_scores(
    predicted: Sequence[Int], truth: Sequence[Int], overlaps: Sequence[float] = OVERLAPS
) -> SegmentalScores:
    """Accuracy, edit score and F1 of one label per frame.

    ``predicted``, ``truth``: labels of each video, int64 ``(T,)``; BACKGROUND stands for no action.
    """
    frames = sum(map(len, truth))
    correct = sum(int((a == b).sum()) for a, b in zip(predicted, truth, strict=True))
    pairs = [(segments_of(a), segments_of(b)) for a, b in zip(predicted, truth, strict=True)]
    hits = sum((hits_at(a, b, overlaps) for a, b in pairs), np.zeros(len(overlaps), dtype=np.int64))
    # 2 TP / (predicted + true) is the harmonic mean of precision and recall.
    segments = sum(len(a.labels) + len(b.labels) for a, b in pairs)
    f1 = 2 * hits / segments if segments else np.full(len(overlaps), np.nan)
    edit = [edit_score(a, b) for a, b in pairs]
    return SegmentalScores(
        correct / frames if frames else float("nan"),
        float(np.mean(edit)) if edit else float("nan"),
        tuple(f1.tolist()),
        tuple(overlaps),
    )


__all__ = [
    "OVERLAPS",
    "SegmentalScores",
    "Segments",
    "edit_score",
    "frame_average_precision",
    "hits_at",
    "segmental_scores",
    "segments_of",
]
