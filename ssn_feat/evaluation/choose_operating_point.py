"""Score thresholds chosen on some videos and measured on others: what ``bench/operating_point.py`` does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations import Dataset
from ssn_feat.annotations.dataset import subset_name
from ssn_feat.cli import read_yaml
from ssn_feat.drawing.tables import cell, show, table_of
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_precision import truths_of
from ssn_feat.evaluation.bootstrap import draw_videos, interval_of
from ssn_feat.evaluation.evaluate import EvaluatedFiles, evaluate_files
from ssn_feat.evaluation.matching import Ranked
from ssn_feat.evaluation.measure import Evaluation
from ssn_feat.evaluation.operating_point_options import OperatingPointOptions
from ssn_feat.evaluation.score_thresholds import Criterion, class_thresholds, pooled_threshold
from ssn_feat.files import replacing
from ssn_feat.results.operating_point import OperatingPoint
from ssn_feat.terminal import counted

Float = NDArray[np.float64]

MEASURES = ("precision", "recall", "F1", "false alarms/h")


@dataclass(frozen=True)
class MeasuredPoint:
    """Detections at or above the thresholds of an operating point, measured on one set of videos."""

    labels: tuple[str, ...]
    """The classes that have instances or kept detections, and ``all classes`` at the end."""
    instances: tuple[int, ...]
    """Number of instances of each."""
    values: Float
    """MEASURES of each, ``(K + 1, 4)``; NaN where a measure is not defined."""
    low: Float | None
    """Lower end of the 95 % intervals, of the same shape; None: videos were not drawn."""
    high: Float | None
    """Upper end."""
    evaluation: Evaluation
    """mAP of all detections at the same tIoU."""

    @property
    def plain(self) -> dict[str, Any]:
        """All numbers as JSON values; None instead of NaN."""

        def rows(values: Float | None) -> dict[str, dict[str, float | None]] | None:
            if values is None:
                return None
            cells = [[None if np.isnan(v) else float(v) for v in row] for row in values]
            return {label: dict(zip(MEASURES, row, strict=True)) for label, row in zip(self.labels, cells, strict=True)}

        measured = {"values": rows(self.values), "from": rows(self.low), "to": rows(self.high)}
        return {
            "instances": dict(zip(self.labels, self.instances, strict=True)),
            **measured,
            "mAP": self.evaluation.plain,
        }


def choose_operating_point(options: OperatingPointOptions) -> tuple[OperatingPoint, MeasuredPoint]:
    """Choose a score threshold for the detections of each class on some videos, and measure them on others.

    Raises UserError if files are missing or do not fit the annotations, or if no class has a threshold.
    """
    trained = _training_subsets(options.model)
    chosen = _evaluate(options, test=False)
    point = choose(chosen.evaluations[0].ranked, chosen.evaluation_set.dataset, options)
    tested = _evaluate(options, test=True)
    measured = measure_operating_point(point, tested, options)
    if options.out is not None:
        point.save(options.out)
    if options.model is not None:
        point.save(options.model)
    if options.json is not None:
        with replacing(options.json) as part:
            content = {"operating_point": asdict(point), "measured": measured.plain}
            part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if not options.quiet:
        notes = _notes(point, chosen.evaluation_set.dataset, tested.evaluation_set.dataset, options, trained)
        # A file with the detections of both subsets is usual, so what it has beyond one of them is not worth a note.
        notes += dict.fromkeys(note for note in (*chosen.notes, *tested.notes) if "not evaluated" not in note)
        _print(point, measured, options, notes)
    return point, measured


def _evaluate(options: OperatingPointOptions, test: bool) -> EvaluatedFiles:
    """The detections of one subset, measured. Raises UserError if the file has none of its videos with instances."""
    chosen = options.evaluated(test)
    evaluated = evaluate_files(chosen)
    videos = [video for video in evaluated.evaluation_set.dataset.videos.values() if video.instances]
    if not any(video.id in evaluated.detections[0] for video in videos):
        hint = "; name the file that has them with --test-detections" if test and not options.test_detections else ""
        raise UserError(
            f"{chosen.files[0]} has detections of none of the {counted(len(videos), f'{chosen.subset} video')} with "
            f"instances{hint}"
        )
    return evaluated


def _training_subsets(model: Path | None) -> set[str]:
    """The subsets that the heads of the model were trained on. Raises UserError if there is no model folder."""
    if model is None:
        return set()
    if not (model / "model.yaml").is_file():
        raise UserError(f"{model} is not a model folder: train/detect.py store --save-model makes one")
    records = [read_yaml(path) for path in sorted(model.glob("*/config.yaml"))]
    return {subset_name(str(record["subset"])) for record in records if "subset" in record}


def choose(ranked: Ranked, dataset: Dataset, options: OperatingPointOptions) -> OperatingPoint:
    """The operating point of detections ``ranked``, matched at one tIoU. Raises UserError if it would keep nothing."""
    hours, criterion = _hours(dataset), options.criterion
    thresholds = class_thresholds(ranked, 0, criterion, hours)
    few = ranked.numbers < options.minimum_instances
    thresholds[few] = pooled_threshold(ranked, 0, criterion, hours)
    if np.isnan(thresholds).all():
        raise UserError(
            f"no threshold gives {criterion} for any class on {counted(len(dataset.videos), f'{options.subset} video')}"
        )
    return OperatingPoint(
        {
            label: None if np.isnan(value) else float(value)
            for label, value in zip(dataset.labels, thresholds, strict=True)
        },
        str(criterion),
        options.tiou,
        f"{len(dataset.videos)} videos of {options.subset} of {dataset.name}",
        tuple(label for label, pooled in zip(dataset.labels, few, strict=True) if pooled),
    )


def _hours(dataset: Dataset) -> float:
    return sum(video.duration for video in dataset.videos.values()) / 3600


def measure_operating_point(
    point: OperatingPoint, tested: EvaluatedFiles, options: OperatingPointOptions
) -> MeasuredPoint:
    """Precision, recall, F1 and false alarms per hour of each class and of all classes together."""
    dataset, evaluation = tested.evaluation_set.dataset, tested.evaluations[0]
    ranked, truths = evaluation.ranked, truths_of(dataset)
    shape = (len(dataset.labels), len(dataset.videos))
    detections = ranked.detections
    kept = detections.scores >= point.of(dataset.labels)[detections.classes]
    hits = ranked.matched[0] >= 0
    counts = np.zeros((3, *shape))  # instances, correct and false detections of each class and video
    np.add.at(counts[0], (truths.classes, truths.videos), 1)
    for row, mask in ((1, kept & hits), (2, kept & ~hits)):
        np.add.at(counts[row], (detections.classes[mask], detections.videos[mask]), 1)
    counts = np.concatenate([counts, counts.sum(axis=1, keepdims=True)], axis=1)
    known = np.append((counts[0] + counts[2]).sum(axis=1)[:-1] > 0, True)
    counts = counts[:, known]
    durations = np.array([video.duration for video in dataset.videos.values()]) / 3600
    values = _measures(counts, durations, np.ones((shape[1], 1)))[0]
    low = high = None
    if options.bootstrap:
        drawn = _measures(counts, durations, draw_videos(shape[1], options.bootstrap, options.seed))
        ends = interval_of(drawn.reshape(len(drawn), -1), values.ravel())
        largest = np.array([1.0, 1.0, 1.0, np.inf])
        low, high = (np.clip(end.reshape(values.shape), 0.0, largest) for end in ends)
    labels = [label for label, is_known in zip((*dataset.labels, "all classes"), known, strict=True) if is_known]
    instances = tuple(counts[0].sum(axis=1).astype(int).tolist())
    return MeasuredPoint(tuple(labels), instances, values, low, high, evaluation)


def _measures(counts: Float, hours: Float, draws: Float) -> Float:
    """MEASURES of each class in each draw ``(V, R)`` of the videos: ``(R, K, 4)``; ``counts`` ``(3, K, V)``."""
    instances, right, false = (part @ draws for part in counts)
    rows = ((right, right + false), (right, instances), (2 * right, right + false + instances))
    ratios = [np.divide(a, b, out=np.full_like(a, np.nan), where=b > 0) for a, b in rows]
    time = np.broadcast_to(hours @ draws, false.shape)
    ratios.append(np.divide(false, time, out=np.full_like(false, np.nan), where=time > 0))
    result: Float = np.stack(ratios, axis=-1).transpose(1, 0, 2)
    return result


def _notes(
    point: OperatingPoint, chosen: Dataset, tested: Dataset, options: OperatingPointOptions, trained: set[str]
) -> list[str]:
    notes = []
    subset = subset_name(options.subset)
    if subset in trained or (not trained and subset == "training"):
        notes.append(
            f"warning: heads were trained on the subset {subset}, where scores are higher than on other videos, so the "
            "thresholds are too high: choose them on another subset"
        )
    same = len(chosen.videos.keys() & tested.videos.keys())
    if same:
        notes.append(
            f"warning: {same} of {len(tested.videos)} videos that the thresholds are measured on were also used to "
            "choose them, so these figures are too good: measure on others with --test-subset"
        )
    if point.pooled:
        names = f"the {len(point.pooled)} classes" if len(point.pooled) > 5 else ", ".join(point.pooled)
        notes.append(
            f"{names}: fewer than {options.minimum_instances} instances to choose on, so the threshold of all classes "
            "together"
        )
    nothing = [label for label, threshold in point.thresholds.items() if threshold is None]
    if nothing:
        names = f"{len(nothing)} classes" if len(nothing) > 5 else ", ".join(nothing)
        reason = (
            "no detection is correct" if options.criterion == Criterion() else f"no threshold gives {point.criterion}"
        )
        notes.append(f"{names}: {reason} on the videos to choose on, so none is kept")
    return notes


def _print(
    point: OperatingPoint, measured: MeasuredPoint, options: OperatingPointOptions, notes: Sequence[str]
) -> None:
    for note in notes:
        print(note)
    print(f"operating point: {point}")
    print(f"measured on {options.test_subset or options.subset} of {options.annotations}:")
    table = table_of("class", "threshold", "instances", *MEASURES)
    for label, number, row in zip(measured.labels, measured.instances, measured.values, strict=True):
        threshold = point.thresholds.get(label)
        text = "" if label not in point.thresholds else "-" if threshold is None else f"{threshold:.3g}"
        table.add_row(cell(label), text, str(number), *_cells(row))
    for name, values in (("95 % from", measured.low), ("to", measured.high)):
        if values is not None:
            table.add_row(name, "", "", *_cells(values[-1]))
    show(table)
    evaluation = measured.evaluation
    line = f"mAP of all detections at tIoU {point.tiou:.3g}: {evaluation.mean[0]:.3f}"
    if evaluation.resampled is not None:
        low, high = evaluation.interval()
        line += f" ({low[0]:.3f} to {high[0]:.3f})"
    print(line)
    for path, what in ((options.out, "the operating point"), (options.model, "the model, with the operating point")):
        if path is not None:
            print(f"{path}: {what}")


def _cells(row: Float) -> list[str]:
    cells = ["-" if np.isnan(value) else f"{value:.3f}" for value in row[:-1]]
    return [*cells, "-" if np.isnan(row[-1]) else f"{row[-1]:.1f}"]


__all__ = ["MEASURES", "MeasuredPoint", "choose", "choose_operating_point", "measure_operating_point"]
