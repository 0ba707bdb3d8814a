"""Evaluations as tables on the terminal, JSON and CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from ssn_feat.annotations import Dataset
from ssn_feat.annotations.protocols import protocol
from ssn_feat.drawing.tables import cell, show, table_of
from ssn_feat.evaluation.average_precision import truths_of
from ssn_feat.evaluation.curves import Calibration
from ssn_feat.evaluation.evaluate_options import EvaluateOptions
from ssn_feat.evaluation.evaluation_set import EvaluationSet
from ssn_feat.evaluation.measure import Evaluation
from ssn_feat.files import replacing, write_text
from ssn_feat.terminal import counted

Float = NDArray[np.float64]


def print_evaluations(
    evaluations: Sequence[Evaluation], evaluation_set: EvaluationSet, options: EvaluateOptions
) -> None:
    """Print what was counted, and tables of mAP and its intervals."""
    for line in summary_lines(evaluation_set, options):
        print(line)
    show(_mean_table(evaluations))
    if evaluations[0].resampled is not None:
        number = len(evaluations[0].resampled)
        size = f"bootstrap of {counted(len(evaluation_set.dataset.videos), 'video')}, {counted(number, 'draw')}"
        print(f"\n95 % intervals over videos ({size})")
        show(_interval_table(evaluations))
    if options.per_class:
        show(_class_table(evaluations, evaluation_set.dataset))


def summary_lines(evaluation_set: EvaluationSet, options: EvaluateOptions) -> list[str]:
    """Lines that describe what was counted, to print beside the numbers."""
    dataset = evaluation_set.dataset
    instances = sum(len(video.instances) for video in dataset.videos.values())
    labels = {i.label for video in dataset.videos.values() for i in video.instances}
    subset = options.subset or (protocol(options.protocol).subset if options.protocol else "all subsets")
    lines = [
        f"mAP@tIoU by the definition {options.definition}; {subset} of {dataset.name}: "
        f"{counted(len(dataset.videos), 'video')}, {counted(instances, 'instance')}, {len(labels)} of "
        f"{counted(len(dataset.labels), 'class', 'classes')}"
    ]
    if evaluation_set.line is not None:
        lines.append(f"protocol {evaluation_set.line}")
    if not evaluation_set.empty:
        return [*lines, "all of these videos have instances"]
    treatment = "false alarms" if evaluation_set.empty_count else f"left out ({_reason(options)})"
    where = "the video" if evaluation_set.empty == 1 else f"the {evaluation_set.empty} videos"
    return [*lines, f"detections in {where} without instances are {treatment}"]


def _reason(options: EvaluateOptions) -> str:
    return (
        "--empty-videos ignore"
        if options.empty_videos == "ignore"
        else "by the protocol; with the suffix /all they count"
    )


def _interval_table(evaluations: Sequence[Evaluation]) -> Table:
    """Intervals of each file, and the paired difference of each further file to the first."""
    first = evaluations[0]
    table = table_of("", "", *(f"{threshold:.3g}" for threshold in first.thresholds), "average", names=("",))
    for evaluation in evaluations:
        for name, end, values in zip((evaluation.name, ""), ("from", "to"), evaluation.interval(), strict=True):
            table.add_row(cell(name), end, *(f"{value:.3f}" for value in values))
    for evaluation in evaluations[1:]:
        by, (low, high) = evaluation.difference(first)
        # Bold if the interval excludes 0.
        styles = ["bold" if a > 0 or b < 0 else "" for a, b in zip(low, high, strict=True)]
        names = (f"{evaluation.name} − {first.name}", "", "")
        for name, end, values in zip(names, ("", "from", "to"), (by, low, high), strict=True):
            cells = [Text(f"{value:+.3f}", style=style) for value, style in zip(values, styles, strict=True)]
            table.add_row(cell(name), end, *cells)
    return table


def _mean_table(evaluations: Sequence[Evaluation]) -> Table:
    thresholds = [f"{threshold:.3g}" for threshold in evaluations[0].thresholds]
    table = table_of("", *thresholds, "average", "detections", "videos without")
    numbers = np.array([[*e.mean, e.average] for e in evaluations])
    best = numbers == np.nanmax(numbers, axis=0) if len(evaluations) > 1 else np.zeros(numbers.shape, bool)
    for evaluation, row, marks in zip(evaluations, numbers, best, strict=True):
        cells = [Text(f"{v:.3f}", style="bold" if mark else "") for v, mark in zip(row, marks, strict=True)]
        table.add_row(cell(evaluation.name), *cells, str(evaluation.detections), str(evaluation.lacking))
    return table


def _class_table(evaluations: Sequence[Evaluation], dataset: Dataset) -> Table:
    """AP of each class at the threshold closest to 0.5 and on average over the thresholds."""
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
        table.add_row(cell(label), str(truths[position]), *cells)
    return table


def print_recalls(evaluations: Sequence[Evaluation], recalls: Sequence[Float], multiples: Sequence[int]) -> None:
    """Print recall@kx of each file, ``(len(multiples), n_tiou)``, and its mean over the thresholds."""
    table = table_of("recall", "k", *(f"{threshold:.3g}" for threshold in evaluations[0].thresholds), "average")
    for evaluation, recall in zip(evaluations, recalls, strict=True):
        for k, row in zip(multiples, recall, strict=True):
            table.add_row(cell(evaluation.name), f"{k}x", *(f"{value:.3f}" for value in [*row, row.mean()]))
    if multiples:
        print()
        show(table)


def plain_recall(recall: Float, multiples: Sequence[int]) -> dict[str, Any]:
    """Recall@kx at each threshold, by ``kx``, as JSON values."""
    return {f"{k}x": row.tolist() for k, row in zip(multiples, recall, strict=True)}


def print_calibrations(evaluations: Sequence[Evaluation], calibrations: Sequence[Calibration], level: int) -> None:
    """Print the calibration error of the scores of each file."""
    notes = [f"{e.name}: {c.note}" for e, c in zip(evaluations, calibrations, strict=True)]
    tiou = evaluations[0].thresholds[level]
    print(f"\nexpected calibration error of scores at tIoU {tiou:.3g}: {'; '.join(notes)}")


def write_json(
    path: Path,
    evaluations: Sequence[Evaluation],
    evaluation_set: EvaluationSet,
    options: EvaluateOptions,
    parts: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """Write all numbers, and what was counted, as JSON; ``parts``: further values of each file by key."""
    videos = evaluation_set.dataset.videos
    files = options.files or [e.name for e in evaluations]  # detections in memory have only a name
    content = {
        "protocol": evaluation_set.line,
        "definition": options.definition,
        "annotations": options.annotations,
        "subset": options.subset,
        "tiou": list(options.tious),
        "videos": len(videos),
        "instances": sum(len(video.instances) for video in videos.values()),
        "empty_videos": {
            "number": evaluation_set.empty,
            "treatment": "count" if evaluation_set.empty_count else "ignore",
        },
        "bootstrap": {"draws": options.bootstrap, "seed": options.seed, "confidence": 0.95},
        "files": [
            {"path": str(file), **e.plain, **{key: values[number] for key, values in parts.items() if values}}
            for number, (file, e) in enumerate(zip(files, evaluations, strict=True))
        ],
        "differences": [_plain_difference(e, evaluations[0]) for e in evaluations[1:] if e.resampled is not None],
    }
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _plain_difference(evaluation: Evaluation, first: Evaluation) -> dict[str, Any]:
    """mAP minus the mAP of the first file, at each threshold and on average, with paired intervals."""
    by, interval = evaluation.difference(first)
    pairs = np.column_stack(interval).tolist()
    return {
        "of": evaluation.name,
        "to": first.name,
        "mAP": by[:-1].tolist(),
        "mAP_95": pairs[:-1],
        "average_mAP": float(by[-1]),
        "average_mAP_95": pairs[-1],
    }


def write_csv(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Lines of file, class, tIoU, AP; the class of mAP is empty, and so is the AP of classes without instances."""
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "class", "tiou", "ap"])
        for evaluation in evaluations:
            rows = [("", evaluation.mean), *zip(evaluation.labels, evaluation.average_precision, strict=True)]
            for label, values in rows:
                for threshold, value in zip(evaluation.thresholds, values, strict=True):
                    number = "" if np.isnan(value) else repr(float(value))
                    writer.writerow([evaluation.name, label, f"{threshold:.6g}", number])
