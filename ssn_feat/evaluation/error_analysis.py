"""Error analysis as in DETAD: Alwassel, Caba Heilbron, Escorcia and Ghanem, Diagnosing Error in Temporal Action
Detectors, ECCV 2018.

Detections are matched as in the ActivityNet toolkit (see :mod:`ssn_feat.evaluation.matching`), whatever the definition
of the reported mAP. All numbers are averages over the tIoU thresholds, as in the paper.

False positives: of each class with G truths (annotated instances), the 10 G detections of highest score are analysed,
in groups of G. A detection without a match is classified by the truth of its video, of any class, with which it has the
largest tIoU t, for a threshold a:

- double detection: t >= a, same class (the truth is matched with a better detection),
- wrong label: t >= a, another class,
- localization: 0.1 <= t < a, same class,
- confusion: 0.1 <= t < a, another class,
- background: t < 0.1, or no truth in the video.

If truths of both kinds have the largest tIoU (one interval with two labels), the one of the same class counts. The
impact of a kind is the gain in average mAP_N after its detections among these 10 G are removed.

mAP_N is the mAP with precision normalised as if every class had the same number N of truths, the mean over classes:
``R N / (R N + false positives)`` with recall R. It makes parts of a data set with different numbers of truths
comparable.

False negatives are truths without a matching detection; matches at a normalised precision of 0.05 or less do not count,
as in the program of the paper. Sensitivity is the mAP_N on the truths of one bucket: detections that match other truths
are removed, false positives remain. Truths of length 0 are left out. :mod:`ssn_feat.evaluation.error_buckets` defines
the buckets.

The numbers differ from those of the program of the paper in six ways. Two are errors of that program: it compares all
but the first false positive of a video without truths with the truths of the previous video, and for the sensitivity
each threshold also removes the detections that earlier thresholds removed. The others are choices: the same class is
preferred at equal tIoU, the number of instances counts only the class of the truth (its THUMOS14 file counts all
classes), N is the mean itself (truncated to a whole number there), and truths longer than their video are kept with a
coverage of 1 (dropped there).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_precision import truths_of
from ssn_feat.evaluation.bootstrap import running_maximum
from ssn_feat.evaluation.error_buckets import Bucket, BucketScheme, buckets_of, characteristics
from ssn_feat.evaluation.matching import Ranked, Scored, Truths, pairs, rank

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Flags = NDArray[np.bool_]

KINDS = ("true positive", "double detection", "wrong label", "localization", "confusion", "background")
GROUPS = 10
# A detection whose tIoU with every truth is lower than this is background.
NEAR = 0.1
# Truths matched only at this normalised precision or a lower one count as missed.
FOUND_PRECISION = 0.05


@dataclass(frozen=True)
class ErrorAnalysis:
    """The errors of one set of detections; see the module."""

    name: str
    """Name of the detections."""
    thresholds: tuple[float, ...]
    """tIoU thresholds."""
    average_map: float
    """Average mAP_N of all detections."""
    limited_map: float
    """Average mAP_N of the 10 G detections of highest score of each class, to which gains refer."""
    counts: Int
    """Number of detections of each kind in each group of G at each threshold: ``(n_tiou, 10, 6)``."""
    gains: Float
    """Gain in average mAP_N without the errors of each kind, ``(5,)``: those of KINDS from 1."""
    buckets: Mapping[str, tuple[Bucket, ...]]
    """Buckets by characteristic."""
    scheme: BucketScheme
    """Limits of the buckets."""

    @property
    def shares(self) -> Float:
        """Share of each kind in each group of G, mean over thresholds: ``(10, 6)``; NaN for empty groups."""
        mean: Float = self.counts.mean(axis=0)
        total = mean.sum(axis=1, keepdims=True)
        shares: Float = np.divide(mean, total, out=np.full_like(mean, np.nan), where=total > 0)
        return shares

    @property
    def share(self) -> Float:
        """Share of each kind among all 10 G, mean over thresholds: ``(6,)``."""
        mean: Float = self.counts.mean(axis=0).sum(axis=0)
        shares: Float = mean / max(mean.sum(), 1)
        return shares

    @property
    def plain(self) -> dict[str, Any]:
        """All numbers as JSON values; None instead of NaN."""
        return {
            "average_mAP_N": self.average_map,
            "average_mAP_N_of_10G": self.limited_map,
            "top_detections": {
                f"{group + 1}G": dict(zip(KINDS, [_number(v) for v in row], strict=True))
                for group, row in enumerate(self.shares)
            },
            "share_in_10G": dict(zip(KINDS, self.share.tolist(), strict=True)),
            "gain_in_average_mAP_N": dict(zip(KINDS[1:], self.gains.tolist(), strict=True)),
            "limits_of_buckets": self.scheme,
            "buckets": {
                name: [
                    {
                        "name": b.name,
                        "above": b.low,
                        "up_to": _number(b.high),
                        "instances": b.instances,
                        "missed": _number(b.missed),
                        "average_mAP_N": _number(b.average_map),
                    }
                    for b in row
                ]
                for name, row in self.buckets.items()
            },
        }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def analyse(
    detections: Scored,
    dataset: Dataset,
    thresholds: Sequence[float],
    scheme: BucketScheme = "quantiles",
    name: str = "detections",
) -> ErrorAnalysis:
    """Errors of ``detections``, with videos and classes numbered as in ``dataset`` (``evaluation.measure.scored_of``).

    ``scheme``: limits of the buckets. Raises UserError as ``matching.rank``, and if there are no truths.
    """
    values = characteristics(dataset)
    truths = truths_of(dataset)
    kept = np.flatnonzero(truths.intervals[:, 1] > truths.intervals[:, 0])
    if not len(kept):
        raise UserError(f"data set {dataset.name!r} has no instance of any length to analyse errors by")
    truths = Truths(truths.videos[kept], truths.classes[kept], truths.intervals[kept])
    ranked = rank(detections, truths, len(dataset.labels), thresholds)
    top = top_rows(ranked, GROUPS)
    kinds = error_kinds(ranked, top, truths, thresholds)
    base = np.mean([_mean_normalised(ranked, top, hits) for hits in ranked.matched[:, top] >= 0])
    gains = [
        np.mean([_mean_normalised(ranked, top[row != kind], (row == 0)[row != kind]) for row in kinds]) - base
        for kind in range(1, len(KINDS))
    ]
    missed, values = _missed(ranked, truths), {what: each[kept] for what, each in values.items()}
    groups = buckets_of(scheme, values).items()
    buckets = {what: _buckets_of(ranked, truths, missed, values[what], *edges) for what, edges in groups}
    everything = np.arange(ranked.matched.shape[1])
    overall = np.mean([_mean_normalised(ranked, everything, hits) for hits in ranked.matched >= 0])
    group = _rank_in_class(ranked)[top] // ranked.numbers[ranked.detections.classes[top]]
    counts = np.zeros((len(kinds), GROUPS, len(KINDS)), dtype=np.int64)
    for level, row in enumerate(kinds):
        np.add.at(counts[level], (group, row), 1)
    return ErrorAnalysis(
        name,
        tuple(thresholds),
        float(overall),
        float(base),
        counts,
        np.array(gains, dtype=np.float64),
        buckets,
        scheme,
    )


def _rank_in_class(ranked: Ranked) -> Int:
    """Rank of each detection in its class, from 0, ``(N,)``."""
    return np.arange(len(ranked.order)) - ranked.starts[ranked.detections.classes]


def top_rows(ranked: Ranked, groups: int) -> Int:
    """Rows of the ``groups`` times G detections of highest score of each class with G truths."""
    return np.flatnonzero(_rank_in_class(ranked) < groups * ranked.numbers[ranked.detections.classes])


def error_kinds(ranked: Ranked, rows: Int, truths: Truths, thresholds: Sequence[float]) -> Int:
    """Position in KINDS of each of the detections ``rows`` at each threshold, int64 ``(n_tiou, len(rows))``."""
    detections = ranked.detections.rows(rows)
    any_class, same_class = np.zeros(len(rows)), np.zeros(len(rows))
    for row, truth in pairs(detections.videos, truths.videos):
        a, b = detections.intervals[row], truths.intervals[truth]
        shared = np.maximum(np.minimum(a[:, 1], b[:, 1]) - np.maximum(a[:, 0], b[:, 0]), 0)
        overlap = shared / ((a[:, 1] - a[:, 0]) + (b[:, 1] - b[:, 0]) - shared)
        np.maximum.at(any_class, row, overlap)
        same = detections.classes[row] == truths.classes[truth]
        np.maximum.at(same_class, row[same], overlap[same])
    other = same_class < any_class
    return np.stack(
        [
            np.select(
                [matched >= 0, any_class >= level, any_class >= NEAR], [np.zeros_like(rows), 1 + other, 3 + other], 5
            )
            for matched, level in zip(ranked.matched[:, rows], thresholds, strict=True)
        ]
    )


def normalised_precision(classes: Int, hits: Flags, numbers: Int, typical: float) -> tuple[Int, Float]:
    """Rows of the hits, and the precision at each as if its class had ``typical`` truths; see the module.

    ``classes``, ``hits`` ``(N,)``: class of each detection (sorted by class and score), whether it is a hit;
    ``numbers`` ``(K,)``: number of truths of each class.
    """
    rows = np.flatnonzero(hits)
    label = classes[rows]
    right = np.arange(1, len(rows) + 1) - np.searchsorted(label, label)
    wrong = rows + 1 - np.searchsorted(classes, label) - right
    expected = right / numbers[label] * typical
    return rows, expected / (expected + wrong)


def normalised_average_precision(classes: Int, hits: Flags, numbers: Int, typical: float) -> Float:
    """AP_N of each class, interpolated as in the ActivityNet toolkit: ``(K,)``, NaN without truths; arguments above."""
    rows, precision = normalised_precision(classes, hits, numbers, typical)
    label = classes[rows]
    area = np.bincount(label, running_maximum(precision, label), minlength=len(numbers))
    values: Float = np.divide(area, numbers, out=np.full(len(numbers), np.nan), where=numbers > 0)
    return values


def _typical(ranked: Ranked) -> float:
    return float(ranked.numbers[ranked.numbers > 0].mean())


def _mean_normalised(ranked: Ranked, rows: Int, hits: Flags, numbers: Int | None = None) -> float:
    """mAP_N of the detections ``rows``; ``numbers``: truths of each class, if not all truths count."""
    counted = ranked.numbers if numbers is None else numbers
    return float(
        np.nanmean(normalised_average_precision(ranked.detections.classes[rows], hits, counted, _typical(ranked)))
    )


def _missed(ranked: Ranked, truths: Truths) -> Float:
    """Share of thresholds at which each truth is missed, ``(M,)``."""
    result = np.ones(len(truths.videos))
    for matched in ranked.matched:
        rows, precision = normalised_precision(
            ranked.detections.classes, matched >= 0, ranked.numbers, _typical(ranked)
        )
        result[matched[rows[precision > FOUND_PRECISION]]] -= 1 / len(ranked.matched)
    return np.maximum(result, 0.0)


def _buckets_of(
    ranked: Ranked, truths: Truths, missed: Float, values: Float, edges: tuple[float, ...], names: tuple[str, ...]
) -> tuple[Bucket, ...]:
    """Results on the truths of each bucket of ``values`` ``(M,)``; ``missed``: see :func:`_missed`."""
    bucket = np.digitize(values, edges[1:-1], right=True)
    result = []
    for number, name in enumerate(names):
        inside = bucket == number
        average = float("nan")
        if inside.any():
            numbers = np.bincount(truths.classes[inside], minlength=len(ranked.numbers))
            average = float(np.mean([_alone(ranked, matched, inside, numbers) for matched in ranked.matched]))
        share = float(missed[inside].mean()) if inside.any() else float("nan")
        result.append(Bucket(name, edges[number], edges[number + 1], int(inside.sum()), share, average))
    return tuple(result)


def _alone(ranked: Ranked, matched: Int, inside: Flags, numbers: Int) -> float:
    """mAP_N with only the truths ``inside`` and without detections ``matched`` with other truths."""
    wanted = np.concatenate([inside, [True]])[matched] & (numbers[ranked.detections.classes] > 0)
    rows = np.flatnonzero(wanted)
    return _mean_normalised(ranked, rows, matched[rows] >= 0, numbers)


__all__ = [
    "KINDS",
    "ErrorAnalysis",
    "analyse",
    "error_kinds",
    "normalised_average_precision",
    "normalised_precision",
]
