"""Recall of the best detections, precision-recall curves, and calibration of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError
from ssn_feat.evaluation.matching import Ranked, Scored, Truths, pairs

Float = NDArray[np.float64]
Int = NDArray[np.int64]

RECALLS = np.linspace(0.0, 1.0, 101)
BINS = 15


def recall_at_multiples(
    detections: Scored, truths: Truths, classes: int, thresholds: Sequence[float], multiples: Sequence[int]
) -> Float:
    """Recall@kx: float64 ``(len(multiples), n_tiou)``, mean over the classes that have truths; NaN if no class has any.

    In each video, the k x detections of highest score of a class with x truths count (ties: the earlier row). They find
    a truth if one of them has at least the tIoU with it; a detection may find several truths (Grauman et al., Ego4D,
    2022, for moment queries; the mean over classes follows ActionFormer). Raises UserError on multiples below 1.
    """
    if any(k < 1 for k in multiples):
        raise UserError(f"recall@kx needs multiples of at least 1, not {min(multiples)}")
    keys = [rows.videos * classes + rows.classes for rows in (detections, truths)]
    order = np.lexsort((-detections.scores, keys[0]))
    key, ranked = keys[0][order], detections.rows(order)
    # The rank of each detection in its class and video, in multiples of the number of truths there.
    groups, number = np.unique(keys[1], return_counts=True)
    at = np.searchsorted(groups, key)
    known = (at < len(groups)) & (groups[np.minimum(at, len(groups) - 1)] == key) if len(groups) else np.zeros(0, bool)
    best = np.zeros((len(multiples), len(truths.videos)))
    if known.any() and multiples:
        ranks = (np.arange(len(key)) - np.searchsorted(key, key))[known]
        multiple = ranks // number[at[known]] + 1
        rows = np.flatnonzero(known)[multiple <= max(multiples)]
        multiple = multiple[multiple <= max(multiples)]
        for one, truth in pairs(key[rows], keys[1]):
            overlap = _tiou(ranked.intervals[rows[one]], truths.intervals[truth])
            for level, k in enumerate(multiples):
                inside = multiple[one] <= k
                np.maximum.at(best[level], truth[inside], overlap[inside])
    total = np.bincount(truths.classes, minlength=classes)
    is_found = best[:, None, :] >= np.asarray(thresholds, dtype=np.float64)[:, None]
    result = np.full((len(multiples), len(thresholds)), np.nan)
    for cell in np.ndindex(result.shape):
        hits = np.bincount(truths.classes, is_found[cell], minlength=classes)
        if total.any():
            result[cell] = (hits[total > 0] / total[total > 0]).mean()
    return result


def _tiou(a: Float, b: Float) -> Float:
    """tIoU of intervals row by row, ``(N,)``; 1 if both are the same point."""
    shared = np.maximum(np.minimum(a[:, 1], b[:, 1]) - np.maximum(a[:, 0], b[:, 0]), 0)
    union = (a[:, 1] - a[:, 0]) + (b[:, 1] - b[:, 0]) - shared
    values: Float = np.divide(shared, union, out=(a == b).all(axis=1).astype(np.float64), where=union > 0)
    return values


def precision_recall(ranked: Ranked, level: int) -> Float:
    """Interpolated precision at the recalls RECALLS, mean over the classes that have truths: ``(101,)``.

    ``level``: position of the threshold. NaN without truths. See :func:`class_precision_recall`.
    """
    known = ranked.numbers > 0
    if not known.any():
        return np.full(len(RECALLS), np.nan)
    mean: Float = class_precision_recall(ranked, level)[known].mean(axis=0)
    return mean


def class_precision_recall(ranked: Ranked, level: int) -> Float:
    """Interpolated precision of each class at RECALLS and the threshold at position ``level``: ``(K, 101)``.

    The interpolated precision is the highest precision at this or a higher recall, and 0 if the recall is not reached.
    NaN for classes without truths.
    """
    hits = ranked.matched[level] >= 0
    counted = np.concatenate([[0], np.cumsum(hits | ~ranked.left_out)])
    curves = np.full((len(ranked.numbers), len(RECALLS)), np.nan)
    for label in np.flatnonzero(ranked.numbers):
        first, last = ranked.starts[label : label + 2]
        rows = first + np.flatnonzero(hits[first:last])
        right = np.arange(1, len(rows) + 1)
        precision = right / (counted[rows + 1] - counted[first])
        highest = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        # Slightly less, so that a recall that is equal up to rounding is reached.
        curves[label] = highest[np.searchsorted(right / ranked.numbers[label], RECALLS - 1e-9)]
    return curves


@dataclass(frozen=True)
class Calibration:
    """Precision of detections in bins of ascending score, without empty bins."""

    score: Float
    """Mean score of each bin, ``(B,)``."""
    precision: Float
    """Share of hits among the detections of each bin, ``(B,)``."""
    counts: Int
    """Number of detections in each bin, ``(B,)``."""
    error: float
    """Expected calibration error: mean of ``|precision - score|`` over detections. NaN without detections, and if
    scores are outside [0, 1] and so are not probabilities."""

    @property
    def note(self) -> str:
        """The error, or the reason why there is none, to print."""
        if not len(self.counts):
            return "no detections"
        return "scores are not probabilities" if np.isnan(self.error) else f"error {self.error:.3f}"

    @property
    def plain(self) -> dict[str, Any]:
        """All numbers as JSON values."""
        return {
            "score": self.score.tolist(),
            "precision": self.precision.tolist(),
            "detections": self.counts.tolist(),
            "expected_calibration_error": None if np.isnan(self.error) else self.error,
        }


def calibration(scores: ArrayLike, hits: ArrayLike, bins: int = BINS) -> Calibration:
    """Compare the frequency of ``hits`` ``(N,)`` with ``scores`` ``(N,)`` (Guo et al., On Calibration of Modern Neural
    Networks, 2017).

    Scores in [0, 1] are divided into ``bins`` bins of equal width; other scores, of which only the order matters, into
    bins with equal numbers of detections.
    """
    values, is_hit = np.asarray(scores, dtype=np.float64), np.asarray(hits, dtype=bool)
    probable = not len(values) or (values.min() >= 0 and values.max() <= 1)
    if probable:
        bin_of = np.minimum((values * bins).astype(np.int64), bins - 1)
    else:
        bin_of = np.empty(len(values), dtype=np.int64)
        bin_of[np.argsort(values, kind="stable")] = np.arange(len(values)) * bins // len(values)
    counts = np.bincount(bin_of, minlength=bins)
    kept = counts > 0
    score, precision = (np.bincount(bin_of, v, minlength=bins)[kept] / counts[kept] for v in (values, is_hit))
    error = float("nan")
    if probable and len(values):
        error = float((np.abs(precision - score) * counts[kept]).sum() / len(values))
    return Calibration(score, precision, counts[kept], error)


def calibration_of(ranked: Ranked, level: int) -> Calibration:
    """:func:`calibration` of the detections that count, at the threshold of position ``level``."""
    hits = ranked.matched[level] >= 0
    counted = hits | ~ranked.left_out
    return calibration(ranked.detections.scores[counted], hits[counted])


__all__ = [
    "RECALLS",
    "Calibration",
    "calibration",
    "calibration_of",
    "class_precision_recall",
    "precision_recall",
    "recall_at_multiples",
]
