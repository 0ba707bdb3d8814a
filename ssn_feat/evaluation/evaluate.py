"""Files of detections measured against annotations: what ``bench/detections.py`` does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations import Dataset
from ssn_feat.annotations.joining import check_times, times_of_dataset
from ssn_feat.annotations.matching import annotated_ids
from ssn_feat.annotations.protocols import dataset_coverage, protocol
from ssn_feat.annotations.similar import similar_name
from ssn_feat.drawing.names import short_names
from ssn_feat.drawing.pictures import save
from ssn_feat.drawing.timeline import timeline_figure, timeline_of
from ssn_feat.errors import UserError
from ssn_feat.evaluation.advice import advise
from ssn_feat.evaluation.average_precision import truths_of
from ssn_feat.evaluation.bootstrap import draw_videos
from ssn_feat.evaluation.compared_methods import load_proposals
from ssn_feat.evaluation.curves import Calibration, calibration_of, recall_at_multiples
from ssn_feat.evaluation.curves_figure import curves_figure
from ssn_feat.evaluation.error_analysis import ErrorAnalysis, analyse
from ssn_feat.evaluation.error_analysis_output import error_figure, print_analyses, write_analysis_csv
from ssn_feat.evaluation.evaluate_options import PRESETS, EvaluateOptions
from ssn_feat.evaluation.evaluation_set import EvaluationSet, read_evaluation_set
from ssn_feat.evaluation.explanation import Explanation, explain
from ssn_feat.evaluation.explanation_output import print_explanation
from ssn_feat.evaluation.matching import rank
from ssn_feat.evaluation.measure import Evaluation, evaluate_detections
from ssn_feat.evaluation.origin import Origin
from ssn_feat.evaluation.output import (
    plain_recall,
    print_calibrations,
    print_evaluations,
    print_recalls,
    write_csv,
    write_json,
)
from ssn_feat.proposals import Proposals
from ssn_feat.results.detections import Detections, read_detections
from ssn_feat.results.operating_point import OperatingPoint
from ssn_feat.terminal import counted

# From this share of detections with a score that another detection of their class has, a note says so.
_MANY_TIES = 0.01


@dataclass(frozen=True)
class EvaluatedFiles:
    """All results of several files of detections; lists are in the order of the files."""

    evaluation_set: EvaluationSet
    """The annotations that the detections are measured against."""
    detections: list[Detections]
    """Content of the files, with the classes of the annotations."""
    evaluations: list[Evaluation]
    """Average precision."""
    recalls: list[NDArray[np.float64]]
    """Recall@kx, ``(len(multiples), n_tiou)``."""
    calibrations: list[Calibration]
    """Calibration at the threshold of position ``level``."""
    analyses: list[ErrorAnalysis]
    """Error analyses; empty if they were not requested."""
    explanations: list[Explanation]
    """What became of every instance, at the threshold of position ``level``, and what to try next."""
    level: int
    """Position of the threshold closest to 0.5, which curves at one threshold use."""
    notes: list[str]
    """Lines about detections that do not count, ties and the definition."""


def evaluate(
    options: EvaluateOptions, detections: Mapping[str, Detections] | None = None, dataset: Dataset | None = None
) -> list[Evaluation]:
    """Measure detections: mAP at tIoU thresholds, of any number of files side by side.

    ``detections`` by name and ``dataset`` in memory replace the files that ``options`` name. Raises UserError if a file
    is missing, is not a detection result, or names unknown classes or videos.
    """
    started = time.perf_counter()
    evaluated = evaluate_files(options, detections, dataset)
    if not options.quiet:
        _print(evaluated, options)
        print(f"{time.perf_counter() - started:.1f} s")
    _write(evaluated, options)
    return evaluated.evaluations


def evaluate_files(
    options: EvaluateOptions,
    detections: Mapping[str, Detections] | None = None,
    dataset: Dataset | None = None,
    proposals: Proposals | None = None,
) -> EvaluatedFiles:
    """All results that ``options`` request; prints and writes nothing. Arguments and errors as :func:`evaluate`.

    ``proposals`` in memory replace the file of proposals that ``options`` name.
    """
    if detections is None and not options.files:
        raise UserError("name at least one file of detections (train/detect.py store makes them)")
    names = short_names(options.files) if detections is None else list(detections)
    notes: list[str] = []
    if detections is None:
        detections = {str(path): _read(path, options, notes) for path in options.files}
    evaluation_set = read_evaluation_set(options, dataset)
    evaluated, ambiguous = evaluation_set.dataset, evaluation_set.ambiguous
    if options.definition == "thumos14" and not len(ambiguous.videos):
        notes.append(
            f"the annotations have no instances of the class {options.ambiguous!r}, whose false alarms the definition "
            "thumos14 excuses, so the mAP may be too low"
        )
    files = [_match(source, file, evaluation_set, options, notes) for source, file in detections.items()]
    elsewhere: Literal["drop", "count"] = "count" if options.unknown_videos == "count" else "drop"
    draws = draw_videos(len(evaluated.videos), options.bootstrap, options.seed) if options.bootstrap else None
    how = (options.tious, options.definition, ambiguous, elsewhere)
    evaluations = [evaluate_detections(f, evaluated, *how, name, draws) for f, name in zip(files, names, strict=True)]
    notes += [_ties(e) for e in evaluations if e.tied > _MANY_TIES * e.detections]
    truths, classes = truths_of(evaluated), len(evaluated.labels)
    level = int(np.abs(np.array(options.tious) - 0.5).argmin())
    recalls = [
        recall_at_multiples(e.ranked.detections, truths, classes, options.tious, options.multiples) for e in evaluations
    ]
    calibrations = [calibration_of(e.ranked, level) for e in evaluations]
    analyses = []
    if options.analysed:
        buckets = options.bucket_scheme
        analyses = [analyse(e.ranked.detections, evaluated, options.tious, buckets, e.name) for e in evaluations]
    if proposals is None and options.proposals is not None:
        proposals = load_proposals(options.proposals, evaluation_set.known, quiet=options.quiet)
    if proposals is not None:
        notes += _lacking_proposals(proposals, evaluated)
    point = OperatingPoint.load(options.operating_point) if options.operating_point else None
    explanations = [
        _explain(e, evaluation_set, level, _origin(options, evaluation_set, proposals, file), point)
        for e, file in zip(evaluations, options.files or [None] * len(evaluations), strict=True)
    ]
    return EvaluatedFiles(
        evaluation_set, files, evaluations, recalls, calibrations, analyses, explanations, level, notes
    )


def _origin(
    options: EvaluateOptions, evaluation_set: EvaluationSet, proposals: Proposals | None, file: Path | None
) -> Origin:
    subset = options.subset or (protocol(options.protocol).subset if options.protocol else "")
    known, counted = evaluation_set.known, evaluation_set.dataset
    return Origin(known, counted, options.annotations, subset, file, proposals)


def _explain(
    evaluation: Evaluation, evaluation_set: EvaluationSet, level: int, origin: Origin, point: OperatingPoint | None
) -> Explanation:
    """Explain detections as matched by the definition activitynet, which does not change if low scores are dropped."""
    ranked, dataset, tiou = evaluation.ranked, evaluation_set.dataset, evaluation.thresholds[level]
    if ranked.definition != "activitynet":
        left_out = ranked.left_out
        ranked = rank(ranked.detections, truths_of(dataset), len(dataset.labels), [tiou])._replace(left_out=left_out)
        level = 0
    intervals = None if origin.proposals is None else origin.proposals.intervals
    thresholds = None if point is None else point.of(dataset.labels)
    explanation = explain(ranked, dataset, level, tiou, intervals, thresholds, evaluation.name, str(point or ""))
    return replace(explanation, advice=advise(explanation, origin))


def _read(path: Path, options: EvaluateOptions, notes: list[str]) -> Detections:
    try:
        detections, backward = read_detections(path, reversed_segments=options.reversed)
    except UserError as error:
        hint = "; --reversed swap or drop accepts such segments" if "ends before it starts" in str(error) else ""
        raise UserError(f"{error}{hint}") from None
    if backward:
        done = "their ends are swapped" if options.reversed == "swap" else "they are left out"
        number = counted(backward, "segment ends before it starts", "segments end before they start")
        notes.append(f"{path}: {number}; {done}")
    return detections


def _lacking_proposals(proposals: Proposals, evaluated: Dataset) -> list[str]:
    """A note on videos without proposals. Raises UserError if no video with instances has an entry."""
    with_truth = [video.id for video in evaluated.videos.values() if video.instances]
    lacking = [video for video in with_truth if video not in proposals.intervals]
    if len(lacking) == len(with_truth):
        hint = similar_name(lacking, proposals.ids, proposals.what)
        raise UserError(
            f"{proposals.what} hold none of the {counted(len(lacking), 'evaluated video')} with instances, such as "
            f"{lacking[0]!r}{hint}: give the proposals that the detections were made from, or leave out --proposals"
        )
    if not lacking:
        return []
    number = counted(len(lacking), "evaluated video is", "evaluated videos are")
    return [
        f"{number} not in {proposals.what}, such as {lacking[0]!r}; instances there count as instances without proposal"
    ]


def _ties(evaluation: Evaluation) -> str:
    share = 100 * evaluation.tied / evaluation.detections
    return (
        f"{evaluation.name}: {evaluation.tied} of {evaluation.detections} detections ({share:.1f} %) have the same "
        "score as another one of their class; these rank by video id, then by their order in the file"
    )


def _match(
    source: str, detections: Detections, evaluation_set: EvaluationSet, options: EvaluateOptions, notes: list[str]
) -> Detections:
    """Detections with the class indices of the annotations; appends a note on everything that does not count.

    ``source``: the file or the name of the detections, for messages. Raises UserError on unknown classes and videos.
    """
    known, counted = evaluation_set.known, evaluation_set.dataset
    names = dict(zip(detections.ids, annotated_ids(known, detections.ids, source, options.quiet), strict=True))
    detections = replace(detections, ids=tuple(names.values()))
    notes += _training_videos(source, detections.trained_on, names, counted)
    check_times(detections.times(source), times_of_dataset(known, options.annotations), options, options.quiet)
    unknown = sum(video not in known.videos for video in detections.ids)
    try:
        detections = detections.relabelled(known.labels)
        if options.unknown_videos == "refuse":
            detections.matched(known)
    except UserError as error:
        hint = "; --unknown-videos drop leaves them out" if "videos are not in" in str(error) else ""
        raise UserError(f"{source}: {error}{hint}") from None
    elsewhere = sum(video in known.videos and video not in counted.videos for video in detections.ids)
    if unknown + elsewhere:
        treatment = "count as false alarms" if options.unknown_videos == "count" else "are left out"
        notes.append(
            f"{source}: detections in {unknown} unknown videos and in {elsewhere} that are not evaluated {treatment}"
        )
    reached = dataset_coverage(counted, detections.ids)
    if reached.unreachable:
        notes.append(f"{source}: {reached}")
    return detections


def _training_videos(
    source: str, trained_on: Mapping[str, Sequence[str]], names: Mapping[str, str], counted: Dataset
) -> list[str]:
    """A note for each run that was trained on evaluated videos; ``names``: the annotated ids of the detected videos."""
    seen = {run: counted.videos.keys() & {names.get(video, video) for video in ids} for run, ids in trained_on.items()}
    return [
        f"{source}: {len(videos)} of {len(counted.videos)} evaluated videos were among the training videos of {run}"
        for run, videos in seen.items()
        if videos
    ]


def _print(evaluated: EvaluatedFiles, options: EvaluateOptions) -> None:
    print_explanation(evaluated.explanations[0], options.per_class)
    for line in evaluated.notes:
        print(line)
    print_evaluations(evaluated.evaluations, evaluated.evaluation_set, options)
    print_recalls(evaluated.evaluations, evaluated.recalls, options.multiples)
    print_calibrations(evaluated.evaluations, evaluated.calibrations, evaluated.level)
    print_analyses(evaluated.analyses)


def _write(evaluated: EvaluatedFiles, options: EvaluateOptions) -> None:
    """Write and draw everything that ``options`` name a file for."""
    if options.json is not None:
        tiou = options.tious[evaluated.level]
        parts = {
            "recall_at_multiples": [plain_recall(recall, options.multiples) for recall in evaluated.recalls],
            "calibration": [{"tiou": tiou, **calibration.plain} for calibration in evaluated.calibrations],
            "analysis": [analysis.plain for analysis in evaluated.analyses],
            "explanation": [explanation.plain for explanation in evaluated.explanations],
        }
        write_json(options.json, evaluated.evaluations, evaluated.evaluation_set, options, parts)
    if options.csv is not None:
        write_csv(options.csv, evaluated.evaluations)
    if options.curves is not None:
        save(curves_figure(evaluated.evaluations, evaluated.level), options.curves)
    if options.analysis_csv is not None:
        write_analysis_csv(options.analysis_csv, evaluated.analyses)
    if options.analysis_picture is not None:
        for number, analysis in enumerate(evaluated.analyses, start=1):
            path = options.analysis_picture
            alone = len(evaluated.analyses) == 1
            save(error_figure(analysis), path if alone else path.with_stem(f"{path.stem}-{number}"))
    if options.picture is not None:
        draw(options.picture, options, evaluated.evaluation_set.known, evaluated.detections[0])


def draw(picture: Path, options: EvaluateOptions, dataset: Dataset, detections: Detections) -> None:
    """Write the timelines of ``options.videos``. Raises UserError on a video that the annotations do not have."""
    unknown = [video for video in options.videos if video not in dataset.videos]
    if unknown:
        hint = similar_name(unknown[:1], dataset.videos, "the file")
        raise UserError(f"cannot draw the video {unknown[0]!r}: it is not in {options.annotations}{hint}")
    proposals = (
        load_proposals(options.proposals, dataset, options=options, quiet=options.quiet) if options.proposals else None
    )
    timelines = []
    for video in options.videos:
        intervals, curve = None, None
        if proposals is not None and video in proposals.intervals:
            intervals = proposals.intervals[video], proposals.scores[video]
        if proposals is not None and proposals.actionness is not None and proposals.spans is not None:
            curve = (proposals.actionness[video], proposals.spans[video]) if video in proposals.spans else None
        timelines.append(timeline_of(dataset.videos[video], detections, intervals, curve))
    save(timeline_figure(timelines, dataset.labels, options.timeline), picture)


__all__ = [
    "PRESETS",
    "EvaluateOptions",
    "EvaluatedFiles",
    "Evaluation",
    "evaluate",
    "evaluate_detections",
    "evaluate_files",
]
