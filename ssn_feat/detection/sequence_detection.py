"""Detections and proposals of heads that read whole videos: suppression, voting, and rows to seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ssn_feat.detection.suppression import soft_nms_grouped
from ssn_feat.errors import UserError
from ssn_feat.heads.row_grid import RowGrid
from ssn_feat.heads.sequence_head import RowIntervals, SequenceHead
from ssn_feat.heads.sequences import Packing
from ssn_feat.intervals import nms_grouped, tiou
from ssn_feat.results.detections import Detections, VideoDetections
from ssn_feat.results.ragged import Float
from ssn_feat.runs.checkpoints import Run
from ssn_feat.store import FeatureStore


@dataclass(frozen=True)
class SuppressionOptions:
    """Suppression of the overlapping detections of a head that reads whole videos."""

    suppression: Literal["soft", "hard"] = "soft"
    """soft: lower the scores of detections that overlap a better one. hard: drop them."""
    soft_sigma: float = 0.5
    """Sigma of soft suppression, which multiplies scores by exp(-tIoU^2 / sigma)."""
    hard_overlap: float = 0.1
    """tIoU above which hard suppression drops a detection."""
    across_classes: bool = False
    """Suppress detections of different classes too."""
    vote_overlap: float = 0.0
    """With across_classes: replace each detection by the mean of all detections with at least this tIoU with it,
    weighted by score times tIoU; 0: off."""
    minimum_score: float = 0.001
    """Detections whose score is not above this are dropped."""
    most: int = 200
    """Maximum number of detections per video; those with the highest scores are kept."""

    def __post_init__(self) -> None:
        if not self.soft_sigma > 0 or self.most < 1 or self.minimum_score < 0:
            raise UserError("need soft_sigma > 0, most >= 1 and minimum_score >= 0")
        if not 0 <= self.hard_overlap <= 1 or not 0 <= self.vote_overlap <= 1:
            raise UserError("hard_overlap and vote_overlap must lie in [0, 1]")


class SequenceScorer:
    """Applies the head of one run to the rows of single videos.

    Raises UserError if the head does not give ``gives``.
    """

    def __init__(self, run: Run, gives: str) -> None:
        if not isinstance(run.head, SequenceHead) or run.head.gives != gives:
            made = f"gives {run.head.gives}, not" if isinstance(run.head, SequenceHead) else "does not give"
            raise UserError(f"{run.path or 'the run'} is a run of the {run.kind} head, which {made} {gives}")
        self.run, self.head = run, run.head

    def __call__(self, features: Mapping[str, NDArray[Any]], spans: Float, duration: float) -> RowIntervals:
        """Intervals of a video in seconds, clipped to it, before suppression.

        ``features``: rows ``(T, D)`` by stream; ``spans``: ``(T, 2)``, start and end of each row in seconds.
        """
        rows = self.run.prepare(features)
        packing = Packing.of([len(rows)], self.head.extent)
        with torch.inference_mode():
            found = self.head.results(packing.pack([rows]), packing)[0]
        return RowIntervals(RowGrid.of(spans).seconds(found.intervals), found.scores, found.classes)


def suppress(found: RowIntervals, options: SuppressionOptions) -> RowIntervals:
    """The detections of one video after suppression and voting, best first."""
    intervals, scores = found.intervals, found.scores
    groups = np.zeros_like(found.classes) if options.across_classes else found.classes
    if options.suppression == "soft":
        scores = soft_nms_grouped(intervals, scores, groups, "gaussian", 0.0, options.soft_sigma)
        order = np.argsort(-scores, kind="stable")
    else:
        kept = nms_grouped(intervals, scores, groups, options.hard_overlap)
        order = kept[np.argsort(-scores[kept], kind="stable")]
    best = order[scores[order] > options.minimum_score][: options.most]
    voted = intervals[best]
    if options.across_classes and options.vote_overlap:
        voted = vote(voted, intervals, found.scores, options.vote_overlap)
    return RowIntervals(voted, scores[best], found.classes[best])


def vote(intervals: Float, candidates: Float, scores: Float, threshold: float) -> Float:
    """The mean of the candidates that overlap with each interval, weighted by score times tIoU: float64 ``(N, 2)``.

    ``intervals``: ``(N, 2)``, each equal to one of ``candidates`` ``(M, 2)``; ``scores``: ``(M,)``; candidates with a
    tIoU below ``threshold`` do not count.
    """
    overlap = tiou(intervals, candidates)
    weights = np.where(overlap >= threshold, overlap * scores, 0.0)
    result: Float = weights @ candidates / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
    return result


def detect_sequences(
    store: FeatureStore,
    ids: Iterable[str],
    runs: Sequence[Run],
    options: SuppressionOptions,
    weights: Sequence[float] = (),
    gives: str = "detections",
    advance: Callable[[], None] = lambda: None,
) -> Detections:
    """Detections of each video, best first; those of several runs are joined before suppression.

    ``weights``: factor of the scores of each run, by default 1. Proposals are detections of one class. Raises UserError
    if a run does not give ``gives``, was trained on other features or classes, or a video is not in the store.
    """
    scorers = [SequenceScorer(run, gives) for run in runs]
    for run in runs:
        run.require_features(store.fingerprints, f"the store {store.path}")
        if run.labels != runs[0].labels:
            raise UserError(f"runs were trained on different classes: {runs[0].labels[:5]} and {run.labels[:5]}")
    factors = list(weights) or [1.0] * len(runs)
    streams = sorted({stream for run in runs for stream in run.streams})
    found, durations = {}, {}
    for video in store.read_all(ids, streams):
        parts = [scorer(video.features, video.spans, video.duration) for scorer in scorers]
        scores = np.concatenate([factor * part.scores for factor, part in zip(factors, parts, strict=True)])
        joined = RowIntervals(
            np.concatenate([part.intervals for part in parts]), scores, np.concatenate([part.classes for part in parts])
        )
        best = suppress(joined, options)
        found[video.id] = VideoDetections(np.clip(best.intervals, 0, video.duration), best.classes, best.scores)
        durations[video.id] = video.duration
        advance()
    labels = runs[0].labels if gives == "detections" else ("action",)
    return replace(Detections.of(labels, found), durations=durations)


__all__ = ["SequenceScorer", "SuppressionOptions", "detect_sequences", "suppress", "vote"]
