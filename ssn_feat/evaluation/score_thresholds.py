"""Score thresholds of classes: which detections are worth showing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.evaluation.matching import Ranked

Float = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Criterion:
    """What a threshold is chosen for; by default the best F1."""

    precision: float | None = None
    """The threshold of highest recall with at least this precision; of several, the highest."""
    false_alarms: float | None = None
    """The threshold of highest recall with at most this many false alarms per hour; of several, the highest."""

    def __post_init__(self) -> None:
        if self.precision is not None and self.false_alarms is not None:
            raise UserError("a threshold is chosen for a precision or for a number of false alarms: give one of them")
        if self.precision is not None and not 0 < self.precision <= 1:
            raise UserError(f"precision is a share above 0 and at most 1, not {self.precision}")
        if self.false_alarms is not None and not 0 <= self.false_alarms < np.inf:
            raise UserError(f"the number of false alarms per hour must not be negative, it is {self.false_alarms}")

    def __str__(self) -> str:
        if self.precision is not None:
            return f"precision {self.precision:g}"
        return "best F1" if self.false_alarms is None else f"{self.false_alarms:g} false alarms per hour"


def class_thresholds(ranked: Ranked, level: int, criterion: Criterion, hours: float) -> Float:
    """The lowest score that is kept of each class, ``(K,)``; NaN where no threshold fulfils the criterion.

    ``level``: position of the tIoU threshold of the matches. ``hours``: duration of the videos. Detections of equal
    score are kept or dropped together.
    """
    hits, counted = _outcomes(ranked, level)
    return np.array(
        [
            _threshold(ranked.detections.scores[a:b], hits[a:b], counted[a:b], int(number), criterion, hours)
            for a, b, number in zip(ranked.starts[:-1], ranked.starts[1:], ranked.numbers, strict=True)
        ]
    )


def pooled_threshold(ranked: Ranked, level: int, criterion: Criterion, hours: float) -> float:
    """One threshold for all classes together; arguments and value as :func:`class_thresholds`.

    A number of false alarms per hour counts for each class that has instances.
    """
    hits, counted = _outcomes(ranked, level)
    order = np.argsort(-ranked.detections.scores, kind="stable")
    known = int((ranked.numbers > 0).sum())
    rows = ranked.detections.scores[order], hits[order], counted[order]
    return _threshold(*rows, int(ranked.numbers.sum()), criterion, hours * known)


def _outcomes(ranked: Ranked, level: int) -> tuple[Flags, Flags]:
    """Whether each detection is a hit, and whether it counts at all."""
    hits = ranked.matched[level] >= 0
    return hits, hits | ~ranked.left_out


def _threshold(scores: Float, hits: Flags, counted: Flags, instances: int, criterion: Criterion, hours: float) -> float:
    """The threshold of detections in the order of descending score; NaN if none fulfils the criterion with a hit."""
    if not hits.any():
        return float("nan")
    last = np.append(np.diff(scores) < 0, True)
    right, wrong = np.cumsum(hits)[last], np.cumsum(counted & ~hits)[last]
    if criterion.precision is not None:
        value = np.where(right >= criterion.precision * (right + wrong) - 1e-9, right, 0)
    elif criterion.false_alarms is not None:
        value = np.where(wrong <= criterion.false_alarms * hours, right, 0)
    else:
        value = right / (right + wrong + instances)
    best = int(np.argmax(value))
    return float(scores[last][best]) if value[best] > 0 else float("nan")


__all__ = ["Criterion", "class_thresholds", "pooled_threshold"]
