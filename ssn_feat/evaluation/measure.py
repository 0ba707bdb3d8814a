"""Average precision of one set of detections, with confidence intervals."""

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
Int = NDArray[np.int64]


@dataclass(frozen=True)
class Evaluation:
    """Average precision of one set of detections on one data set."""

    name: str
    """Name of the detections."""
    labels: tuple[str, ...]
    """The K classes."""
    thresholds: tuple[float, ...]
    """tIoU thresholds."""
    average_precision: Float
    """``(K, n_tiou)``; NaN for classes without instances."""
    detections: int
    """Number of detections in the evaluated videos."""
    lacking: int
    """Number of evaluated videos that have instances but no detection."""
    ranked: Ranked
    """The sorted detections with their matches."""
    resampled: Float | None = None
    """mAP of draws of videos, ``(R, n_tiou)``, with the same draws for all compared files; None: not drawn."""

    def __repr__(self) -> str:
        values = ", ".join(f"{100 * m:.1f} at {t:.3g}" for m, t in zip(self.mean, self.thresholds, strict=True))
        return f"Evaluation({self.name!r}: average mAP {100 * self.average:.1f} %; by tIoU {values})"

    @property
    def mean(self) -> Float:
        """mAP at each threshold, ``(n_tiou,)``, over the classes that have instances."""
        return mean_average_precision(self.average_precision)

    @property
    def average(self) -> float:
        """Mean of the mAP over the thresholds."""
        return float(self.mean.mean())

    @property
    def tied(self) -> int:
        """Number of detections whose score equals that of another detection of their class."""
        detections = self.ranked.detections
        equal = (np.diff(detections.scores) == 0) & (np.diff(detections.classes) == 0)
        return int((np.append(equal, False) | np.append(False, equal)).sum())

    def interval(self) -> Interval:
        """95 % interval of the mAP at each threshold and on average: ``(n_tiou + 1,)``. Needs ``resampled``."""
        low, high = interval_of(self._draws(), [*self.mean, self.average])
        return Interval(np.maximum(low, 0.0), np.minimum(high, 1.0))

    def difference(self, first: Evaluation) -> tuple[Float, Interval]:
        """mAP minus the mAP of ``first``, at each threshold and on average, and its 95 % interval."""
        by = np.array([*self.mean, self.average]) - np.array([*first.mean, first.average])
        return by, interval_of(self._draws() - first._draws(), by)

    def _draws(self) -> Float:
        if self.resampled is None:
            raise ValueError(f"no videos were drawn for {self.name}")
        return np.column_stack([self.resampled, self.resampled.mean(axis=1)])

    @property
    def plain(self) -> dict[str, Any]:
        """All numbers as JSON values; None instead of NaN."""

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
    """Detections as arrays, with videos numbered as in ``dataset``; those in other videos are dropped or come last.

    Raises UserError on classes that the data set does not have.
    """
    matched = detections.matched(dataset, unknown="drop")
    scored = Scored(matched.videos, matched.classes, matched.intervals, matched.scores)
    if elsewhere == "drop":
        return scored
    rest = detections.only(_other_videos(detections, dataset)).relabelled(dataset.labels)
    others = (len(matched) + rest.videos, rest.classes, rest.intervals, rest.scores)
    return Scored(*(np.concatenate(pair) for pair in zip(scored, others, strict=True)))


def _other_videos(detections: Detections, dataset: Dataset) -> list[str]:
    return [video for video in detections.ids if video not in dataset.videos]


def _tie_order(detections: Detections, dataset: Dataset) -> Int:
    """Position of each video of :func:`scored_of` in the alphabetical order of the ids, int64 ``(V,)``."""
    ids = [*dataset.videos, *_other_videos(detections, dataset)]
    position = {video: number for number, video in enumerate(sorted(ids))}
    return np.array([position[video] for video in ids], dtype=np.int64)


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

    Detections in other videos are dropped or count as false alarms (``elsewhere``). Detections in videos without
    instances are false alarms; leave these videos out of ``dataset`` if they should not count. ``ambiguous``: intervals
    for the definition ``thumos14``. ``draws`` ``(V, R)`` (:func:`ssn_feat.evaluation.bootstrap.draw_videos`): also
    compute the mAP of these draws of the videos. Raises UserError on classes that the data set does not have.
    """
    scored, truths = scored_of(detections, dataset, elsewhere), truths_of(dataset)
    order = _tie_order(detections, dataset)
    ranked = rank(scored, truths, len(dataset.labels), thresholds, definition, ambiguous, order)
    values = average_precision_of(ranked)
    resampled = None if draws is None else resampled_map(ranked, truths, draws)
    with_truth = np.array([bool(video.instances) for video in dataset.videos.values()], dtype=bool)
    seen = np.bincount(scored.videos, minlength=len(with_truth))[: len(with_truth)] > 0
    lacking = int((with_truth & ~seen).sum())
    return Evaluation(name, dataset.labels, tuple(thresholds), values, len(scored.scores), lacking, ranked, resampled)


__all__ = ["Evaluation", "evaluate_detections", "scored_of"]
