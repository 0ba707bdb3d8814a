"""The data of each video on the page: a compact record, which the page parses when the video is chosen."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations import Dataset, Video
from ssn_feat.annotations.joining import check_times, times_of_dataset
from ssn_feat.annotations.matching import match_ids
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_precision import truths_of, video_average_precision
from ssn_feat.evaluation.evaluate import EvaluatedFiles
from ssn_feat.evaluation.matching import Scored
from ssn_feat.proposals import Proposals, action_probability
from ssn_feat.proposals.propose import actionness_run, read_videos
from ssn_feat.report.report_options import ReportOptions
from ssn_feat.results.detections import Detections
from ssn_feat.results.ragged import Float
from ssn_feat.runs.checkpoints import CHECKPOINT, read_run_checkpoint
from ssn_feat.store import open_store
from ssn_feat.store.times import times_of_store

# Largest number of points of an actionness curve; a screen has fewer columns.
_POINTS = 2000

Curve = tuple[NDArray[np.floating], Float]


@dataclass(frozen=True)
class Shown:
    """The data that timelines show."""

    dataset: Dataset
    """The videos and their instances."""
    detections: Sequence[Detections] = ()
    """Detections of each file, with the classes and videos of ``dataset``."""
    hits: Sequence[NDArray[np.bool_]] = ()
    """Whether each detection is a hit, for each file."""
    proposals: Sequence[Proposals] = ()
    """Proposals of each file."""
    actionness: Mapping[str, Curve] = field(default_factory=dict)
    """Probability of action ``(T,)`` and spans ``(T, 2)`` in seconds, by video."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Video files by id."""

    def scored(self, number: int) -> Scored:
        """The detections of one file as arrays."""
        detections = self.detections[number]
        return Scored(detections.videos, detections.classes, detections.intervals, detections.scores)


def evaluated_detections(measured: EvaluatedFiles) -> tuple[list[Detections], list[NDArray[np.bool_]]]:
    """Detections of each file in the evaluated videos, and whether they are hits at the threshold closest to 0.5."""
    detections, hits = [], []
    for file, evaluation in zip(measured.detections, measured.evaluations, strict=True):
        matched = file.matched(measured.evaluation_set.dataset, unknown="drop")
        ranked = evaluation.ranked
        hit = np.zeros(len(ranked.order), dtype=bool)
        hit[ranked.order] = ranked.matched[measured.level] >= 0
        detections.append(matched)
        # Detections in other videos come last, if they count.
        hits.append(hit[: len(matched.scores)])
    return detections, hits


def actionness_of(
    dataset: Dataset, proposals: Sequence[Proposals], options: ReportOptions, runs: Sequence[Path]
) -> dict[str, Curve]:
    """Probability of action and spans by video, from actionness runs on the features of the store or else from files.

    Raises UserError if a store is given without an actionness run, or if they or the annotations do not fit.
    """
    if options.store is None:
        curves: dict[str, Curve] = {}
        for each in reversed(proposals):
            if each.actionness is not None and each.spans is not None:
                curves.update((video, (each.actionness[video], spans)) for video, spans in each.spans.items())
        return curves
    opened = open_store(options.store)
    sources = [actionness_run(run, opened) for run in runs if _is_actionness(run)]
    if not sources:
        raise UserError(
            "--store needs an actionness run, which computes the actionness of the timelines: add its folder"
        )
    names = {stored: video for video, stored in match_ids(dataset.videos, opened.ids).ids.items()}
    annotated = times_of_dataset(dataset, options.annotations or dataset.name)
    check_times(annotated, times_of_store(opened, names).renamed(names), options, options.quiet)
    videos = read_videos(opened, names, sources)
    return {
        names[v.id]: (action_probability(v.actionness), v.spans)
        for v in videos
        if v.actionness is not None and v.spans is not None
    }


def _is_actionness(run: Path) -> bool:
    """Whether ``run`` is an actionness run; ``load_run`` would refuse runs of networks, which pages show too."""
    path = run / CHECKPOINT
    return path.is_file() and read_run_checkpoint(path).get("head", {}).get("kind") == "actionness"


