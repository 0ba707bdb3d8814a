"""What mAP is made of: recall at few detections, precision against recall, and whether scores are probabilities."""

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
    """Recall@kx: float64 ``(len(multiples), n_tiou)``, mean over the classes that have truths; NaN where none has.

    Of each class and video with x truths the k x detections of highest score are looked at (ties: the earlier row). A
    truth is found if one of them has at least the tIoU with it; one detection may find several (Grauman et al., Ego4D,
    2022, for the moment queries; the mean over classes as ActionFormer reports it). Raises UserError on multiples
    below 1.
    """
    if any(k < 1 for k in multiples):
        raise UserError(f"recall@kx needs multiples of at least 1, not {min(multiples)}")
    keys = [rows.videos * classes + rows.classes for rows in (detections, truths)]
    order = np.lexsort((-detections.scores, keys[0]))
    key, ranked = keys[0][order], detections.rows(order)
    # The place of each detection in its class and video, in multiples of the truths there.
    asked, number = np.unique(keys[1], return_counts=True)
    at = np.searchsorted(asked, key)
    known = (at < len(asked)) & (asked[np.minimum(at, len(asked) - 1)] == key) if len(asked) else np.zeros(0, bool)
    best = np.zeros((len(multiples), len(truths.videos)))
    if known.any():
        place = (np.arange(len(key)) - np.searchsorted(key, key))[known]
        multiple = place // number[at[known]] + 1
        rows = np.flatnonzero(known)[multiple <= max(multiples)]
        multiple = multiple[multiple <= max(multiples)]
        for one, truth in pairs(key[rows], keys[1]):
            overlap = _tiou(ranked.intervals[rows[one]], truths.intervals[truth])
            for level, k in enumerate(multiples):
                inside = multiple[one] <= k
                np.maximum.at(best[level], truth[inside], overlap[inside])
    total = np.bincount(truths.classes, minlength=classes)
    found = best[:, None, :] >= np.asarray(thresholds, dtype=np.float64)[:, None]
    result = np.full((len(multiples), len(thresholds)), np.nan)
    for cell in np.ndindex(result.shape):
        hits = np.bincount(truths.classes, found[cell], minlength=classes)
        if total.any():
            result[cell] = (hits[total > 0] / total[total > 0]).mean()
    return result


def _tiou(a: Float, b: Float) -> Float:
    """tIoU of intervals row by row, ``(N,)``; 1 where both are the same point."""
    shared = np.maximum(np.minimum(a[:, 1], b[:, 1]) - np.maximum(a[:, 0], b[:, 0]), 0)
    union = (a[:, 1] - a[:, 0]) + (b[:, 1] - b[:, 0]) - shared
    values: Float = np.divide(shared, union, out=(a == b).all(axis=1).astype(np.float64), where=union > 0)
    return values


def precision_recall(ranked: Ranked) -> Float:
    """Interpolated precision at the recalls RECALLS, mean over the classes that have truths: ``(n_tiou, 101)``.

    Without truths NaN. See :func:`class_precision_recall`.
    """
    known = ranked.numbers > 0
    if not known.any():
        return np.full((len(ranked.matched), len(RECALLS)), np.nan)
    return np.stack([class_precision_recall(ranked, level)[known].mean(axis=0) for level in range(len(ranked.matched))])


def class_precision_recall(ranked: Ranked, level: int) -> Float:
    """Interpolated precision of each class at the recalls RECALLS, at the threshold numbered ``level``: ``(K, 101)``.

    Interpolated: the highest precision at this recall or a higher one; 0 where recall is never reached. NaN for classes
    without truths.
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
        # A hair less, so that a recall that is the same up to rounding is reached.
        curves[label] = highest[np.searchsorted(right / ranked.numbers[label], RECALLS - 1e-9)]
    return curves


@dataclass(frozen=True)
class Calibration:
    """Precision of detections of like score, in bins of rising score; bins without detections are left out."""

    score: Float
    """Mean score of each bin, ``(B,)``."""
    precision: Float
    """Share of its detections that are hits, ``(B,)``."""
    counts: Int
    """Its detections, ``(B,)``."""
    error: float
    """Expected calibration error: mean of ``|precision - score|`` over detections. NaN where scores lie outside
    [0, 1] and so are no probabilities, and without detections."""

    @property
    def note(self) -> str:
        """The error, or why there is none, to print."""
        if not len(self.counts):
            return "no detections"
        return "scores are no probabilities" if np.isnan(self.error) else f"error {self.error:.3f}"

    @property
    def plain(self) -> dict[str, Any]:
        """All numbers as what JSON can hold."""
        return {
            "score": self.score.tolist(),
            "precision": self.precision.tolist(),
            "detections": self.counts.tolist(),
            "expected_calibration_error": None if np.isnan(self.error) else self.error,
        }


def calibration(scores: ArrayLike, hits: ArrayLike, bins: int = BINS) -> Calibration:
    """Are ``hits`` ``(N,)`` as frequent as ``scores`` ``(N,)`` say? (Guo et al., On Calibration of Modern Neural
    Networks, 2017.)

    Scores in [0, 1] go into ``bins`` bins of one width; others, for which only the order means something, into bins of
    as many detections each.
    """
    values, found = np.asarray(scores, dtype=np.float64), np.asarray(hits, dtype=bool)
    probable = not len(values) or (values.min() >= 0 and values.max() <= 1)
    if probable:
        own = np.minimum((values * bins).astype(np.int64), bins - 1)
    else:
        own = np.empty(len(values), dtype=np.int64)
        own[np.argsort(values, kind="stable")] = np.arange(len(values)) * bins // len(values)
    counts = np.bincount(own, minlength=bins)
    kept = counts > 0
    score, precision = (np.bincount(own, v, minlength=bins)[kept] / counts[kept] for v in (values, found))
    error = float("nan")
    if probable and len(values):
        error = float((np.abs(precision - score) * counts[kept]).sum() / len(values))
    return Calibration(score, precision, counts[kept], error)


def calibration_of(ranked: Ranked, level: int) -> Calibration:
    """:func:`calibration` of detections that count, at the threshold of position ``level``."""
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
