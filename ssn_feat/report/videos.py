"""What the page knows of each video: one compact record, read by the page when its video is chosen."""

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
from ssn_feat.annotations.matching import match_ids
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_precision import truths_of, video_average_precision
from ssn_feat.evaluation.evaluate import EvaluatedFiles
from ssn_feat.evaluation.matching import Scored
from ssn_feat.proposals import Proposals, action_probability
from ssn_feat.proposals.propose import actionness_run, read_videos
from ssn_feat.results.detections import Detections
from ssn_feat.results.ragged import Float
from ssn_feat.runs.checkpoints import CHECKPOINT, read_run_checkpoint
from ssn_feat.store import open_store

# Points of a curve of actionness: more than a screen has columns show nothing more.
_POINTS = 2000

Curve = tuple[NDArray[np.floating], Float]


@dataclass(frozen=True)
class Shown:
    """Collections of a data set of which timelines show a part."""

    dataset: Dataset
    """The videos and their truth."""
    detections: Sequence[Detections] = ()
    """Of each file, classes and videos as in ``dataset``."""
    hits: Sequence[NDArray[np.bool_]] = ()
    """Of each file, which detections are hits."""
    proposals: Sequence[Proposals] = ()
    """Of each file."""
    actionness: Mapping[str, Curve] = field(default_factory=dict)
    """By video: probability of action ``(T,)`` and spans ``(T, 2)``, seconds."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Files of the videos."""

    def scored(self, number: int) -> Scored:
        """The detections of one file as arrays."""
        found = self.detections[number]
        return Scored(found.videos, found.classes, found.intervals, found.scores)


def shown_of(measured: EvaluatedFiles) -> tuple[list[Detections], list[NDArray[np.bool_]]]:
    """Detections in the evaluated videos, and which of them are hits at the threshold next to 0.5, of each file."""
    detections, hits = [], []
    for found, evaluation in zip(measured.detections, measured.evaluations, strict=True):
        own = found.matched(measured.evaluation_set.dataset, unknown="drop")
        ranked = evaluation.ranked
        hit = np.zeros(len(ranked.order), dtype=bool)
        hit[ranked.order] = ranked.matched[measured.level] >= 0
        detections.append(own)
        # Detections in other videos, where they count as false alarms, come last.
        hits.append(hit[: len(own.scores)])
    return detections, hits


def actionness_of(
    ids: Sequence[str], proposals: Sequence[Proposals], store: Path | None, runs: Sequence[Path]
) -> dict[str, Curve]:
    """Probability of action and spans by video: of actionness runs on the features of ``store``, or what files hold.

    Raises UserError where a store is given but no actionness run, or they do not fit.
    """
    if store is None:
        found: dict[str, Curve] = {}
        for each in reversed(proposals):
            if each.actionness is not None and each.spans is not None:
                found.update((video, (each.actionness[video], spans)) for video, spans in each.spans.items())
        return found
    opened = open_store(store)
    sources = [actionness_run(run, opened) for run in runs if _is_actionness(run)]
    if not sources:
        raise UserError("--store gives timelines their actionness by a run: name a run folder of an actionness head")
    names = {stored: video for video, stored in match_ids(ids, opened.ids).ids.items()}
    videos = read_videos(opened, names, sources)
    return {
        names[v.id]: (action_probability(v.actionness), v.spans)
        for v in videos
        if v.actionness is not None and v.spans is not None
    }


def _is_actionness(run: Path) -> bool:
    """Not by ``load_run``, which refuses runs of networks: they are on the page too."""
    path = run / CHECKPOINT
    return path.is_file() and read_run_checkpoint(path).get("head", {}).get("kind") == "actionness"


def index(shown: Shown, threshold: float) -> dict[str, list[Any]]:
    """Columns of the list of videos: id, duration, subset, number of instances, AP of each file (see
    :func:`ssn_feat.evaluation.average_precision.video_average_precision`) at ``threshold``."""
    videos = list(shown.dataset.videos.values())
    truths, sizes = truths_of(shown.dataset), (len(videos), len(shown.dataset.labels))
    solved = [
        video_average_precision(shown.scored(number), truths, *sizes, threshold)
        for number in range(len(shown.detections))
    ]
    return {
        "id": [video.id for video in videos],
        "duration": [round(video.duration, 2) for video in videos],
        "instances": [len(video.instances) for video in videos],
        "ap": [[None if np.isnan(value) else round(float(value), 3) for value in own] for own in solved],
    }


def records(shown: Shown, page: Path, proposals: int, detections: int) -> Iterator[dict[str, Any]]:
    """What the timeline of each video shows, in the order of the data set; times are seconds.

    ``page``: where the page lies, from which video files are named. ``proposals``, ``detections``: at most so many,
    the best, of each file.
    """
    labels = shown.dataset.label_index
    for video in shown.dataset.videos.values():
        yield {
            "truth": [[labels[i.label], _time(i.start), _time(i.end)] for i in video.instances],
            "actionness": _curve(shown.actionness.get(video.id)),
            "proposals": [_best_proposals(each, video, proposals) for each in shown.proposals],
            "detections": [
                _best_detections(found, hit, video, detections)
                for found, hit in zip(shown.detections, shown.hits, strict=True)
            ],
            "source": _address(shown.files.get(video.id), page),
        }


def _time(seconds: float) -> float:
    return round(float(seconds), 3)


def _score(value: float) -> float:
    return float(f"{value:.4g}")


def _curve(curve: Curve | None) -> dict[str, list[float]] | None:
    """Middle of each snippet, and probability; neighbours are averaged where there are more than a screen shows."""
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


def _best_proposals(found: Proposals, video: Video, count: int) -> dict[str, Any]:
    if video.id not in found.intervals:
        return {"number": 0, "rows": []}
    intervals, scores = found.intervals[video.id], found.scores[video.id]
    order = np.argsort(-scores, kind="stable")[:count]
    rows = [[_time(intervals[i, 0]), _time(intervals[i, 1]), _score(scores[i])] for i in order]
    return {"number": len(scores), "rows": rows}


def _best_detections(found: Detections, hits: NDArray[np.bool_], video: Video, count: int) -> dict[str, Any]:
    if video.id not in found:
        return {"number": 0, "rows": []}
    own = found.rows(video.id)
    order = own.start + np.argsort(-found.scores[own], kind="stable")[:count]
    rows = [
        [
            int(found.classes[i]),
            _time(found.intervals[i, 0]),
            _time(found.intervals[i, 1]),
            _score(found.scores[i]),
            int(hits[i]),
        ]
        for i in order
    ]
    return {"number": own.stop - own.start, "rows": rows}


def _address(file: Path | None, page: Path) -> str | None:
    """Of a video file for the page: relative to it, so that both can be moved together; None for folders of images."""
    if file is None or file.is_dir():
        return None
    try:
        relative = Path(os.path.relpath(file.absolute(), page.absolute().parent)).as_posix()
    except ValueError:  # another drive
        return file.absolute().as_uri()
    # A first part with a colon would be read as a scheme.
    return quote(f"./{relative}", safe="/")


__all__ = ["Shown", "actionness_of", "index", "records", "shown_of"]
