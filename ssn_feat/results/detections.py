"""Detections of many videos, and the ActivityNet result JSON that the tools of the field read and write."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.annotations.joining import VideoTimes
from ssn_feat.annotations.similar import similar_name
from ssn_feat.errors import UserError
from ssn_feat.files import write_text
from ssn_feat.foreign_json import parse_json, require_text
from ssn_feat.results.ragged import Float, Int, Ragged, offsets_of, take_videos, trained_on_of

VERSION = "ssn_feat detections 1"
_SURROGATE = re.compile("[\ud800-\udfff]")
Reversed = Literal["refuse", "swap", "drop"]


@dataclass(frozen=True)
class VideoDetections:
    """The detections of one video."""

    intervals: Float
    """Start and end of each detection, float64 ``(N, 2)``, seconds."""
    classes: Int
    """Class index of each detection, int64 ``(N,)``."""
    scores: Float
    """Score of each detection, float64 ``(N,)``; higher means more confident, without a fixed scale."""

    def __repr__(self) -> str:
        return f"VideoDetections({len(self.scores):,} of {len(np.unique(self.classes))} classes)"


@dataclass(frozen=True, eq=False)
class Detections(Ragged):
    """Scored, labelled intervals of many videos.

    The rows of a video are adjacent; detections made by this package are sorted by descending score within a video.
    Raises UserError, naming video and row, on a score or segment that is not finite, a segment that ends before it
    starts or a class index beyond ``labels``.
    """

    labels: tuple[str, ...]
    """Class names, which ``classes`` index."""
    intervals: Float
    """Start and end, float64 ``(N, 2)``, seconds."""
    classes: Int
    """Class index, int64 ``(N,)``."""
    scores: Float
    """Score, float64 ``(N,)``."""
    trained_on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Those of the videos that the heads were trained on, by run."""
    durations: Mapping[str, float] = field(default_factory=dict)
    """Seconds of each video by id, where they are known: an annotation of other videos is recognised by them."""

    def __post_init__(self) -> None:
        self._check_offsets(len(self.scores))
        if self.intervals.shape != (len(self.scores), 2) or self.classes.shape != self.scores.shape:
            raise ValueError(f"arrays disagree: {self.intervals.shape}, {self.classes.shape}, {self.scores.shape}")
        require_text(self.labels, self.ids)
        starts, ends = self.intervals[:, 0], self.intervals[:, 1]
        infinite = ~np.isfinite(np.column_stack([self.scores, self.intervals]))
        self._refuse(infinite[:, 0], lambda row: f"has the score {self.scores[row]}, but scores must be finite")
        self._refuse(infinite[:, 1] | infinite[:, 2], lambda row: f"has the segment {self._segment(row)}")
        self._refuse(np.less(ends, starts), lambda row: f"ends before it starts: segment {self._segment(row)}")
        wrong = (self.classes < 0) | (self.classes >= len(self.labels))
        self._refuse(wrong, lambda row: f"has class {self.classes[row]}, but there are {len(self.labels)} labels")

    def __repr__(self) -> str:
        return f"Detections({len(self.scores):,} in {len(self.ids):,} videos, {len(self.labels)} classes)"

    def _segment(self, row: int) -> list[float]:
        return [float(value) for value in self.intervals[row]]

    def _refuse(self, bad: NDArray[np.bool_], fault: Callable[[int], str]) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            position = int(np.searchsorted(self.offsets, row, side="right")) - 1
            number = row - int(self.offsets[position])
            more = f" (and {int(bad.sum()) - 1} more like it)" if bad.sum() > 1 else ""
            raise UserError(f"video {self.ids[position]!r}, detection {number} {fault(row)}{more}")

    @classmethod
    def of(
        cls, labels: Sequence[str], videos: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike] | VideoDetections]
    ) -> Detections:
        """Detections from ``{id: (intervals (N, 2) in seconds, classes (N,), scores (N,))}``."""
        parts = [(v.intervals, v.classes, v.scores) if isinstance(v, VideoDetections) else v for v in videos.values()]
        intervals = [np.asarray(p[0], np.float64).reshape(-1, 2) for p in parts]
        return cls(
            tuple(videos),
            offsets_of([len(i) for i in intervals]),
            tuple(labels),
            np.concatenate([np.zeros((0, 2)), *intervals]),
            np.concatenate([np.zeros(0, np.int64), *(np.asarray(p[1], np.int64).ravel() for p in parts)]),
            np.concatenate([np.zeros(0), *(np.asarray(p[2], np.float64).ravel() for p in parts)]),
        )

    def __getitem__(self, video: str) -> VideoDetections:
        rows = self.rows(video)
        return VideoDetections(self.intervals[rows], self.classes[rows], self.scores[rows])

    def times(self, source: str) -> VideoTimes:
        """Intervals and durations by video, to compare with annotations; ``source``: file or name of the detections."""
        intervals = np.split(self.intervals, self.offsets[1:-1])
        by_video = dict(zip(self.ids, intervals, strict=False))
        return VideoTimes(f"the detections {source}", self.durations, by_video)

    def _take(self, rows: Int | NDArray[np.bool_], ids: tuple[str, ...], offsets: Int) -> Detections:
        parts = {name: getattr(self, name)[rows] for name in ("intervals", "classes", "scores")}
        return replace(self, ids=ids, offsets=offsets, **parts)

    def only(self, ids: Iterable[str]) -> Detections:
        """The detections of the given videos, in the given order; unknown ids are ignored."""
        positions = np.array([self.index[i] for i in ids if i in self.index], dtype=np.int64)
        rows, offsets = take_videos(self, positions)
        return self._take(rows, tuple(self.ids[p] for p in positions), offsets)

    def where(self, kept: NDArray[np.bool_]) -> Detections:
        """The detections ``kept``, bool ``(N,)``, of the same videos."""
        counts = np.bincount(self.videos[kept], minlength=len(self.ids))
        return self._take(kept, self.ids, offsets_of(counts))

    def top(self, count: int) -> Detections:
        """The ``count`` detections of highest score of each video, best first (ties: the earlier row first)."""
        order = np.lexsort((-self.scores, self.videos))
        rank = np.arange(len(order)) - np.repeat(self.offsets[:-1], self.counts)
        return self._take(order[rank < count], self.ids, offsets_of(np.minimum(self.counts, count)))

    def relabelled(self, labels: Sequence[str]) -> Detections:
        """The same detections with class indices into ``labels``.

        Raises UserError if ``labels`` lacks a class that was detected.
        """
        wrong = sorted({self.labels[c] for c in np.unique(self.classes)} - set(labels))
        if wrong:
            hint = similar_name(wrong, labels, "the list of classes")
            raise UserError(f"unknown class {_some(wrong)}; known classes are {_some(labels, 8)}{hint}")
        index = {label: position for position, label in enumerate(labels)}
        mapping = np.array([index.get(label, -1) for label in self.labels], dtype=np.int64)
        return replace(self, labels=tuple(labels), classes=mapping[self.classes])

    def matched(self, dataset: Dataset, unknown: Literal["error", "drop"] = "error") -> Detections:
        """The detections in videos of ``dataset``, with its class indices and all of its videos in its order.

        Videos without detections have no rows. Raises UserError on a label that the data set does not have and, unless
        ``unknown`` is ``drop``, on videos that it does not have.
        """
        relabelled = self.relabelled(dataset.labels)
        unknown_ids = [i for i in self.ids if i not in dataset.videos]
        if unknown_ids and unknown == "error":
            raise UserError(
                f"{len(unknown_ids)} of {len(self.ids)} videos are not in data set {dataset.name!r}: "
                f"{_some(unknown_ids)}{similar_name(unknown_ids, dataset.videos, 'the data set')}"
            )
        positions = np.array([self.index.get(i, -1) for i in dataset.videos], dtype=np.int64)
        detected = positions >= 0
        rows, _ = take_videos(self, positions[detected])
        counts = np.zeros(len(positions), dtype=np.int64)
        counts[detected] = self.counts[positions[detected]]
        return relabelled._take(rows, tuple(dataset.videos), offsets_of(counts))

    def write(self, path: Path | str, external: str = "") -> None:
        """Write ActivityNet result JSON: ``version``, ``results`` (label names, seconds) and ``external_data``, and
        ``trained_on`` and ``durations`` (seconds by video) if they are known.

        ``external`` names outside data that the detections depend on, such as a video-level classifier; "" for none.
        :meth:`read` returns exactly the float64 scores and times that were written.
        """
        names = [self.labels[c] for c in self.classes.tolist()]
        rows = [
            {"label": label, "score": score, "segment": segment}
            for label, score, segment in zip(names, self.scores.tolist(), self.intervals.tolist(), strict=True)
        ]
        results = {i: rows[a:b] for i, a, b in zip(self.ids, self.offsets[:-1], self.offsets[1:], strict=True)}
        content = {
            "version": VERSION,
            "results": results,
            "external_data": {"used": bool(external), "details": external},
        }
        if self.trained_on:
            content["trained_on"] = self.trained_on
        if known := {video: self.durations[video] for video in self.ids if video in self.durations}:
            content["durations"] = known
        text = json.dumps(content, ensure_ascii=False, allow_nan=False)
        # Ids of files whose names are not UTF-8 hold surrogates, which JSON can only escape.
        write_text(Path(path), _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text))

    @classmethod
    def read(cls, path: Path | str, labels: Sequence[str] | None = None) -> Detections:
        """Read ActivityNet result JSON; see :func:`read_detections`, which also handles reversed segments."""
        return read_detections(Path(path), labels)[0]


