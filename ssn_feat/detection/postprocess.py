"""From raw scores to detections: selection of (proposal, class) pairs, suppression, refinement of boundaries.

Each stage is a function on a whole data set: :func:`select`, :func:`suppress`, :func:`refine`; :func:`postprocess` runs
them all. With a preset, each stage gives the same rows as the evaluation of the original code.
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
    """Post-processing of the raw scores of proposals."""

    scoring: Scoring = "foreground"
    """Factor of exp(completeness): softmax over the classes (foreground), softmax over classes and background (all), or
    the activity logit (logit: may be negative)."""
    top_k: int | None = 2000
    """Number of (proposal, class) pairs of highest score that a video keeps before NMS; None: all."""
    classifier: Path | None = None
    """Video-level class scores of an outside classifier (.json, .csv, .npz): a video keeps only its best classes."""
    classifier_top: int = 2
    """Number of classes that a video keeps by the outside classifier."""
    classifier_use: Literal["filter", "multiply"] = "filter"
    """Only keep its best classes (filter, as the original code), or also multiply by its scores (multiply)."""
    regression: bool = True
    """Whether boundaries are refined by the regression scores."""
    order: Literal["nms-first", "regression-first"] = "nms-first"
    """NMS before regression (as the original code), or regression before NMS (as mmaction)."""
    nms: Literal["hard", "linear", "gaussian", "none"] = "hard"
    """Remove overlapping detections of a class (hard), lower their scores (linear or gaussian soft NMS), or none."""
    nms_threshold: float = 0.2
    """tIoU above which hard NMS removes, linear soft NMS lowers, and voting averages."""
    nms_sigma: float = 0.5
    """Sigma of gaussian soft NMS, which multiplies scores by exp(-tIoU^2 / sigma)."""
    voting: bool = False
    """Replace each kept detection by the score-weighted mean of all detections of its class that overlap it by more
    than nms_threshold."""
    max_detections: int | None = None
    """Number of detections of highest score that a video keeps at the end; None: all."""

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
            raise UserError("soft NMS and voting need scores of at least 0, which scoring 'logit' does not guarantee")


_THUMOS = PostprocessOptions(scoring="foreground", top_k=2000, nms_threshold=0.2)
_ACTIVITYNET = PostprocessOptions(scoring="foreground", top_k=60, nms_threshold=0.6)

# The values of the original code. With an outside classifier it keeps all pairs and scores them differently.
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
    """Selected (proposal, class) pairs of a data set."""

    proposals: Int
    """Row of the proposal in the :class:`~ssn_feat.detection.scores.ProposalScores`, int64 ``(M,)``."""
    classes: Int
    """Class index, int64 ``(M,)``."""
    scores: Float32 | Float
    """Combined score ``(M,)``."""
    intervals: Float
    """Current boundaries, float64 ``(M, 2)``, seconds."""

    def __len__(self) -> int:
        return len(self.proposals)

    def take(self, kept: Int) -> ScoredPairs:
        """The pairs at positions ``kept``, in that order."""
        return ScoredPairs(self.proposals[kept], self.classes[kept], self.scores[kept], self.intervals[kept])


def combined_scores(activity: Float32, completeness: Float32, scoring: Scoring) -> Float32:
    """Class scores ``(N, K)`` of proposals: activity times exp(completeness) (SSN paper, section 3.3).

    ``activity``: logits ``(N, K + 1)`` with background first; ``completeness``: logits ``(N, K)``.
    Raises UserError if a score exceeds the range of float32.
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
    """The pairs that pass the filter, sorted by video, proposal and class.

    ``video_classes``: mask of the classes that a video keeps, bool ``(K,)``; None: all. ``factors``: factor of the
    scores of each class, ``(K,)``, by video. Of equal scores at the limit of the top k, the earlier pairs are kept.
    """
    rows_of_pairs, values = [], []
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
        rows_of_pairs.append(chosen + rows.start * classes)
        values.append(flat[chosen])
    pair = np.concatenate([np.zeros(0, np.int64), *rows_of_pairs])
    proposals = pair // classes
    score = np.concatenate([np.zeros(0, np.float32), *values])
    return ScoredPairs(proposals, pair % classes, score, scores.intervals[proposals])


