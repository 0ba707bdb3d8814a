"""How much of the truth proposals find: recall at tIoU, average recall at a number of proposals (AR@AN), its AUC.

Videos without any instance do not count. A proposal finds an instance if their tIoU is at least the threshold; one
proposal may find several instances, and class plays no part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.annotations.dataset import Dataset, Video
from ssn_feat.errors import UserError
from ssn_feat.intervals import overlapping
from ssn_feat.proposals import Proposals

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

Budget = Literal["average", "fixed"]
Counted = Literal["evaluated", "all"]

TIOU_GRIDS: dict[str, tuple[float, ...]] = {
    "activitynet": tuple(np.linspace(0.5, 0.95, 10).tolist()),
    "thumos14": tuple(np.linspace(0.5, 1.0, 11).tolist()),
}
"""The thresholds over which recall is averaged: 0.5:0.05:0.95, and 0.5:0.05:1.0 as is usual for THUMOS14 proposals."""

# Points of the curve of average recall against the number of proposals, as in the ActivityNet toolkit.
_POINTS = 100


@dataclass(frozen=True)
class RecallCurve:
    """Recall against the average number of proposals per video (AN).

    thresholds: tIoU ``(K,)``. numbers: AN at each of the 100 points, ``(100,)``. recall: ``(K, 100)``.
    instances, videos: how much truth there is; lacking: videos among them without any proposal.
    asked: AR at the numbers that were asked for besides.
    """

    thresholds: Floats
    numbers: Floats
    recall: Floats
    instances: int
    videos: int
    lacking: int
    asked: Mapping[float, float] = field(default_factory=dict)

    @property
    def average(self) -> Floats:
        """AR: mean recall over the thresholds at each point, ``(100,)``."""
        mean: Floats = self.recall.mean(axis=0)
        return mean

    @property
    def auc(self) -> float:
        """Area under AR against AN as a percentage of the last AN, as the toolkit gives it.

        The area starts at the first point, so a perfect method has 99 rather than 100 at 100 proposals.
        """
        average = self.average
        area = float((np.diff(self.numbers) * (average[1:] + average[:-1]) / 2).sum())
        return 100.0 * area / float(self.numbers[-1])

    def at(self, number: float) -> float:
        """AR@``number``. Raises UserError where that is no point of the curve and was not asked for."""
        if number in self.asked:
            return self.asked[number]
        point = np.flatnonzero(np.isclose(self.numbers, number))
        if not len(point):
            step = self.numbers[-1] / _POINTS
            raise UserError(
                f"AR@{number:g} is no point of the curve, which has every {step:g} up to {self.numbers[-1]:g}"
            )
        return float(self.average[point[0]])


def recall_curve(
    proposals: Proposals,
    dataset: Dataset,
    maximum: float | None = 100,
    thresholds: ArrayLike = TIOU_GRIDS["activitynet"],
    budget: Budget = "average",
    counted: Counted = "evaluated",
    numbers: Sequence[float] = (),
) -> RecallCurve:
    """AR@AN at 100 points up to AN = ``maximum`` (None: as many as there are on average), and with it the AUC.

    ``budget``: which of a video's proposals, best first, count at a point. ``average``, as in the ActivityNet toolkit:
    the same share of every video's, such that they are AN on average; videos with many proposals keep many. ``fixed``:
    the best AN of every video. ``counted``: which proposals make up that average: those of the videos with truth, or
    all there are, as in the toolkit (they differ where there are proposals for videos without truth). ``numbers``: up
    to ``maximum``; AR is told at these too, which need not be points of the curve.

    Raises UserError where there is no truth, no proposal in a video that has some, or a number or a threshold that is
    none.
    """
    videos = _with_truth(dataset)
    available = np.array([len(proposals.intervals.get(video.id, ())) for video in videos])
    total = len(proposals) if counted == "all" else int(available.sum())
    if not available.any():
        raise UserError(f"there is no proposal in any of the {len(videos)} videos of {dataset.name!r} that have truth")
    if maximum is None:
        maximum = total / len(videos)
    if not maximum > 0:
        raise UserError(f"the number of proposals per video must be above 0, not {maximum}")
    if not all(0 < number <= maximum for number in numbers):
        raise UserError(f"average recall is told at numbers in (0, {maximum:g}], not at {numbers}")
    tious = np.asarray(thresholds, dtype=np.float64)
    if not (tious > 0).all():
        raise UserError(f"tIoU thresholds must be above 0, not {tious.tolist()}")
    shares = np.concatenate([np.arange(1, _POINTS + 1) / _POINTS, np.asarray(numbers, dtype=np.float64) / maximum])
    counts = _parts(available, maximum, total, shares) if budget == "average" else _equal(available, maximum, shares)
    owner = np.repeat(np.arange(len(videos)), [len(video.instances) for video in videos])
    found, first = _first_finders(proposals, videos, owner, counts.max(axis=1), tious)
    counted_of = np.take(counts.T, owner[found], axis=1)
    recall = np.stack([(ranks < counted_of).sum(axis=1) for ranks in first]) / len(owner)
    return RecallCurve(
        thresholds=tious,
        numbers=shares[:_POINTS] * maximum,
        recall=recall[:, :_POINTS],
        instances=len(owner),
        videos=len(videos),
        lacking=int((available == 0).sum()),
        asked=dict(zip(numbers, recall[:, _POINTS:].mean(axis=0).tolist(), strict=True)),
    )


def recall_at_tiou(proposals: Proposals, dataset: Dataset, thresholds: ArrayLike, number: int | None = None) -> Floats:
    """Recall at each tIoU threshold, ``(K,)``, with the best ``number`` proposals of every video (None: all).

    Raises UserError where there is no truth.
    """
    best = np.concatenate([overlaps for _, overlaps in best_overlaps(proposals, dataset, number)])
    return np.array([(best >= threshold).mean() for threshold in np.asarray(thresholds, dtype=np.float64)])


@dataclass(frozen=True)
class Breakdown:
    """Average recall of groups of instances. names, instances ``(G,)``, recall ``(G,)`` (NaN: no instance)."""

    names: tuple[str, ...]
    instances: Indices
    recall: Floats


def recall_by(
    proposals: Proposals,
    dataset: Dataset,
    what: Literal["length", "number"],
    edges: Sequence[float],
    thresholds: ArrayLike = TIOU_GRIDS["activitynet"],
    number: int | None = None,
) -> Breakdown:
    """Mean recall over the thresholds, for instances by ``length`` in seconds or by the ``number`` in their video.

    ``edges``: ascending; a group holds its upper edge, and the last group what is beyond all. ``number``: the best so
    many proposals of every video count (None: all). Raises UserError where there is no truth.
    """
    values, best = [], []
    for video, overlaps in best_overlaps(proposals, dataset, number):
        times = video.intervals()
        own = times[:, 1] - times[:, 0] if what == "length" else np.full(len(times), float(len(times)))
        values.append(own)
        best.append(overlaps)
    tious = np.asarray(thresholds, dtype=np.float64)
    share = (np.concatenate(best)[:, None] >= tious).mean(axis=1)
    group = np.searchsorted(np.asarray(edges, dtype=np.float64), np.concatenate(values), side="left")
    instances = np.bincount(group, minlength=len(edges) + 1)
    mean = np.full(len(instances), np.nan)
    np.divide(np.bincount(group, weights=share, minlength=len(instances)), instances, out=mean, where=instances > 0)
    return Breakdown(_lengths(edges) if what == "length" else _numbers(edges), instances, mean)


def _lengths(edges: Sequence[float]) -> tuple[str, ...]:
    if not edges:
        return ("all",)
    between = (f"{low:g}-{high:g} s" for low, high in pairwise(edges))
    return f"<={edges[0]:g} s", *between, f">{edges[-1]:g} s"


def _numbers(edges: Sequence[float]) -> tuple[str, ...]:
    if not edges:
        return ("all",)
    firsts = [1, *(int(edge) + 1 for edge in edges[:-1])]
    spans = (f"{first}-{last:g}" if first < last else f"{first}" for first, last in zip(firsts, edges, strict=True))
    return *spans, f">{edges[-1]:g}"


def best_overlaps(proposals: Proposals, dataset: Dataset, number: int | None = None) -> Iterator[tuple[Video, Floats]]:
    """Each video with truth, and the highest tIoU that any of its best ``number`` proposals has with each instance.

    Raises UserError where there is no truth.
    """
    videos = _with_truth(dataset)
    truth = [video.intervals() for video in videos]
    rows = [_best_ranked(proposals, video.id, number) for video in videos]
    groups = [np.repeat(np.arange(len(videos)), list(map(len, parts))) for parts in (rows, truth)]
    _, instance, overlaps = overlapping(np.concatenate(rows), np.concatenate(truth), (groups[0], groups[1]))
    best = np.zeros(len(groups[1]))
    np.maximum.at(best, instance, overlaps)
    yield from zip(videos, np.split(best, np.cumsum(list(map(len, truth)))[:-1]), strict=True)


def _best_ranked(proposals: Proposals, video: str, number: int | None) -> Floats:
    """The best ``number`` proposals of a video, best first (None: all, in any order), ``(n, 2)``."""
    rows = proposals.intervals.get(video, np.zeros((0, 2)))
    if number is None or not len(rows):
        return rows
    return rows[np.argsort(-proposals.scores[video], kind="stable")[:number]]


def _with_truth(dataset: Dataset) -> list[Video]:
    videos = [video for video in dataset.videos.values() if video.instances]
    if not videos:
        raise UserError(f"none of the {len(dataset.videos)} videos of data set {dataset.name!r} has an instance")
    return videos


def _parts(available: Indices, maximum: float, total: int, shares: Floats) -> Indices:
    """How many proposals of each video count at each share ``(P,)`` of ``maximum``: int64 ``(V, P)``.

    The toolkit's arithmetic: first every list is cut to the part that leaves ``maximum`` on average, then that is.
    """
    kept = np.minimum((available * (maximum * len(available) / total)).astype(np.int64), available)
    if not kept.any():
        raise UserError(f"at {maximum:g} proposals per video on average, every video's share is less than one")
    share = shares * (maximum * len(available) / kept.sum())
    return np.minimum((kept[:, None] * share).astype(np.int64), kept[:, None])


def _equal(available: Indices, maximum: float, shares: Floats) -> Indices:
    """The same where every video has the same number."""
    return np.minimum(np.floor(shares * maximum + 1e-9).astype(np.int64), available[:, None])


def _first_finders(
    proposals: Proposals, videos: list[Video], owner: Indices, numbers: Indices, tious: Floats
) -> tuple[Indices, Indices]:
    """Rank from 0 of the best proposal that finds each instance, among the best ``numbers`` ``(V,)`` of its video.

    owner: position of the video of each instance, ``(M,)``. Returns the F instances that are found at the lowest of K
    thresholds, ``(F,)``, and their ranks, ``(K, F)``: one beyond all where no proposal reaches the threshold.
    """
    rows = [_best_ranked(proposals, video.id, int(number)) for video, number in zip(videos, numbers, strict=True)]
    truth, sizes = np.concatenate([video.intervals() for video in videos]), np.array(list(map(len, rows)))
    ranks = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    row, instance, overlaps = overlapping(
        np.concatenate(rows), truth, (np.repeat(np.arange(len(videos)), sizes), owner)
    )
    good = overlaps >= tious.min()  # few are
    rank, overlaps = ranks[row[good]], overlaps[good]
    found, place = np.unique(instance[good], return_inverse=True)
    first = np.full((len(tious), len(found)), np.iinfo(np.int64).max)
    for best, threshold in zip(first, tious, strict=True):
        hit = overlaps >= threshold
        np.minimum.at(best, place[hit], rank[hit])
    return found, first


__all__ = [
    "TIOU_GRIDS",
    "Breakdown",
    "Budget",
    "RecallCurve",
    "best_overlaps",
    "recall_at_tiou",
    "recall_by",
    "recall_curve",
]
