"""Why detections are not better: what became of every instance of each class.

Detections are matched with instances at one tIoU ``a`` as in :mod:`ssn_feat.evaluation.matching`. Those with at least
the score threshold of their class are *kept*. Every instance has one outcome, the first of these that is true:

- found: a kept detection of its class is matched with it,
- wrong label: a kept detection of another class, which is not matched with an instance, has a tIoU of at least a with
  it,
- outranked: a detection of its class is matched with it, but scores below the threshold, as many false ones do,
- missed: no detection of its class is matched with it.

Without thresholds of an operating point, the threshold of a class is the one with the best F1 on the same detections. A
class without any matched detection has no threshold then, and none of its detections is kept.

An instance *has a proposal* if a proposal of its video, or without proposals any detection, has a tIoU of at least a
with it. A *false alarm* is a kept detection that is not matched with an instance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.evaluation.average_precision import truths_of
from ssn_feat.evaluation.matching import Ranked, Truths
from ssn_feat.evaluation.score_thresholds import Criterion, class_thresholds
from ssn_feat.intervals import overlapping

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Flags = NDArray[np.bool_]

OUTCOMES = ("found", "wrong label", "outranked", "missed")
FOUND, WRONG_LABEL, OUTRANKED, MISSED = range(4)


@dataclass(frozen=True)
class Advice:
    """What to try next."""

    rule: str
    """Name of the rule, such as ``no proposal``."""
    sentence: str
    """What was counted, and what to do about it."""
    commands: tuple[str, ...] = ()
    """Command lines. Words in capitals stand for files that the evaluation does not know."""


@dataclass(frozen=True)
class ClassOutcome:
    """What became of the instances of one class, and its false alarms; numbers unless stated otherwise."""

    label: str
    """Name of the class."""
    instances: int
    """Instances; the sum of ``found``, ``wrong_label``, ``outranked`` and ``missed``."""
    proposed: int
    """Instances that have a proposal."""
    found: int
    """Instances found."""
    wrong_label: int
    """Instances found with a wrong label only."""
    outranked: int
    """Instances with a correct detection below the threshold."""
    missed: int
    """Instances without a correct detection."""
    missed_with_proposal: int
    """Missed instances that have a proposal."""
    false_alarms: int
    """Kept detections that are wrong."""
    duplicates: int
    """False alarms that repeat an instance of their class, with a tIoU of at least that of the matching."""
    in_empty_videos: int
    """False alarms in videos without any instance."""
    false_alarms_per_hour: float
    """False alarms per hour of video."""
    threshold: float = float("nan")
    """Lowest score that is kept; NaN if none is."""
    taken_for: str = ""
    """The class that its instances with a wrong label were most often detected as; empty without such instances."""
    taken_for_it: int = 0
    """Number of instances of other classes, not found, that were detected as this class."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """What became of every instance; see the module."""

    name: str
    """Name of the detections."""
    tiou: float
    """tIoU of the matching."""
    rows: tuple[ClassOutcome, ...]
    """One row per class that has instances or false alarms, in the order of the data set."""
    total: ClassOutcome
    """The sum of the rows; its threshold is NaN."""
    outcomes: Int
    """Position in OUTCOMES of each instance, ``(M,)``, in the order of the data set."""
    overlaps: Float
    """Largest tIoU of each instance with a proposal, ``(M,)``. Among detections, 0 if no tIoU reaches ``tiou``."""
    from_proposals: bool
    """Whether instances were compared with proposals, or only with detections."""
    operating_point: str
    """How the thresholds were chosen, to print."""
    hours: float
    """Duration of the videos."""
    empty_hours: float
    """Duration of the videos without any instance."""
    advice: tuple[Advice, ...] = ()
    """What to try next."""

    def __repr__(self) -> str:
        t = self.total
        return (
            f"Explanation({self.name!r} at tIoU {self.tiou:.3g}: {t.found} of {t.instances} instances found, "
            f"{t.wrong_label} with a wrong label, {t.outranked} outranked, {t.missed} missed)"
        )

    @property
    def plain(self) -> dict[str, Any]:
        """All numbers as JSON values; None instead of NaN."""
        return {
            "tiou": self.tiou,
            "operating_point": self.operating_point,
            "proposals": self.from_proposals,
            "hours": self.hours,
            "total": _plain(self.total),
            "classes": [_plain(row) for row in self.rows],
            "advice": [asdict(advice) for advice in self.advice],
        }


def _plain(row: ClassOutcome) -> dict[str, Any]:
    return {key: None if isinstance(v, float) and not np.isfinite(v) else v for key, v in asdict(row).items()}


def explain(
    ranked: Ranked,
    dataset: Dataset,
    level: int,
    tiou: float,
    proposals: Mapping[str, Float] | None = None,
    thresholds: Float | None = None,
    name: str = "detections",
    operating_point: str = "",
) -> Explanation:
    """What became of every instance of ``dataset``; see the module.

    ``ranked``: detections matched with all instances; ``level``: position of the threshold ``tiou`` in it.
    ``proposals``: intervals ``(N, 2)`` by video, seconds. ``thresholds``: lowest score that is kept of each class,
    ``(K,)``, NaN for none; ``operating_point`` says where they come from. Without them, those of the best F1 on the
    same detections.
    """
    truths = truths_of(dataset)
    durations = np.array([video.duration for video in dataset.videos.values()], dtype=np.float64)
    hours = float(durations.sum()) / 3600
    if thresholds is None:
        thresholds = class_thresholds(ranked, level, Criterion(), hours)
        operating_point = "the best F1 of each class on these videos"
    detections, matched = ranked.detections, ranked.matched[level]
    kept = detections.scores >= thresholds[detections.classes]
    hit = matched >= 0
    false = np.flatnonzero(kept & ~hit & ~ranked.left_out)
    right, found = np.zeros((2, len(truths.videos)), dtype=bool)
    right[matched[hit]], found[matched[hit & kept]] = True, True
    confusion, repeats = _confusion(ranked, false, truths, ~found, tiou)
    wrong = confusion.any(axis=1)
    outcomes = np.select([found, wrong, right], [FOUND, WRONG_LABEL, OUTRANKED], MISSED)
    overlaps = _overlaps(ranked, dataset, truths, right, tiou, proposals)
    with_truth = np.bincount(truths.videos, minlength=len(durations)) > 0
    is_empty = np.append(~with_truth, False)[np.minimum(detections.videos[false], len(durations))]
    counts = _Counts(truths.classes, outcomes, overlaps >= tiou, detections.classes[false], repeats, is_empty)
    rows, total = counts.rows(dataset.labels, thresholds, confusion, hours)
    return Explanation(
        name,
        tiou,
        rows,
        total,
        outcomes,
        overlaps,
        proposals is not None,
        operating_point,
        hours,
        float(durations[~with_truth].sum()) / 3600,
    )


def _confusion(ranked: Ranked, false: Int, truths: Truths, open_truths: Flags, tiou: float) -> tuple[Flags, Flags]:
    """Classes that each truth was detected as, ``(M, K)``, and whether each false alarm repeats a truth of its class.

    ``false``: rows of false alarms. ``open_truths``: truths that were not found, ``(M,)``; the others have no row.
    """
    confusion = np.zeros((len(truths.videos), len(ranked.numbers)), dtype=bool)
    repeats = np.zeros(len(false), dtype=bool)
    videos, classes = ranked.detections.videos[false], ranked.detections.classes[false]
    row, truth, overlap = overlapping(
        ranked.detections.intervals[false], truths.intervals, groups=(videos, truths.videos)
    )
    row, truth = row[overlap >= tiou], truth[overlap >= tiou]
    same = classes[row] == truths.classes[truth]
    repeats[row[same]] = True
    other = ~same & open_truths[truth]
    confusion[truth[other], classes[row[other]]] = True
    return confusion, repeats


def _overlaps(
    ranked: Ranked,
    dataset: Dataset,
    truths: Truths,
    right: Flags,
    tiou: float,
    proposals: Mapping[str, Float] | None,
) -> Float:
    """Largest tIoU of each truth with a proposal, ``(M,)``.

    Without proposals: 1 for the truths ``right``, which a detection matches, and for those that a detection of another
    class overlaps by ``tiou``; otherwise 0.
    """
    if proposals is None:
        left = np.flatnonzero(~right)
        detections = ranked.detections
        inside = np.flatnonzero(np.isin(detections.videos, truths.videos[left]))
        groups = (detections.videos[inside], truths.videos[left])
        _, truth, overlap = overlapping(detections.intervals[inside], truths.intervals[left], groups=groups)
        result = right.astype(np.float64)
        result[left[truth[overlap >= tiou]]] = 1.0
        return result
    result = np.zeros(len(truths.videos))
    parts = [proposals.get(video, np.zeros((0, 2))) for video in dataset.videos]
    groups = (np.repeat(np.arange(len(parts)), list(map(len, parts))), truths.videos)
    _, truth, overlap = overlapping(np.concatenate([np.zeros((0, 2)), *parts]), truths.intervals, groups=groups)
    np.maximum.at(result, truth, overlap)
    return result


@dataclass(frozen=True)
class _Counts:
    """Instances and false alarms to count by class."""

    classes: Int
    """Class of each instance, ``(M,)``."""
    outcomes: Int
    """Outcome of each instance, ``(M,)``."""
    proposed: Flags
    """Whether each instance has a proposal, ``(M,)``."""
    false: Int
    """Class of each false alarm, ``(F,)``."""
    repeats: Flags
    """Whether each false alarm repeats an instance, ``(F,)``."""
    empty: Flags
    """Whether each false alarm is in a video without instances, ``(F,)``."""

    def rows(
        self, labels: tuple[str, ...], thresholds: Float, confusion: Flags, hours: float
    ) -> tuple[tuple[ClassOutcome, ...], ClassOutcome]:
        """A row for each class that has instances or false alarms, and their sum."""
        instances = {"instances": np.ones(len(self.classes), dtype=bool), "proposed": self.proposed}
        instances |= {name.replace(" ", "_"): self.outcomes == number for number, name in enumerate(OUTCOMES)}
        instances["missed_with_proposal"] = (self.outcomes == MISSED) & self.proposed
        alarms = {"false_alarms": np.ones(len(self.false), dtype=bool)}
        alarms |= {"duplicates": self.repeats, "in_empty_videos": self.empty}
        number = {key: np.bincount(self.classes[mask], minlength=len(labels)) for key, mask in instances.items()}
        number |= {key: np.bincount(self.false[mask], minlength=len(labels)) for key, mask in alarms.items()}
        taken = np.zeros((len(labels), len(labels)), dtype=np.int64)
        np.add.at(taken, self.classes[self.outcomes == WRONG_LABEL], confusion[self.outcomes == WRONG_LABEL])
        rows = []
        for position in np.flatnonzero(number["instances"] + number["false_alarms"]):
            other = labels[int(taken[position].argmax())] if taken[position].any() else ""
            row: dict[str, Any] = {key: int(counts[position]) for key, counts in number.items()}
            row |= {"threshold": float(thresholds[position]), "taken_for": other}
            rows.append(_row(labels[position], hours, taken_for_it=int(taken[:, position].sum()), **row))
        return tuple(rows), _row("all", hours, **{key: int(counts.sum()) for key, counts in number.items()})


def _row(label: str, hours: float, **values: Any) -> ClassOutcome:
    rate = values["false_alarms"] / hours if hours else float("nan")
    return ClassOutcome(label=label, false_alarms_per_hour=rate, **values)


__all__ = [
    "FOUND",
    "MISSED",
    "OUTCOMES",
    "OUTRANKED",
    "WRONG_LABEL",
    "Advice",
    "ClassOutcome",
    "Explanation",
    "explain",
]