def top(values: NDArray[np.floating], count: int) -> Int:
    """Positions of the ``count`` largest values in ascending order (ties: the first ones). Linear time."""
    if len(values) <= count:
        return np.arange(len(values))
    edge = np.partition(values, len(values) - count)[len(values) - count]
    above = values > edge
    ties = np.flatnonzero(values == edge)[: count - np.count_nonzero(above)]
    above[ties] = True
    return np.flatnonzero(above)


def suppress(scores: ProposalScores, pairs: ScoredPairs, options: PostprocessOptions) -> ScoredPairs:
    """Non-maximum suppression within each class of each video; the order may change."""
    if options.nms == "none" or not len(pairs):
        return pairs
    groups = scores.videos[pairs.proposals] * len(scores.labels) + pairs.classes
    if options.nms == "hard":
        kept = nms_grouped(pairs.intervals, pairs.scores, groups, options.nms_threshold)
        result = pairs.take(kept)
    else:
        lowered = soft_nms_grouped(
            pairs.intervals, pairs.scores, groups, options.nms, options.nms_threshold, options.nms_sigma
        )
        kept = np.flatnonzero(lowered > 0)
        result = ScoredPairs(pairs.proposals[kept], pairs.classes[kept], lowered[kept], pairs.intervals[kept])
    if not options.voting:
        return result
    voted = vote_grouped(pairs.intervals, pairs.scores, groups, kept, options.nms_threshold)
    return ScoredPairs(result.proposals, result.classes, result.scores, voted)


def refine(scores: ProposalScores, pairs: ScoredPairs) -> ScoredPairs:
    """Refine the boundaries by the regression of the class of each pair (SSN paper, section 3.4), clipped to the video.

    The centre moves by ``regression[0]`` times the length; the length is multiplied by ``exp(regression[1])``.
    Raises UserError if ``scores`` have no regression.
    """
    if scores.regression is None:
        raise UserError("these scores have no regression: add --no-regression")
    shift, growth = scores.regression[pairs.proposals, pairs.classes].T.astype(np.float64)
    starts, ends = pairs.intervals.T
    duration = ends - starts
    centre = (starts + ends) / 2 + duration * shift
    with np.errstate(over="ignore"):
        half = duration * np.exp(growth) / 2
    limits = scores.durations[scores.videos[pairs.proposals]][:, None]
    intervals = np.clip(np.stack([centre - half, centre + half], axis=1), 0, limits)
    return ScoredPairs(pairs.proposals, pairs.classes, pairs.scores, intervals)


def postprocess(
    scores: ProposalScores,
    options: PostprocessOptions,
    class_scores: Mapping[str, NDArray[np.floating]] | None = None,
) -> Detections:
    """Detections of a data set from the raw scores of its proposals, best first within each video.

    ``class_scores``: video-level scores ``(K,)`` of an outside classifier by video, of which the
    ``options.classifier_top`` best classes are kept; by default they are read from ``options.classifier``, if given.
    Raises UserError if a video has no class scores, or if they are multiplied and negative.
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
    pairs = select(scores, options, video_classes, factors)
    regress = options.regression
    if regress and options.order == "regression-first":
        pairs = refine(scores, pairs)
    pairs = suppress(scores, pairs, options)
    if regress and options.order == "nms-first":
        pairs = refine(scores, pairs)
    return to_detections(scores, pairs, options.max_detections)


def to_detections(scores: ProposalScores, pairs: ScoredPairs, limit: int | None = None) -> Detections:
    """The pairs as detections, best first within each video (ties: the earlier proposal), at most ``limit`` each."""
    videos = scores.videos[pairs.proposals]
    order = np.lexsort((pairs.classes, pairs.proposals, -pairs.scores, videos))
    counts = np.bincount(videos, minlength=len(scores.ids))
    detections = Detections(
        scores.ids,
        offsets_of(counts),
        scores.labels,
        pairs.intervals[order],
        pairs.classes[order],
        pairs.scores[order].astype(np.float64),
        scores.trained_on,
        dict(zip(scores.ids, scores.durations.tolist(), strict=True)),
    )
    return detections if limit is None else detections.top(limit)
