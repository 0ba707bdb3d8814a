"""Labels of frames measured against annotations: what ``bench/frames.py`` does."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from ssn_feat.annotations import Dataset
from ssn_feat.annotations.dataset import Instance
from ssn_feat.annotations.matching import annotated_ids
from ssn_feat.annotations.similar import similar_name
from ssn_feat.drawing.names import short_names
from ssn_feat.drawing.tables import cell, show, table_of
from ssn_feat.errors import UserError
from ssn_feat.evaluation.evaluate_options import EvaluateOptions
from ssn_feat.evaluation.evaluation_set import EvaluationSet, read_evaluation_set
from ssn_feat.evaluation.frame_metrics import OVERLAPS, SegmentalScores, frame_average_precision, segmental_scores
from ssn_feat.evaluation.points import (
    BACKGROUND,
    ClassScores,
    Points,
    detected_labels,
    detection_scores,
    equidistant_points,
    every_frame,
    snippet_at,
    snippet_class_scores,
    snippet_labels,
    true_classes,
    true_labels,
)
from ssn_feat.files import replacing
from ssn_feat.proposals import Proposals
from ssn_feat.results.detections import Detections, read_detections
from ssn_feat.results.ragged import offsets_of
from ssn_feat.results.snippet_scores import SnippetScores
from ssn_feat.terminal import counted

Float = NDArray[np.float64]
_ACTION = "any action"


@dataclass(frozen=True)
class FramesOptions:
    """Measure labels of frames: per-frame mAP, and accuracy, edit score and F1 of segments."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RESULTS")]
    """Detections (ActivityNet result .json), scores of classes for every snippet (.npz), or proposals with actionness
    (.npz), which are measured without classes."""
    annotations: str
    """Annotations: a path, or DIALECT:PATH."""
    protocol: str | None = None
    """Videos and instances that count (see bench/detections.py)."""
    subset: str | None = None
    """Only the videos of this subset of the annotations."""
    points: int = 25
    """Number of equidistant points per video, as in the evaluation of Charades."""
    fps: float | None = None
    """Frames per second for the metrics of every frame; default: those in the annotations."""
    threshold: float | None = None
    """Lowest score of an action in accuracy, edit score and F1; below it is background. Default: every detection
    counts, and snippets from 0.5."""
    per_class: bool = False
    """Also print per-frame average precision of each class."""
    json: Path | None = None
    """Write all numbers as JSON."""
    quiet: bool = False
    """Print nothing."""

    def __post_init__(self) -> None:
        if self.fps is not None and not (np.isfinite(self.fps) and self.fps > 0):
            raise UserError(f"fps must be above 0, not {self.fps}")
        if self.points < 1:
            raise UserError(f"points must be at least 1, not {self.points}")


@dataclass(frozen=True)
class FrameEvaluation:
    """The results of one file."""

    name: str
    """Name of the file."""
    labels: tuple[str, ...]
    """The K classes; one class if the file has only actionness."""
    at_points: Float
    """Average precision at equidistant points, ``(K,)``; NaN for classes without instances there."""
    at_frames: Float
    """Average precision at every frame, ``(K,)``."""
    segmental: SegmentalScores
    """Accuracy, edit score and F1."""

    @property
    def plain(self) -> dict[str, Any]:
        """All numbers as JSON values: shares, None instead of NaN."""
        segmental = self.segmental
        names = [f"F1@{100 * overlap:.3g}" for overlap in segmental.overlaps]
        return {
            "name": self.name,
            "mAP_points": _plain(_mean(self.at_points)),
            "mAP_frames": _plain(_mean(self.at_frames)),
            "accuracy": _plain(segmental.accuracy),
            "edit": _plain(segmental.edit),
            **dict(zip(names, map(_plain, segmental.f1), strict=True)),
            "AP_points": dict(zip(self.labels, map(_plain, self.at_points.tolist()), strict=True)),
            "AP_frames": dict(zip(self.labels, map(_plain, self.at_frames.tolist()), strict=True)),
        }


def _mean(values: Float) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


@dataclass(frozen=True)
class _Grid:
    """A data set and the points at which it is compared with results."""

    dataset: Dataset
    """The evaluated videos."""
    points: Points
    """Equidistant points."""
    frames: Points
    """Every frame."""


