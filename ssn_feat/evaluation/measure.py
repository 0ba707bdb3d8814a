"""Average precision of one set of detections, with what is known of its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations import Dataset
from ssn_feat.evaluation.average_precision import average_precision_of, mean_average_precision, truths_of
from ssn_feat.evaluation.bootstrap import Interval, interval_of, resampled_map
from ssn_feat.evaluation.matching import Definition, Ranked, Scored, Truths, rank
from ssn_feat.results.detections import Detections

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """Average precision of one set of detections on one data set."""

    name: str
    """Of the detections."""
    labels: tuple[str, ...]
    """The K classes."""
    thresholds: tuple[float, ...]
    """tIoU thresholds."""
    average_precision: Float
    """``(K, n_tiou)``; NaN for classes without truth."""
    detections: int
    """Detections in the evaluated videos."""
    lacking: int
    """Evaluated videos that have instances but no detection."""
    ranked: Ranked
    """The detections, sorted, and what they are counted for."""
    resampled: Float | None = None
    """mAP of draws of videos, ``(R, n_tiou)``; the same draws in all that is compared. None: not drawn."""

    def __repr__(self) -> str:
        values = ", ".join(f"{100 * m:.1f} at {t:.3g}" for m, t in zip(self.mean, self.thresholds, strict=True))
        return f"Evaluation({self.name!r}: average mAP {100 * self.average:.1f} %; by tIoU {values})"

    @property
    def mean(self) -> Float:
        """mAP at each threshold, ``(n_tiou,)``, over the classes that have truth."""
        return mean_average_precision(self.average_precision)

    @property
    def average(self) -> float:
        """Mean of the mAP over the thresholds."""
        return float(self.mean.mean())

    def interval(self) -> Interval:
        """95 % interval of the mAP at each threshold and on average: ``(n_tiou + 1,)``. Needs ``resampled``."""
        low, high = interval_of(self._draws(), [*self.mean, self.average])
        return Interval(np.maximum(low, 0.0), np.minimum(high, 1.0))

    def difference(self, first: Evaluation) -> tuple[Float, Interval]:
        """How much higher the mAP is than that of ``first``, at each threshold and on average, and its interval."""
        by = np.array([*self.mean, self.average]) - np.array([*first.mean, first.average])
        return by, interval_of(self._draws() - first._draws(), by)

    def _draws(self) -> Float:
        if self.resampled is None:
            raise ValueError(f"no videos were drawn for {self.name}")
        return np.column_stack([self.resampled, self.resampled.mean(axis=1)])

    @property
    def plain(self) -> dict[str, Any]:
        """All numbers as what JSON can hold; None where there is no number."""

        def rounded(values: Float) -> list[float | None]:
            return [None if np.isnan(v) else float(v) for v in values]

        classes = dict(zip(self.labels, map(rounded, self.average_precision), strict=True))
        return {
            "name": self.name,
            "mAP": rounded(self.mean),
            "average_mAP": rounded(np.array([self.average]))[0],
            "AP": classes,
            "detections": self.detections,
            "videos_without_detections": self.lacking,
        } | self._plain_interval()

    def _plain_interval(self) -> dict[str, Any]:
        if self.resampled is None:
            return {}
        pairs = np.column_stack(self.interval()).tolist()
        return {"mAP_95": pairs[:-1], "average_mAP_95": pairs[-1]}


def scored_of(detections: Detections, dataset: Dataset, elsewhere: Literal["drop", "count"] = "drop") -> Scored:
    """Detections as arrays, videos numbered as in ``dataset``; those in other videos are dropped or come after.

    Raises UserError on classes that the data set does not have.
    """
    found = detections.matched(dataset, unknown="drop")
    scored = Scored(found.videos, found.classes, found.intervals, found.scores)
    if elsewhere == "drop":
        return scored
    rest = detections.only([i for i in detections.ids if i not in dataset.videos]).relabelled(dataset.labels)
    others = (len(found) + rest.videos, rest.classes, rest.intervals, rest.scores)
    return Scored(*(np.concatenate(pair) for pair in zip(scored, others, strict=True)))


def evaluate_detections(
    detections: Detections,
    dataset: Dataset,
    thresholds: Sequence[float],
    definition: Definition = "activitynet",
    ambiguous: Truths | None = None,
    elsewhere: Literal["drop", "count"] = "drop",
    name: str = "detections",
    draws: Float | None = None,
) -> Evaluation:
    """Average precision of ``detections`` on the videos of ``dataset``.

    Detections in other videos are dropped, or false alarms (``elsewhere``). Give it only the videos with instances if a
    false alarm in the others shall cost nothing. ``ambiguous``: intervals for the definition ``thumos14``. ``draws``
    ``(V, R)`` (:func:`ssn_feat.evaluation.bootstrap.draw_videos`): also measure mAP on these draws of the videos.
    Raises UserError on classes that the data set does not have.
    """
    scored, truths = scored_of(detections, dataset, elsewhere), truths_of(dataset)
    ranked = rank(scored, truths, len(dataset.labels), thresholds, definition, ambiguous)
    values = average_precision_of(ranked)
    resampled = None if draws is None else resampled_map(ranked, truths, draws)
    with_truth = np.array([bool(video.instances) for video in dataset.videos.values()], dtype=bool)
    seen = np.bincount(scored.videos, minlength=len(with_truth))[: len(with_truth)] > 0
    lacking = int((with_truth & ~seen).sum())
    return Evaluation(name, dataset.labels, tuple(thresholds), values, len(scored.scores), lacking, ranked, resampled)


__all__ = ["Evaluation", "evaluate_detections", "scored_of"]
