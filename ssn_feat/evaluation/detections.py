"""Files of detections measured against annotations, side by side: what ``bench/detections.py`` does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ssn_feat.annotations import Dataset
from ssn_feat.annotations.protocols import coverage
from ssn_feat.detection.results import Detections
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_precision import truths_of
from ssn_feat.evaluation.bootstrap import draw_videos
from ssn_feat.evaluation.curves import calibration_of, recall_at_multiples
from ssn_feat.evaluation.curves_figure import curves_figure
from ssn_feat.evaluation.error_output import error_figure, print_analyses, write_analysis_csv
from ssn_feat.evaluation.errors import ErrorAnalysis, analyse
from ssn_feat.evaluation.measure import Evaluation, evaluate_detections
from ssn_feat.evaluation.options import PRESETS, EvaluateOptions
from ssn_feat.evaluation.output import (
    plain_recall,
    print_calibrations,
    print_evaluations,
    print_recalls,
    write_csv,
    write_json,
)
from ssn_feat.evaluation.truth import Truth, read_truth
from ssn_feat.proposals import Proposals
from ssn_feat.report.timeline import save, timeline_figure, timeline_of


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
    draws = draw_videos(len(truth.dataset.videos), options.bootstrap, options.seed) if options.bootstrap else None
    measured = (options.tious, options.definition, truth.ambiguous, elsewhere)
    evaluations = [
        evaluate_detections(found, truth.dataset, *measured, name, draws)
        for found, name in zip(read, _names(options.files), strict=True)
    ]
    if not options.quiet:
        print_evaluations(evaluations, truth, options)
    further = _further(evaluations, truth, options)
    if not options.quiet:
        print(f"{time.perf_counter() - started:.1f} s")
    if options.json is not None:
        write_json(options.json, evaluations, truth, options, further)
    if options.curves is not None:
        save(curves_figure(evaluations, _level(options)), options.curves)
    if options.csv is not None:
        write_csv(options.csv, evaluations)
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
        print(f"{path}: {fate} are detections in {strangers} unknown videos and {elsewhere} that are not evaluated")
    reached = coverage(truth.dataset, found.ids)
    if not options.quiet and reached.unreachable:
        print(f"{path}: {reached}")
    return found


def _names(files: Sequence[Path]) -> list[str]:
    """Short names of files: their stems, or their paths where stems are equal."""
    stems = [path.stem for path in files]
    return stems if len(set(stems)) == len(stems) else [str(path) for path in files]


def _level(options: EvaluateOptions) -> int:
    """Position of the threshold next to 0.5, which curves of one threshold are drawn at."""
    return int(np.abs(np.array(options.tious) - 0.5).argmin())


def _further(
    evaluations: Sequence[Evaluation], truth: Truth, options: EvaluateOptions
) -> dict[str, list[dict[str, Any]]]:
    """Recall, calibration and, if wanted, errors: printed unless quiet, and as what JSON holds of each file."""
    truths, classes, level = truths_of(truth.dataset), len(truth.dataset.labels), _level(options)
    recalls = [
        recall_at_multiples(e.ranked.detections, truths, classes, options.tious, options.multiples) for e in evaluations
    ]
    calibrations = [calibration_of(e.ranked, level) for e in evaluations]
    if not options.quiet:
        print_recalls(evaluations, recalls, options.multiples)
        print_calibrations(evaluations, calibrations, level)
    analyses = _analyse(evaluations, truth, options) if options.analysed else []
    return {
        "recall_at_multiples": [plain_recall(found, options.multiples) for found in recalls],
        "calibration": [{"tiou": options.tious[level], **found.plain} for found in calibrations],
        "analysis": [analysis.plain for analysis in analyses],
    }


def _analyse(evaluations: Sequence[Evaluation], truth: Truth, options: EvaluateOptions) -> list[ErrorAnalysis]:
    """Why detections are wrong, printed, written and drawn as ``options`` say."""
    analyses = [
        analyse(e.ranked.detections, truth.dataset, options.tious, options.buckets, e.name) for e in evaluations
    ]
    if not options.quiet:
        print_analyses(analyses)
    if options.analysis_csv is not None:
        write_analysis_csv(options.analysis_csv, analyses)
    if options.analysis_picture is not None:
        for number, analysis in enumerate(analyses, start=1):
            path = options.analysis_picture
            save(error_figure(analysis), path if len(analyses) == 1 else path.with_stem(f"{path.stem}-{number}"))
    return analyses


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


__all__ = ["PRESETS", "EvaluateOptions", "Evaluation", "evaluate", "evaluate_detections"]
