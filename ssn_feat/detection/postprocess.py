"""From raw scores to detections: which (proposal, class) pairs count, suppression, refined boundaries.

Each stage is a function on whole data sets: :func:`select`, :func:`suppress`, :func:`refine`; :func:`postprocess` runs
them. With a preset and its defaults each stage does what the original evaluation does, row for row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssn_feat.detection.classifier import best_classes, class_factors, read_class_scores
from ssn_feat.detection.scores import Float32, ProposalScores
from ssn_feat.detection.suppression import soft_nms_grouped, vote_grouped
from ssn_feat.errors import UserError
from ssn_feat.intervals import nms_grouped
from ssn_feat.results.detections import Detections
from ssn_feat.results.ragged import Float, Int, offsets_of

Scoring = Literal["foreground", "all", "logit"]


@dataclass(frozen=True)
class PostprocessOptions:
    """How raw scores of proposals become detections."""

    scoring: Scoring = "foreground"
    """What multiplies exp(completeness): softmax over the classes alone (foreground), softmax with background (all:
    keeps "this is nothing" in the score), or the bare activity (logit: may be negative)."""
    top_k: int | None = 2000
    """How many (proposal, class) pairs of highest score a video keeps before NMS; None keeps all."""
    classifier: Path | None = None
    """Video-level class scores of an outside classifier (.json, .csv, .npz): only its best classes of a video count."""
    classifier_top: int = 2
    """How many classes of the outside classifier count for each video."""
    classifier_use: Literal["filter", "multiply"] = "filter"
    """Its best classes count as they are (filter, as the original), or times its score for them too (multiply)."""
    regression: bool = True
    """Whether boundaries are refined by the regression scores."""
    order: Literal["nms-first", "regression-first"] = "nms-first"
    """NMS on proposals, then regression (the original), or regression, then NMS on its result (mmaction)."""
    nms: Literal["hard", "linear", "gaussian", "none"] = "hard"
    """Remove overlapping detections of a class (hard), lower their scores (soft NMS: linear, gaussian), or neither."""
    nms_threshold: float = 0.2
    """tIoU above which hard NMS removes, linear soft NMS lowers, and voting averages."""
    nms_sigma: float = 0.5
    """Gaussian soft NMS multiplies scores by exp(-tIoU^2 / sigma)."""
    voting: bool = False
    """Move each kept detection to the score-weighted mean of all those of its class that overlap it beyond
    nms_threshold."""
    max_detections: int | None = None
    """How many detections of highest score a video keeps in the end; None keeps all."""

    def __post_init__(self) -> None:
        for name in ("top_k", "max_detections"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1 (or None for all), not {value}")
        if self.classifier_top < 1:
            raise UserError(f"classifier_top must be at least 1, not {self.classifier_top}")
        if not 0 <= self.nms_threshold <= 1:
            raise UserError(f"nms_threshold is a tIoU between 0 and 1, not {self.nms_threshold}")
        if not self.nms_sigma > 0:
            raise UserError(f"nms_sigma must be above 0, not {self.nms_sigma}")
        if self.scoring == "logit" and (self.nms in ("linear", "gaussian") or self.voting):
            raise UserError("soft NMS and voting weigh by scores, which may be negative with scoring 'logit'")


_THUMOS = PostprocessOptions(scoring="foreground", top_k=2000, nms_threshold=0.2)
_ACTIVITYNET = PostprocessOptions(scoring="foreground", top_k=60, nms_threshold=0.6)

# The numbers of the original. With an outside classifier it neither cuts to the top k nor scores in the same way.
PRESETS: dict[str, PostprocessOptions] = {
    "thumos14": _THUMOS,
    "activitynet1.2": _ACTIVITYNET,
    "activitynet1.3": _ACTIVITYNET,
    "thumos14-classifier": PostprocessOptions(scoring="all", top_k=None, nms_threshold=0.2),
    "activitynet1.2-classifier": PostprocessOptions(scoring="logit", top_k=None, nms_threshold=0.6),
    "activitynet1.3-classifier": PostprocessOptions(scoring="logit", top_k=None, nms_threshold=0.6),
}


@dataclass(frozen=True)
class ScoredPairs:
    """(proposal, class) pairs of a data set that are still in the running."""

    proposals: Int
    """Row of the proposal in the :class:`~ssn_feat.detection.scores.ProposalScores`, int64 ``(M,)``."""
    classes: Int
    """Class index, int64 ``(M,)``."""
    scores: Float32 | Float
    """Combined score ``(M,)``."""
    intervals: Float
    """Where the detection is by now, float64 ``(M, 2)``, seconds."""

    def __len__(self) -> int:
        return len(self.proposals)

    def take(self, kept: Int) -> ScoredPairs:
        """The candidates at positions ``kept``, in that order."""
        return ScoredPairs(self.proposals[kept], self.classes[kept], self.scores[kept], self.intervals[kept])


def combined_scores(activity: Float32, completeness: Float32, scoring: Scoring) -> Float32:
    """Class scores ``(N, K)`` of proposals: activity times exp(completeness) (SSN section 3.3).

    ``activity`` are logits ``(N, K + 1)`` with background first, ``completeness`` logits ``(N, K)``.
    Raises UserError where a score leaves the range of float32.
    """
    logits = activity if scoring == "all" else activity[:, 1:]
    if scoring == "logit":
        probability = logits
    else:
        probability = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        probability /= probability.sum(axis=1, keepdims=True)
        probability = probability[:, -completeness.shape[1] :]
    with np.errstate(over="ignore", invalid="ignore"):
        combined: Float32 = np.exp(completeness) * probability
    if not np.isfinite(combined.sum(dtype=np.float64)):
        raise UserError(
            f"completeness scores up to {completeness.max():g} are too large to be logits of a trained head"
        )
    return combined


def select(
    scores: ProposalScores,
    options: PostprocessOptions,
    video_classes: Mapping[str, NDArray[np.bool_]] | None = None,
    factors: Mapping[str, NDArray[np.floating]] | None = None,
) -> ScoredPairs:
    """The pairs of each video that survive the filter, in the order of videos, proposals, classes.

    ``video_classes``: per video which classes count, bool ``(K,)``; None for all. ``factors``: per video what the
    scores of each class are multiplied with, ``(K,)``. Equal scores at the edge of the top k: the earlier pair stays.
    """
    pairs, values = [], []
    classes = len(scores.labels)
    for video in scores.ids:
        rows = scores.rows(video)
        combined = combined_scores(scores.activity[rows], scores.completeness[rows], options.scoring)
        if factors is not None:
            combined = combined * factors[video].astype(np.float32)
        flat = combined.ravel()
        if video_classes is None:
            chosen = np.arange(len(flat))
        else:
            chosen = np.flatnonzero(np.broadcast_to(video_classes[video], combined.shape))
        if options.top_k is not None:
            chosen = chosen[top(flat[chosen], options.top_k)]
        pairs.append(chosen + rows.start * classes)
        values.append(flat[chosen])
    pair = np.concatenate([np.zeros(0, np.int64), *pairs])
    proposals = pair // classes
    score = np.concatenate([np.zeros(0, np.float32), *values])
    return ScoredPairs(proposals, pair % classes, score, scores.intervals[proposals])


def top(values: NDArray[np.floating], count: int) -> Int:
    """Positions of the ``count`` largest values, rising; among equal ones the first. Linear time."""
    if len(values) <= count:
        return np.arange(len(values))
    edge = np.partition(values, len(values) - count)[len(values) - count]
    above = values > edge
    ties = np.flatnonzero(values == edge)[: count - np.count_nonzero(above)]
    above[ties] = True
    return np.flatnonzero(above)


def suppress(scores: ProposalScores, candidates: ScoredPairs, options: PostprocessOptions) -> ScoredPairs:
    """Non-maximum suppression within each class of each video, as ``options`` say; order is not kept."""
    if options.nms == "none" or not len(candidates):
        return candidates
    groups = scores.videos[candidates.proposals] * len(scores.labels) + candidates.classes
    if options.nms == "hard":
        kept = nms_grouped(candidates.intervals, candidates.scores, groups, options.nms_threshold)
        result = candidates.take(kept)
    else:
        lowered = soft_nms_grouped(
            candidates.intervals, candidates.scores, groups, options.nms, options.nms_threshold, options.nms_sigma
        )
        kept = np.flatnonzero(lowered > 0)
        result = ScoredPairs(
            candidates.proposals[kept], candidates.classes[kept], lowered[kept], candidates.intervals[kept]
        )
    if not options.voting:
        return result
    voted = vote_grouped(candidates.intervals, candidates.scores, groups, kept, options.nms_threshold)
    return ScoredPairs(result.proposals, result.classes, result.scores, voted)


def refine(scores: ProposalScores, candidates: ScoredPairs) -> ScoredPairs:
    """Move the boundaries by the regression of each candidate's class (SSN section 3.4), clipped to the video.

    The centre moves by ``regression[0]`` lengths, the length grows by ``exp(regression[1])``.
    Raises UserError where ``scores`` have no regression.
    """
    if scores.regression is None:
        raise UserError("these scores have no regression part: give --no-regression")
    shift, growth = scores.regression[candidates.proposals, candidates.classes].T.astype(np.float64)
    starts, ends = candidates.intervals.T
    duration = ends - starts
    centre = (starts + ends) / 2 + duration * shift
    with np.errstate(over="ignore"):
        half = duration * np.exp(growth) / 2
    limits = scores.durations[scores.videos[candidates.proposals]][:, None]
    intervals = np.clip(np.stack([centre - half, centre + half], axis=1), 0, limits)
    return ScoredPairs(candidates.proposals, candidates.classes, candidates.scores, intervals)


def postprocess(
    scores: ProposalScores,
    options: PostprocessOptions,
    class_scores: Mapping[str, NDArray[np.floating]] | None = None,
) -> Detections:
    """Detections of a data set from the raw scores of its proposals, best first within each video.

    ``class_scores``: video-level scores ``(K,)`` of an outside classifier for every video, of which the
    ``options.classifier_top`` best classes count; without them they are read from ``options.classifier``, if given.
    Raises UserError where there are none of a video, or where they are to be multiplied with and are below 0.
    """
    if class_scores is None and options.classifier is not None:
        class_scores = read_class_scores(options.classifier, scores.labels)
    video_classes, factors = None, None
    if class_scores is not None:
        video_classes = best_classes(class_scores, scores, options.classifier_top)
    if options.classifier_use == "multiply":
        if class_scores is None or video_classes is None:
            raise UserError(
                "--classifier-use multiply needs the scores of an outside classifier: add --classifier FILE"
            )
        factors = class_factors(class_scores, video_classes)
    candidates = select(scores, options, video_classes, factors)
    regress = options.regression
    if regress and options.order == "regression-first":
        candidates = refine(scores, candidates)
    candidates = suppress(scores, candidates, options)
    if regress and options.order == "nms-first":
        candidates = refine(scores, candidates)
    return to_detections(scores, candidates, options.max_detections)


def to_detections(scores: ProposalScores, candidates: ScoredPairs, limit: int | None = None) -> Detections:
    """ScoredPairs as detections: best first within each video (ties: the earlier proposal), at most ``limit`` each."""
    videos = scores.videos[candidates.proposals]
    order = np.lexsort((candidates.classes, candidates.proposals, -candidates.scores, videos))
    counts = np.bincount(videos, minlength=len(scores.ids))
    detections = Detections(
        scores.ids,
        offsets_of(counts),
        scores.labels,
        candidates.intervals[order],
        candidates.classes[order],
        candidates.scores[order].astype(np.float64),
    )
    return detections if limit is None else detections.top(limit)
