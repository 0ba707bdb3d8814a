"""Files of detections measured against annotations, side by side: what ``bench/detections.py`` does."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from ssn_feat.annotations import Dataset, load
from ssn_feat.detection.ragged import replacing
from ssn_feat.detection.results import Detections
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_precision import (
    Definition,
    Scored,
    Truths,
    average_precision_of,
    mean_average_precision,
    truths_of,
)
from ssn_feat.proposals import Proposals
from ssn_feat.report.tables import show, table_of
from ssn_feat.report.timeline import TimelineOptions, save, timeline_figure, timeline_of

Float = NDArray[np.float64]

# As the toolkit computes them: a tIoU that equals a threshold up to rounding is on the side that it is on there.
_ACTIVITYNET = tuple(np.linspace(0.5, 0.95, 10).tolist())
_THUMOS = (0.3, 0.4, 0.5, 0.6, 0.7)
_SSN_THUMOS = tuple(np.arange(0.1, 1.0, 0.1).tolist())


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure detections: mAP at several tIoU thresholds, of any number of files side by side."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DETECTIONS")]
    """Detections to measure (ActivityNet result JSON)."""
    annotations: str
    """The truth: a path, or DIALECT:PATH."""
    subset: str | None = None
    """Only the videos of this subset of the annotations; default: all."""
    definition: Definition = "activitynet"
    """Whose average precision: of the ActivityNet toolkit, which papers report, or of the THUMOS 2014 challenge."""
    thresholds: tuple[float, ...] = _THUMOS
    """tIoU thresholds."""
    empty_videos: Literal["count", "ignore"] = "count"
    """Detections in videos without any instance: false alarms (count), or left out with their videos (ignore)."""
    unknown_videos: Literal["refuse", "drop", "count"] = "refuse"
    """Detections in videos that the annotations do not have: an error, dropped, or false alarms. With count so are
    those in videos of other subsets, as in the ActivityNet toolkit; else these are dropped. What is dropped is said."""
    ambiguous: str = "Ambiguous"
    """A label that is no class: its instances are no truth; the thumos14 definition ignores false alarms there."""
    per_class: bool = False
    """Also print the average precision of each class."""
    json: Path | None = None
    """Write all numbers as JSON."""
    csv: Path | None = None
    """Write all numbers as CSV, one line for each file, class and threshold."""
    picture: Path | None = None
    """Draw timelines (.png, .svg, .pdf) of the videos named by --videos, with the detections of the first file."""
    videos: tuple[str, ...] = ()
    """Ids of the videos to draw."""
    proposals: Path | None = None
    """Proposals to draw with their actionness (train/propose.py)."""
    quiet: bool = False
    """Print nothing."""
    timeline: TimelineOptions = field(default_factory=TimelineOptions)
    """What timelines show."""

    def __post_init__(self) -> None:
        if not self.thresholds:
            raise UserError("thresholds must name at least one tIoU")
        if bool(self.picture) != bool(self.videos):
            raise UserError("--picture FILE and --videos ID ... go together")
        if self.unknown_videos == "count" and self.empty_videos == "ignore":
            raise UserError("--unknown-videos count makes false alarms of what --empty-videos ignore leaves out")


def _preset(**values: Any) -> EvaluateOptions:
    return EvaluateOptions(files=tyro.MISSING, annotations=tyro.MISSING, **values)


PRESETS = {
    "activitynet": _preset(thresholds=_ACTIVITYNET, subset="validation"),
    "thumos14": _preset(thresholds=_THUMOS, subset="testing"),
    "thumos14-challenge": _preset(thresholds=_THUMOS, subset="testing", definition="thumos14"),
    "thumos14-ssn": _preset(thresholds=_SSN_THUMOS, subset="testing", empty_videos="ignore"),
}


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

    @property
    def mean(self) -> Float:
        """mAP at each threshold, ``(n_tiou,)``, over the classes that have truth."""
        return mean_average_precision(self.average_precision)

    @property
    def average(self) -> float:
        """Mean of the mAP over the thresholds."""
        return float(self.mean.mean())

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
        }


def evaluate_detections(
    detections: Detections,
    dataset: Dataset,
    thresholds: Sequence[float],
    definition: Definition = "activitynet",
    ambiguous: Truths | None = None,
    elsewhere: Literal["drop", "count"] = "drop",
    name: str = "detections",
) -> Evaluation:
    """Average precision of ``detections`` on the videos of ``dataset``.

    Detections in other videos are dropped, or false alarms (``elsewhere``). Give it only the videos with instances if a
    false alarm in the others shall cost nothing. ``ambiguous``: intervals for the definition ``thumos14``.
    Raises UserError on classes that the data set does not have.
    """
    found = detections.matched(dataset, unknown="drop")
    scored = Scored(found.videos, found.classes, found.intervals, found.scores)
    if elsewhere == "count":
        rest = detections.only([i for i in detections.ids if i not in dataset.videos]).relabelled(dataset.labels)
        others = (len(found) + rest.videos, rest.classes, rest.intervals, rest.scores)
        scored = Scored(*(np.concatenate(pair) for pair in zip(scored, others, strict=True)))
    values = average_precision_of(scored, truths_of(dataset), len(dataset.labels), thresholds, definition, ambiguous)
    with_truth = np.array([bool(video.instances) for video in dataset.videos.values()], dtype=bool)
    lacking = int((with_truth & (found.counts == 0)).sum())
    return Evaluation(name, dataset.labels, tuple(thresholds), values, len(scored.scores), lacking)


@dataclass(frozen=True)
class Truth:
    """What detections are measured against."""

    known: Dataset
    """All annotated videos."""
    dataset: Dataset
    """The videos that are evaluated."""
    ambiguous: Truths
    """Ambiguous intervals in these; videos numbered in their order."""
    empty: int
    """Videos of the subset without any instance, evaluated or not."""


def read_truth(options: EvaluateOptions) -> Truth:
    """The annotations as ``options`` say. Raises UserError where they are missing or hold no truth."""
    everything = load(options.annotations)
    known = _without(everything, options.ambiguous)
    chosen = known.subset(options.subset) if options.subset else known
    with_truth = [video.id for video in chosen.videos.values() if video.instances]
    if not with_truth:
        raise UserError(f"none of the {len(chosen.videos)} videos to evaluate has an instance ({options.annotations})")
    empty = len(chosen.videos) - len(with_truth)
    if options.empty_videos == "ignore":
        chosen = chosen.only(with_truth)
    return Truth(known, chosen, _marks(everything.only(chosen.videos), options.ambiguous), empty)


def _without(dataset: Dataset, label: str) -> Dataset:
    """The data set without the class ``label`` and its instances."""
    videos = (
        replace(video, instances=tuple(i for i in video.instances if i.label != label))
        for video in dataset.videos.values()
    )
    return Dataset.of(dataset.name, videos, [name for name in dataset.labels if name != label])


def _marks(dataset: Dataset, label: str) -> Truths:
    truths = truths_of(dataset)
    rows = np.flatnonzero(truths.classes == dataset.label_index.get(label, -1))
    return Truths(truths.videos[rows], truths.classes[rows], truths.intervals[rows])


def evaluate(options: EvaluateOptions) -> list[Evaluation]:
    """Measure detections: mAP at tIoU thresholds, of any number of files side by side.

    Raises UserError where a file is missing, is no detection result, or names unknown classes or videos.
    """
    if not options.files:
        raise UserError("name at least one file of detections (train/detect.py makes them)")
    truth = read_truth(options)
    started = time.perf_counter()
    read = [_read(path, truth, options) for path in options.files]
    elsewhere: Literal["drop", "count"] = "count" if options.unknown_videos == "count" else "drop"
    measured = (options.thresholds, options.definition, truth.ambiguous, elsewhere)
    evaluations = [
        evaluate_detections(found, truth.dataset, *measured, name)
        for found, name in zip(read, _names(options.files), strict=True)
    ]
    if not options.quiet:
        _print(evaluations, truth, options)
        print(f"{time.perf_counter() - started:.1f} s")
    if options.json is not None:
        _write_json(options.json, evaluations, truth, options)
    if options.csv is not None:
        _write_csv(options.csv, evaluations)
    if options.picture is not None:
        draw(options.picture, options, truth.known, read[0])
    return evaluations


def _read(path: Path, truth: Truth, options: EvaluateOptions) -> Detections:
    """The detections of a file; says what is not counted. Raises UserError on unknown classes and videos."""
    found = Detections.read(path)
    strangers = sum(video not in truth.known.videos for video in found.ids)
    try:
        found = found.relabelled(truth.known.labels)
        if options.unknown_videos == "refuse":
            found.matched(truth.known)
    except UserError as error:
        hint = "; --unknown-videos drop leaves them out" if "videos are not in" in str(error) else ""
        raise UserError(f"{path}: {error}{hint}") from None
    elsewhere = sum(video in truth.known.videos and video not in truth.dataset.videos for video in found.ids)
    if not options.quiet and strangers + elsewhere:
        fate = "counted as false alarms" if options.unknown_videos == "count" else "left out"
        print(f"{path}: {fate} are detections in {strangers} unknown videos and {elsewhere} of other subsets")
    return found


def _names(files: Sequence[Path]) -> list[str]:
    """Short names of files: their stems, or their paths where stems are equal."""
    stems = [path.stem for path in files]
    return stems if len(set(stems)) == len(stems) else [str(path) for path in files]


def draw(picture: Path, options: EvaluateOptions, dataset: Dataset, detections: Detections | None) -> None:
    """Write the timelines of ``options.videos``. Raises UserError on a video that the annotations do not have."""
    unknown = [video for video in options.videos if video not in dataset.videos]
    if unknown:
        raise UserError(f"cannot draw the video {unknown[0]!r}: it is not in {options.annotations}")
    found = Proposals.load(options.proposals) if options.proposals else None
    timelines = []
    for video in options.videos:
        own, curve = None, None
        if found is not None and video in found.intervals:
            own = found.intervals[video], found.scores[video]
        if found is not None and found.actionness is not None and found.spans is not None and video in found.spans:
            curve = found.actionness[video], found.spans[video]
        timelines.append(timeline_of(dataset.videos[video], detections, own, curve))
    save(timeline_figure(timelines, dataset.labels, options.timeline), picture)


# ------------------------------------------------------------------------------------------------- output


def _print(evaluations: Sequence[Evaluation], truth: Truth, options: EvaluateOptions) -> None:
    dataset = truth.dataset
    instances = sum(len(video.instances) for video in dataset.videos.values())
    labels = {i.label for video in dataset.videos.values() for i in video.instances}
    print(
        f"mAP@tIoU as {options.definition} defines it; {options.subset or 'all subsets'} of {dataset.name}: "
        f"{len(dataset.videos)} videos, {instances} instances, {len(labels)} of {len(dataset.labels)} classes"
    )
    if truth.empty:
        treatment = "false alarms" if options.empty_videos == "count" else "left out (--empty-videos ignore)"
        print(f"detections in the {truth.empty} videos without instances are {treatment}")
    show(_mean_table(evaluations))
    if options.per_class:
        show(_class_table(evaluations, dataset))


def _mean_table(evaluations: Sequence[Evaluation]) -> Table:
    thresholds = [f"{threshold:.3g}" for threshold in evaluations[0].thresholds]
    table = table_of("", *thresholds, "average", "detections", "videos without")
    numbers = np.array([[*e.mean, e.average] for e in evaluations])
    best = numbers == np.nanmax(numbers, axis=0) if len(evaluations) > 1 else np.zeros(numbers.shape, bool)
    for evaluation, row, marks in zip(evaluations, numbers, best, strict=True):
        cells = [Text(f"{v:.3f}", style="bold" if mark else "") for v, mark in zip(row, marks, strict=True)]
        table.add_row(Text(evaluation.name), *cells, str(evaluation.detections), str(evaluation.lacking))
    return table


def _class_table(evaluations: Sequence[Evaluation], dataset: Dataset) -> Table:
    """AP of each class at tIoU 0.5 (or the threshold next to it) and on average over the thresholds."""
    thresholds = np.array(evaluations[0].thresholds)
    column = int(np.abs(thresholds - 0.5).argmin())
    truths = np.bincount(truths_of(dataset).classes, minlength=len(dataset.labels))
    names = [name for e in evaluations for name in (f"{e.name} @{thresholds[column]:.3g}", "average")]
    table = table_of("class", "instances", *names)
    for position, label in enumerate(dataset.labels):
        cells: list[str] = []
        for evaluation in evaluations:
            row = evaluation.average_precision[position]
            cells += ["-" if np.isnan(v) else f"{v:.3f}" for v in (row[column], row.mean())]
        table.add_row(Text(label), str(truths[position]), *cells)
    return table


def _write_json(path: Path, evaluations: Sequence[Evaluation], truth: Truth, options: EvaluateOptions) -> None:
    videos = truth.dataset.videos
    content = {
        "definition": options.definition,
        "annotations": options.annotations,
        "subset": options.subset,
        "tiou": list(options.thresholds),
        "videos": len(videos),
        "instances": sum(len(video.instances) for video in videos.values()),
        "empty_videos": {"number": truth.empty, "treatment": options.empty_videos},
        "files": [
            {"path": str(file), **evaluation.plain} for file, evaluation in zip(options.files, evaluations, strict=True)
        ],
    }
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_csv(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Lines of file, class, tIoU, AP; the class of means is empty, and so is an AP where a class has no truth."""
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "class", "tiou", "ap"])
        for evaluation in evaluations:
            rows = [("", evaluation.mean), *zip(evaluation.labels, evaluation.average_precision, strict=True)]
            for label, values in rows:
                for threshold, value in zip(evaluation.thresholds, values, strict=True):
                    number = "" if np.isnan(value) else repr(float(value))
                    writer.writerow([evaluation.name, label, f"{threshold:.6g}", number])


__all__ = ["PRESETS", "EvaluateOptions", "Evaluation", "evaluate", "evaluate_detections"]