def video_index(shown: Shown, threshold: float) -> dict[str, list[Any]]:
    """Columns of the list of videos: id, duration, subset, number of instances, AP of each file (see
    :func:`ssn_feat.evaluation.average_precision.video_average_precision`) at ``threshold``."""
    videos = list(shown.dataset.videos.values())
    truths, sizes = truths_of(shown.dataset), (len(videos), len(shown.dataset.labels))
    precision = [
        video_average_precision(shown.scored(number), truths, *sizes, threshold)
        for number in range(len(shown.detections))
    ]
    return {
        "id": [video.id for video in videos],
        "duration": [round(video.duration, 2) for video in videos],
        "instances": [len(video.instances) for video in videos],
        "ap": [[None if np.isnan(value) else round(float(value), 3) for value in values] for values in precision],
    }


def video_records(shown: Shown, page: Path, proposals: int, detections: int) -> Iterator[dict[str, Any]]:
    """The data of the timeline of each video, in the order of the data set; times are seconds.

    ``page``: path of the page, to which the paths of video files are relative. ``proposals``, ``detections``: number of
    them that are kept of each file, best first.
    """
    labels = shown.dataset.label_index
    for video in shown.dataset.videos.values():
        yield {
            "truth": [[labels[i.label], _time(i.start), _time(i.end)] for i in video.instances],
            "actionness": _curve(shown.actionness.get(video.id)),
            "proposals": [_best_proposals(each, video, proposals) for each in shown.proposals],
            "detections": [
                _best_detections(file, hit, video, detections)
                for file, hit in zip(shown.detections, shown.hits, strict=True)
            ],
            "source": _address(shown.files.get(video.id), page),
        }


def _time(seconds: float) -> float:
    return round(float(seconds), 3)


def _score(value: float) -> float:
    return float(f"{value:.4g}")


def _curve(curve: Curve | None) -> dict[str, list[float]] | None:
    """Centre of each snippet and probability; neighbours are averaged if there are too many for a screen."""
    if curve is None or not len(curve[0]):
        return None
    values, spans = np.asarray(curve[0], dtype=np.float64), curve[1]
    centres = spans.mean(axis=1)
    step = -(-len(values) // _POINTS)
    if step > 1:
        begins = np.arange(0, len(values), step)
        counts = np.diff(np.append(begins, len(values)))
        values, centres = (np.add.reduceat(each, begins) / counts for each in (values, centres))
    return {"times": np.round(centres, 3).tolist(), "values": np.round(values, 3).tolist()}


def _best_proposals(proposals: Proposals, video: Video, count: int) -> dict[str, Any]:
    if video.id not in proposals.intervals:
        return {"number": 0, "rows": []}
    intervals, scores = proposals.intervals[video.id], proposals.scores[video.id]
    order = np.argsort(-scores, kind="stable")[:count]
    rows = [[_time(intervals[i, 0]), _time(intervals[i, 1]), _score(scores[i])] for i in order]
    return {"number": len(scores), "rows": rows}


def _best_detections(detections: Detections, hits: NDArray[np.bool_], video: Video, count: int) -> dict[str, Any]:
    if video.id not in detections:
        return {"number": 0, "rows": []}
    video_rows = detections.rows(video.id)
    order = video_rows.start + np.argsort(-detections.scores[video_rows], kind="stable")[:count]
    rows = [
        [
            int(detections.classes[i]),
            _time(detections.intervals[i, 0]),
            _time(detections.intervals[i, 1]),
            _score(detections.scores[i]),
            int(hits[i]),
        ]
        for i in order
    ]
    return {"number": video_rows.stop - video_rows.start, "rows": rows}


def _address(file: Path | None, page: Path) -> str | None:
    """Address of a video file relative to the page, so that both can be moved; None for folders of images."""
    if file is None or file.is_dir():
        return None
    try:
        relative = Path(os.path.relpath(file.absolute(), page.absolute().parent)).as_posix()
    except ValueError:  # another drive
        return file.absolute().as_uri()
    # A first component with a colon would be read as a scheme.
    return quote(f"./{relative}", safe="/")


__all__ = ["Shown", "actionness_of", "evaluated_detections", "video_index", "video_records"]