def measure_frames(options: FramesOptions) -> list[FrameEvaluation]:
    """Measure labels of frames: per-frame mAP, and accuracy, edit score and F1 of segments.

    Raises UserError if a file is missing or malformed, names unknown classes, or a frame rate is unknown.
    """
    if not options.files:
        raise UserError("name at least one file of results")
    how = EvaluateOptions((), options.annotations, protocol=options.protocol, subset=options.subset)
    truth = read_evaluation_set(how)
    results = [
        _measure(path, name, truth, options)
        for path, name in zip(options.files, short_names(options.files), strict=True)
    ]
    grid = _grid_of(truth.dataset, options)
    _, several = true_labels(grid.dataset, grid.frames)
    notes = _notes(grid, several, options)
    if not options.quiet:
        print("\n".join(notes))
        _print(results, options)
    if options.json is not None:
        _write(options.json, results, truth, options)
    return results


def _grid_of(dataset: Dataset, options: FramesOptions) -> _Grid:
    return _Grid(dataset, equidistant_points(dataset, options.points), every_frame(dataset, options.fps))


def _measure(path: Path, name: str, truth: EvaluationSet, options: FramesOptions) -> FrameEvaluation:
    """The results of one file. Raises UserError, naming the file, if it cannot be read or does not fit."""
    try:
        if path.suffix == ".json":
            grid = _grid_of(truth.dataset, options)
            detections = _read_detections(path, truth, options)
            return _evaluate(
                name,
                grid,
                detection_scores(detections, grid.points),
                detection_scores(detections, grid.frames),
                detected_labels(detections, grid.frames, options.threshold),
            )
        if path.suffix == ".npz":
            return _measure_snippets(name, path, truth, options)
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from None
    raise UserError(f"{path} is neither detections (.json) nor scores of snippets or actionness (.npz)")


def _read_detections(path: Path, truth: EvaluationSet, options: FramesOptions) -> Detections:
    detections, _ = read_detections(path)
    ids = annotated_ids(truth.known, detections.ids, str(path), options.quiet)
    detections = replace(detections, ids=ids)
    unknown = [video for video in detections.ids if video not in truth.known.videos]
    if unknown:
        number = counted(len(unknown), "video is", "videos are")
        raise UserError(f"{number} not in the annotations, such as {unknown[0]!r}")
    return detections.matched(truth.dataset, unknown="drop")


def _measure_snippets(name: str, path: Path, truth: EvaluationSet, options: FramesOptions) -> FrameEvaluation:
    scores = _read_snippets(path)
    scores = replace(scores, ids=annotated_ids(truth.known, scores.ids, str(path), options.quiet))
    dataset = truth.dataset if scores.labels != (_ACTION,) else _without_classes(truth.dataset)
    wrong = sorted(set(scores.labels) - set(dataset.labels))
    if wrong:
        hint = similar_name(wrong, dataset.labels, "the annotations")
        raise UserError(f"unknown class {wrong[0]!r}; known classes are {', '.join(dataset.labels[:8])}{hint}")
    if not set(scores.ids) & set(dataset.videos):
        raise UserError(f"it holds {counted(len(scores.ids), 'video')}, none of which is evaluated")
    grid = _grid_of(dataset, options)
    columns = {label: column for column, label in enumerate(scores.labels)}
    at = [snippet_at(scores, dataset, points) for points in (grid.points, grid.frames)]

    def of_class(rows: NDArray[np.int64]) -> ClassScores:
        of_column = snippet_class_scores(scores, rows)

        def score(label: int) -> Float:
            column = columns.get(dataset.labels[label])
            return np.full(len(rows), -np.inf) if column is None else of_column(column)

        return score

    labels = snippet_labels(scores, at[1], 0.5 if options.threshold is None else options.threshold)
    classes = np.array([*(dataset.label_index[label] for label in scores.labels), BACKGROUND])
    return _evaluate(name, grid, of_class(at[0]), of_class(at[1]), classes[labels])


