"""What proposals are, given the truth: class, tIoU and share of action of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError
from ssn_feat.intervals import as_intervals, overlapping


@dataclass(frozen=True)
class ProposalLabels:
    """Of the instance that overlaps a proposal most (by tIoU; of equal ones the first), for N proposals.

    label: int64 ``(N,)``, class index + 1, or 0 (background) for a proposal that meets no instance.
    tiou: float64 ``(N,)``. overlap: float64 ``(N,)``, share of the proposal that lies in that instance.
    """

    label: NDArray[np.int64]
    tiou: NDArray[np.float64]
    overlap: NDArray[np.float64]


def label_proposals(
    intervals: ArrayLike,
    truth: ArrayLike,
    classes: ArrayLike,
    videos: tuple[ArrayLike, ArrayLike] | None = None,
) -> ProposalLabels:
    """Name proposals as the original's ``name_proposal`` does.

    intervals: ``(N, 2)``. truth: ``(M, 2)``, the same unit. classes: class index of each instance, int ``(M,)``.
    videos: the number of the video of each proposal ``(N,)`` and of each instance ``(M,)``, many videos at once being
    faster than one after the other; None where all are of one video.
    Raises UserError on malformed intervals, or classes or numbers of videos of another length.
    """
    boxes, instances = as_intervals(intervals, "proposals"), as_intervals(truth, "instances")
    labels = np.asarray(classes, dtype=np.int64).reshape(-1)
    if len(labels) != len(instances):
        raise UserError(f"{len(instances)} instances need as many classes, not {len(labels)}")
    if not len(instances):
        return ProposalLabels(np.zeros(len(boxes), np.int64), np.zeros(len(boxes)), np.zeros(len(boxes)))
    rows, columns, overlaps = overlapping(boxes, instances, videos)
    found = np.zeros(len(boxes))
    np.maximum.at(found, rows, overlaps)
    highest = overlaps == found[rows]
    best = np.full(len(boxes), len(instances))
    np.minimum.at(best, rows[highest], columns[highest])
    some = np.flatnonzero(found)
    mine, nearest = boxes[some], instances[best[some]]
    label, share = np.zeros(len(boxes), np.int64), np.zeros(len(boxes))
    label[some] = labels[best[some]] + 1
    inside = np.minimum(mine[:, 1], nearest[:, 1]) - np.maximum(mine[:, 0], nearest[:, 0])
    share[some] = inside / (mine[:, 1] - mine[:, 0])
    return ProposalLabels(label, found, share)


__all__ = ["ProposalLabels", "label_proposals"]
