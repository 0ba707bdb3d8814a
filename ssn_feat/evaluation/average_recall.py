"""Recall of proposals: recall at tIoU, average recall at an average number of proposals (AR@AN) and its area (AUC).

Videos without instances do not count. A proposal finds an instance if their tIoU is at least the threshold, whatever
the class; one proposal may find several instances.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.annotations.dataset import Dataset, Video
from ssn_feat.annotations.similar import similar_name
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
"""Thresholds over which recall is averaged: 0.5:0.05:0.95, and 0.5:0.05:1.0, which is usual for THUMOS14 proposals."""

# Number of points of the curve, as in the ActivityNet toolkit.
_POINTS = 100


@dataclass(frozen=True)
class RecallCurve:
    """Recall against the average number of proposals per video (AN).

    thresholds: tIoU ``(K,)``. numbers: AN at each of the 100 points, ``(100,)``. recall: ``(K, 100)``.
    instances, videos: numbers of instances and of videos with instances; lacking: those videos without proposals.
    asked: AR at further requested numbers.
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
        """Area under AR against AN in percent of the last AN, as in the toolkit.

        The area starts at the first point, so a perfect method reaches 99 rather than 100 at 100 proposals.
        """
        average = self.average
        area = float((np.diff(self.numbers) * (average[1:] + average[:-1]) / 2).sum())
        return 100.0 * area / float(self.numbers[-1])

    def at(self, number: float) -> float:
        """AR@``number``. Raises UserError if it is neither a point of the curve nor was requested."""
        if number in self.asked:
            return self.asked[number]
        point = np.flatnonzero(np.isclose(self.numbers, number))
        if not len(point):
            step = self.numbers[-1] / _POINTS
            raise UserError(
                f"AR@{number:g} is not a point of the curve: there is one every {step:g} up to {self.numbers[-1]:g}"
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
    """AR@AN at 100 points up to AN = ``maximum`` (None: the average number of proposals per video), and its AUC.

    ``budget``: which proposals count at a point, best first. ``average``, as in the ActivityNet toolkit: the same share
    of the proposals of each video, so that there are AN on average and videos with many proposals keep many. ``fixed``:
    the best AN of each video. ``counted``: the proposals that the average is computed from: those of the videos with
    instances, or all of them as in the toolkit. ``numbers``: further numbers up to ``maximum`` at which AR is computed.

    Raises UserError if there are no instances, no proposals in videos with instances, or a number or threshold is
    invalid.
    """
    videos = _with_truth(dataset)
    available = np.array([len(proposals.intervals.get(video.id, ())) for video in videos])
    total = len(proposals) if counted == "all" else int(available.sum())
    if not available.any():
        hint = similar_name(list(proposals.ids), dataset.videos, "the data set")
        raise UserError(f"none of the {len(videos)} videos of {dataset.name!r} with instances has a proposal{hint}")
    if maximum is None:
        maximum = total / len(videos)
    if not maximum > 0:
        raise UserError(f"the number of proposals per video must be above 0, not {maximum}")
    if not all(0 < number <= maximum for number in numbers):
        raise UserError(f"average recall can be computed at numbers in (0, {maximum:g}], not at {numbers}")
    tious = np.asarray(thresholds, dtype=np.float64)
    if not (tious > 0).all():
        raise UserError(f"tIoU thresholds must be above 0, not {tious.tolist()}")
    shares = np.concatenate([np.arange(1, _POINTS + 1) / _POINTS, np.asarray(numbers, dtype=np.float64) / maximum])
    counts = _parts(available, maximum, total, shares) if budget == "average" else _equal(available, maximum, shares)
    owner = np.repeat(np.arange(len(videos)), [len(video.instances) for video in videos])
    reached, first = _first_finders(proposals, videos, owner, counts.max(axis=1), tious)
    counted_of = np.take(counts.T, owner[reached], axis=1)
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
    """Recall at each tIoU threshold, ``(K,)``, of the best ``number`` proposals of each video (None: all).

    Raises UserError if there are no instances.
    """
    best = np.concatenate([overlaps for _, overlaps in best_overlaps(proposals, dataset, number)])
    mean: Floats = share_found(best, thresholds).mean(axis=0)
    return mean


def share_found(overlaps: Floats, thresholds: ArrayLike) -> Floats:
    """Whether each instance is found at each threshold, given its highest tIoU ``(M,)``: 0 or 1, float64 ``(M, K)``."""
    found: Floats = (overlaps[:, None] >= np.asarray(thresholds, dtype=np.float64)).astype(np.float64)
    return found


def counted_proposals(proposals: Proposals, dataset: Dataset, number: float | None, budget: Budget) -> Indices:
    """How many proposals of each video with instances count, best first, at ``number`` per video: int64 ``(V,)``.

    ``budget`` as in :func:`recall_curve`: the same share of the proposals of each video, so that there are ``number``
    on average, or the best ``number`` of each video. None, and numbers that are not reached: all proposals.
    Raises UserError if there are no instances.
    """
    available = np.array([len(proposals.intervals.get(video.id, ())) for video in _with_truth(dataset)], dtype=np.int64)
    if number is None or not available.any():
        return available
    average = available.sum() / len(available)
    wanted = available * (number / average) if budget == "average" else np.full(len(available), number)
    # Slightly more, so that rounding does not lose a proposal.
    counts: Indices = np.minimum(np.floor(wanted + 1e-9).astype(np.int64), available)
    return counts


def best_overlaps(
    proposals: Proposals, dataset: Dataset, number: int | Indices | None = None
) -> Iterator[tuple[Video, Floats]]:
    """Each video with instances, and the highest tIoU of its best ``number`` proposals with each instance.

    ``number``: the same for all videos, or one for each video with instances ``(V,)``; None: all proposals.
    Raises UserError if there are no instances.
    """
    videos = _with_truth(dataset)
    truth = [video.intervals() for video in videos]
    numbers = [None] * len(videos) if number is None else np.broadcast_to(number, len(videos)).tolist()
    rows = [_best_ranked(proposals, video.id, each) for video, each in zip(videos, numbers, strict=True)]
    groups = [np.repeat(np.arange(len(videos)), list(map(len, parts))) for parts in (rows, truth)]
    _, instance, overlaps = overlapping(np.concatenate(rows), np.concatenate(truth), (groups[0], groups[1]))
    best = np.zeros(len(groups[1]))
    np.maximum.at(best, instance, overlaps)
    yield from zip(videos, np.split(best, np.cumsum(list(map(len, truth)))[:-1]), strict=True)


def _best_ranked(proposals: Proposals, video: str, number: int | None) -> Floats:
    """The best ``number`` proposals of a video, best first, ``(n, 2)``; None: all, in any order."""
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
    """Number of proposals of each video that count at each share ``(P,)`` of ``maximum``: int64 ``(V, P)``.

    As in the toolkit, each list is first cut so that ``maximum`` proposals remain on average, and then to the share.
    """
    kept = np.minimum((available * (maximum * len(available) / total)).astype(np.int64), available)
    if not kept.any():
        raise UserError(f"at {maximum:g} proposals per video on average, every video's share is less than one")
    share = shares * (maximum * len(available) / kept.sum())
    counts: NDArray[np.int64] = np.minimum((kept[:, None] * share).astype(np.int64), kept[:, None])
    return counts


def _equal(available: Indices, maximum: float, shares: Floats) -> Indices:
    """The same numbers for all videos; see :func:`_parts`."""
    counts: Indices = np.minimum(np.floor(shares * maximum + 1e-9).astype(np.int64), available[:, None])
    return counts


def _first_finders(
    proposals: Proposals, videos: list[Video], owner: Indices, numbers: Indices, tious: Floats
) -> tuple[Indices, Indices]:
    """Rank from 0 of the first proposal that finds each instance, among the best ``numbers`` ``(V,)`` of its video.

    owner: position of the video of each instance, ``(M,)``. Returns the F instances that are found at the lowest of K
    thresholds, ``(F,)``, and their ranks, ``(K, F)``; the rank is the largest int64 if no proposal reaches a threshold.
    """
    rows = [_best_ranked(proposals, video.id, int(number)) for video, number in zip(videos, numbers, strict=True)]
    truth, sizes = np.concatenate([video.intervals() for video in videos]), np.array(list(map(len, rows)))
    ranks = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    row, instance, overlaps = overlapping(
        np.concatenate(rows), truth, (np.repeat(np.arange(len(videos)), sizes), owner)
    )
    good = overlaps >= tious.min()  # a small part of all pairs
    rank, overlaps = ranks[row[good]], overlaps[good]
    reached, position = np.unique(instance[good], return_inverse=True)
    first = np.full((len(tious), len(reached)), np.iinfo(np.int64).max)
    for best, threshold in zip(first, tious, strict=True):
        hit = overlaps >= threshold
        np.minimum.at(best, position[hit], rank[hit])
    return reached, first


__all__ = [
    "TIOU_GRIDS",
    "Budget",
    "RecallCurve",
    "best_overlaps",
    "counted_proposals",
    "recall_at_tiou",
    "recall_curve",
    "share_found",
]
