"""Files of detections measured against annotations, side by side: what ``bench/detections.py`` does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations import Dataset
from ssn_feat.annotations.protocols import dataset_coverage
from ssn_feat.drawing.names import short_names
from ssn_feat.drawing.pictures import save
from ssn_feat.drawing.timeline import timeline_figure, timeline_of
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_precision import truths_of
from ssn_feat.evaluation.bootstrap import draw_videos
from ssn_feat.evaluation.curves import Calibration, calibration_of, recall_at_multiples
from ssn_feat.evaluation.curves_figure import curves_figure
from ssn_feat.evaluation.error_analysis import ErrorAnalysis, analyse
from ssn_feat.evaluation.error_analysis_output import error_figure, print_analyses, write_analysis_csv
from ssn_feat.evaluation.evaluate_options import PRESETS, EvaluateOptions
from ssn_feat.evaluation.evaluation_set import EvaluationSet, read_evaluation_set
from ssn_feat.evaluation.measure import Evaluation, evaluate_detections
from ssn_feat.evaluation.output import (
    plain_recall,
    print_calibrations,
    print_evaluations,
    print_recalls,
    write_csv,
    write_json,
)
from ssn_feat.proposals import Proposals
from ssn_feat.results.detections import Detections


@dataclass(frozen=True)
class EvaluatedFiles:
    """Files of detections, and all that is known of them; lists are in the order of the files."""

    truth: EvaluationSet
    """What they are measured against."""
    found: list[Detections]
    """What the files hold, classes as in the truth."""
    evaluations: list[Evaluation]
    """Average precision."""
    recalls: list[NDArray[np.float64]]
    """Recall@kx, ``(len(multiples), n_tiou)``."""
    calibrations: list[Calibration]
    """At the threshold of position ``level``."""
    analyses: list[ErrorAnalysis]
    """Why detections are wrong; empty where that was not asked for."""
    level: int
    """Position of the threshold next to 0.5, at which curves of one threshold are drawn."""
    said: list[str]
    """What is not counted, a line for each file and reason."""


def evaluate(
    options: EvaluateOptions, detections: Mapping[str, Detections] | None = None, dataset: Dataset | None = None
) -> list[Evaluation]:
    """Measure detections: mAP at tIoU thresholds, of any number of files side by side.

    ``detections`` by name and ``dataset`` in memory take the place of the files that ``options`` name. Raises
    UserError if a file is missing, is not a detection result, or names unknown classes or videos.
    """
    started = time.perf_counter()
    measured = measure(options, detections, dataset)
    if not options.quiet:
        _print(measured, options)
        print(f"{time.perf_counter() - started:.1f} s")
    _write(measured, options)
    return measured.evaluations


def measure(
    options: EvaluateOptions, detections: Mapping[str, Detections] | None = None, dataset: Dataset | None = None
) -> EvaluatedFiles:
    """All numbers that ``options`` ask for; nothing is printed or written. Arguments and errors as :func:`evaluate`."""
    if detections is None and not options.files:
        raise UserError("name at least one file of detections (train/detect.py store makes them)")
    names = short_names(options.files) if detections is None else list(detections)
    if detections is None:
        detections = {str(path): Detections.read(path) for path in options.files}
    truth = read_evaluation_set(options, dataset)
    dataset, said = truth.dataset, []
    found = []
    for source, given in detections.items():
        own, lines = _match(source, given, truth, options)
        found.append(own)
        said += lines
    elsewhere: Literal["drop", "count"] = "count" if options.unknown_videos == "count" else "drop"
    draws = draw_videos(len(dataset.videos), options.bootstrap, options.seed) if options.bootstrap else None
    how = (options.tious, options.definition, truth.ambiguous, elsewhere)
    evaluations = [evaluate_detections(own, dataset, *how, name, draws) for own, name in zip(found, names, strict=True)]
    truths, classes, level = truths_of(dataset), len(dataset.labels), _level(options)
    recalls = [
        recall_at_multiples(e.ranked.detections, truths, classes, options.tious, options.multiples) for e in evaluations
    ]
    calibrations = [calibration_of(e.ranked, level) for e in evaluations]
    analyses = []
    if options.analysed:
        buckets = options.buckets
        analyses = [analyse(e.ranked.detections, dataset, options.tious, buckets, e.name) for e in evaluations]
    return EvaluatedFiles(truth, found, evaluations, recalls, calibrations, analyses, level, said)


def _match(
    source: str, found: Detections, truth: EvaluationSet, options: EvaluateOptions
) -> tuple[Detections, list[str]]:
    """Detections with the class indices of the truth, and a line for everything that is not counted.

    ``source``: the file or the name of the detections, for messages. Raises UserError on unknown classes and videos.
    """
    said = []
    strangers = sum(video not in truth.known.videos for video in found.ids)
    try:
        found = found.relabelled(truth.known.labels)
        if options.unknown_videos == "refuse":
            found.matched(truth.known)
    except UserError as error:
        hint = "; --unknown-videos drop leaves them out" if "videos are not in" in str(error) else ""
        raise UserError(f"{source}: {error}{hint}") from None
    elsewhere = sum(video in truth.known.videos and video not in truth.dataset.videos for video in found.ids)
    if strangers + elsewhere:
        fate = "counted as false alarms" if options.unknown_videos == "count" else "left out"
        said.append(
            f"{source}: {fate} are detections in {strangers} unknown videos and {elsewhere} that are not evaluated"
        )
    reached = dataset_coverage(truth.dataset, found.ids)
    if reached.unreachable:
        said.append(f"{source}: {reached}")
    return found, said


def _level(options: EvaluateOptions) -> int:
    """Position of the threshold next to 0.5, which curves of one threshold are drawn at."""
    return int(np.abs(np.array(options.tious) - 0.5).argmin())


def _print(measured: EvaluatedFiles, options: EvaluateOptions) -> None:
    for line in measured.said:
        print(line)
    print_evaluations(measured.evaluations, measured.truth, options)
    print_recalls(measured.evaluations, measured.recalls, options.multiples)
    print_calibrations(measured.evaluations, measured.calibrations, measured.level)
    print_analyses(measured.analyses)


def _write(measured: EvaluatedFiles, options: EvaluateOptions) -> None:
    """Write and draw what ``options`` name a file for."""
    if options.json is not None:
        tiou = options.tious[measured.level]
        parts = {
            "recall_at_multiples": [plain_recall(found, options.multiples) for found in measured.recalls],
            "calibration": [{"tiou": tiou, **found.plain} for found in measured.calibrations],
            "analysis": [analysis.plain for analysis in measured.analyses],
        }
        write_json(options.json, measured.evaluations, measured.truth, options, parts)
    if options.csv is not None:
        write_csv(options.csv, measured.evaluations)
    if options.curves is not None:
        save(curves_figure(measured.evaluations, measured.level), options.curves)
    if options.analysis_csv is not None:
        write_analysis_csv(options.analysis_csv, measured.analyses)
    if options.analysis_picture is not None:
        for number, analysis in enumerate(measured.analyses, start=1):
            path = options.analysis_picture
            alone = len(measured.analyses) == 1
            save(error_figure(analysis), path if alone else path.with_stem(f"{path.stem}-{number}"))
    if options.picture is not None:
        draw(options.picture, options, measured.truth.known, measured.found[0])


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


__all__ = ["PRESETS", "EvaluateOptions", "EvaluatedFiles", "Evaluation", "evaluate", "evaluate_detections", "measure"]