def read_detections(
    path: Path, labels: Sequence[str] | None = None, reversed_segments: Reversed = "refuse"
) -> tuple[Detections, int]:
    """Read ActivityNet result JSON; ``version`` and ``external_data`` may be missing (several tools omit them).

    ``labels`` gives the class indices; without it, classes are the sorted names in the file. ``reversed_segments``:
    segments that end before they start are an error (``refuse``), get their ends exchanged (``swap``, as in the
    official THUMOS evaluation), or are left out (``drop``). Returns the detections and the number of such segments.

    Raises UserError, naming file, video and row, on a file of another form, a score that is not finite, a reversed
    segment or an unknown label.
    """
    results, trained_on, durations = _results_of(path)
    flat = [row for rows in results.values() for row in rows]
    try:
        names = [row["label"] for row in flat]
        scores = np.array([row["score"] for row in flat], dtype=np.float64)
        intervals = np.array([row["segment"] for row in flat], dtype=np.float64).reshape(-1, 2)
        known = tuple(labels) if labels is not None else tuple(sorted(set(names)))
        index = {name: position for position, name in enumerate(known)}
        classes = np.array([index[name] for name in names], dtype=np.int64)
        if len(intervals) != len(flat) or scores.ndim != 1 or not set(map(type, names)) <= {str}:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        _explain(path, results, labels)
    backward = intervals[:, 1] < intervals[:, 0]
    counts = np.array([len(rows) for rows in results.values()], dtype=np.int64)
    if reversed_segments == "swap":
        intervals[backward] = intervals[backward][:, ::-1]
    elif reversed_segments == "drop":
        counts -= np.bincount(np.repeat(np.arange(len(counts)), counts)[backward], minlength=len(counts))
        intervals, classes, scores = intervals[~backward], classes[~backward], scores[~backward]
    try:
        detections = Detections(
            tuple(results), offsets_of(counts), known, intervals, classes, scores, trained_on, durations
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return detections, int(backward.sum())


def _results_of(path: Path) -> tuple[dict[str, list[Any]], dict[str, tuple[str, ...]], dict[str, float]]:
    """The rows of each video, and, if the file has them, videos that runs were trained on and durations in seconds."""
    try:
        content = parse_json(path.read_bytes(), path)
    except OSError as error:
        raise UserError(f"cannot read the detections {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, numbers of thousands of digits, deep nesting
        raise UserError(f"{path} is not JSON: {error}") from None
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict) or not all(isinstance(rows, list) for rows in results.values()):
        raise UserError(
            f'{path} is not a detection result: expected {{"results": {{video id: [{{"label", "score", "segment"}}]}}}}'
        )
    try:
        trained_on = trained_on_of(content.get("trained_on", {}))
    except ValueError:  # a key of another program
        trained_on = {}
    return results, trained_on, _durations_of(content.get("durations"))


def _durations_of(value: Any) -> dict[str, float]:
    """Positive seconds by video; empty for a key of another program."""
    if not isinstance(value, dict):
        return {}
    numbers = {video: each for video, each in value.items() if type(each) in (int, float) and 0 < each < math.inf}
    return {video: float(each) for video, each in numbers.items()}


def _explain(path: Path, results: dict[str, list[Any]], labels: Sequence[str] | None) -> NoReturn:
    """Raise UserError for the first row that cannot be read."""
    for video, rows in results.items():
        for number, row in enumerate(rows):
            fault = _fault(row, labels)
            if fault:
                raise UserError(f"{path}: video {video!r}, detection {number} {fault}")
    raise UserError(f"{path} is not a detection result")


def _fault(row: Any, labels: Sequence[str] | None) -> str:
    if not isinstance(row, dict):
        return f"is {row!r}; expected label, score and segment"
    missing = [key for key in ("label", "score", "segment") if key not in row]
    if missing:
        return f"has no {' and no '.join(missing)}"
    if not isinstance(row["label"], str):
        return f"has the label {row['label']!r}; expected a class name"
    if not _is_number(row["score"]):
        return f"has the score {row['score']!r}; expected a number"
    segment = row["segment"]
    if not isinstance(segment, list) or len(segment) != 2 or not all(_is_number(value) for value in segment):
        return f"has the segment {segment!r}; expected [start, end] in seconds"
    if labels is not None and row["label"] not in labels:
        hint = similar_name([row["label"]], labels, "the list of classes")
        return f"has the unknown class {row['label']!r}; known classes are {_some(labels, 8)}{hint}"
    return ""


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _some(names: Iterable[str], count: int = 3) -> str:
    """The first few of ``names``, quoted."""
    names = list(names)
    return ", ".join(repr(n) for n in names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