def _read_snippets(path: Path) -> SnippetScores:
    """Scores of classes, or the actionness of a file of proposals as the score of one class."""
    if not _holds_proposals(path):
        return SnippetScores.load(path)
    proposals = Proposals.load(path)
    if not proposals.actionness or not proposals.spans:
        raise UserError(f"{path} holds no actionness: make it by TAG (train/propose.py)")
    values = list(proposals.actionness.values())
    spans = np.concatenate([proposals.spans[video] for video in proposals.actionness])
    scores = np.concatenate(values)[:, None]
    return SnippetScores(tuple(proposals.actionness), offsets_of([len(v) for v in values]), (_ACTION,), scores, spans)


def _holds_proposals(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "header.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False  # reading it as scores tells what is wrong


def _without_classes(dataset: Dataset) -> Dataset:
    """The data set with one class for all instances."""
    videos = (
        replace(video, instances=tuple(Instance(_ACTION, i.start, i.end) for i in video.instances))
        for video in dataset.videos.values()
    )
    return Dataset.of(dataset.name, videos, [_ACTION])


def _evaluate(
    name: str, grid: _Grid, at_points: ClassScores, at_frames: ClassScores, predicted: NDArray[np.int64]
) -> FrameEvaluation:
    labels, _ = true_labels(grid.dataset, grid.frames)
    return FrameEvaluation(
        name,
        grid.dataset.labels,
        _average_precisions(grid.dataset, grid.points, at_points),
        _average_precisions(grid.dataset, grid.frames, at_frames),
        segmental_scores(grid.frames.split(predicted), grid.frames.split(labels)),
    )


def _average_precisions(dataset: Dataset, points: Points, scores: ClassScores) -> Float:
    """Average precision of each class at the points, ``(K,)``."""
    truth = true_classes(dataset, points)
    classes = range(len(dataset.labels))
    return np.array([frame_average_precision(scores(label), truth(label)) for label in classes])


def _notes(grid: _Grid, several: int, options: FramesOptions) -> list[str]:
    frames, videos = len(grid.frames.times), len(grid.dataset.videos)
    scored = "every detection counts"
    if options.threshold is not None:
        scored = f"only scores of at least {options.threshold:g} count"
    notes = [
        f"{grid.dataset.name}: {counted(videos, 'video')}, {counted(frames, 'frame')}, "
        f"{counted(options.points, 'equidistant point')} per video",
        f"accuracy, edit score and F1 use one label per frame, that of the highest score; {scored}"
        + ("; --threshold leaves out weak ones" if options.threshold is None else ""),
    ]
    if several:
        frames_of = counted(several, "frame has", "frames have")
        notes.append(f"{frames_of} instances of several classes: there, the one that starts last counts")
    return notes


def _print(results: Sequence[FrameEvaluation], options: FramesOptions) -> None:
    names = [f"F1@{100 * overlap:.3g}" for overlap in OVERLAPS]
    print("\nall values in percent")
    table = table_of("", f"mAP of {options.points} points", "mAP of frames", "accuracy", "edit", *names)
    for e in results:
        means = (_mean(e.at_points), _mean(e.at_frames))
        values = (*means, e.segmental.accuracy, e.segmental.edit, *e.segmental.f1)
        table.add_row(cell(e.name), *map(_percent, values))
    show(table)
    if options.per_class:
        for labels in dict.fromkeys(e.labels for e in results):
            chosen = [e for e in results if e.labels == labels]
            heads = [f"{e.name} {what}" for e in chosen for what in (f"{options.points} points", "frames")]
            print()
            table = table_of("class", *heads)
            for position, label in enumerate(labels):
                pairs = ((e.at_points[position], e.at_frames[position]) for e in chosen)
                table.add_row(cell(label), *(_percent(value) for pair in pairs for value in pair))
            show(table)


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f}"


def _write(path: Path, results: Sequence[FrameEvaluation], truth: EvaluationSet, options: FramesOptions) -> None:
    content = {
        "protocol": truth.line,
        "annotations": options.annotations,
        "subset": options.subset,
        "videos": len(truth.dataset.videos),
        "points": options.points,
        "fps": options.fps,
        "threshold": options.threshold,
        "files": [{"path": str(file), **result.plain} for file, result in zip(options.files, results, strict=True)],
    }
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


__all__ = ["FrameEvaluation", "FramesOptions", "measure_frames"]
