"""Labels of proposals by the annotations: class, tIoU and overlap of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError
from ssn_feat.intervals import as_intervals, overlapping


@dataclass(frozen=True)
class ProposalLabels:
    """For N proposals, the instance with the largest tIoU with each (ties: the first).

    label: int64 ``(N,)``, class index + 1, or 0 (background) for a proposal that overlaps no instance.
    tiou: float64 ``(N,)``. overlap: float64 ``(N,)``, share of the proposal inside that instance.
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
    """Label proposals as ``name_proposal`` of the original code does.

    intervals: ``(N, 2)``. truth: ``(M, 2)``, in the same unit. classes: class index of each instance, int ``(M,)``.
    videos: the video number of each proposal ``(N,)`` and of each instance ``(M,)``; None if all are of one video. One
    call for many videos is faster than one call per video.
    Raises UserError on malformed intervals, and on classes or video numbers of another length.
    """
    boxes, instances = as_intervals(intervals, "proposals"), as_intervals(truth, "instances")
    labels = np.asarray(classes, dtype=np.int64).reshape(-1)
    if len(labels) != len(instances):
        raise UserError(f"there are {len(instances)} instances, but {len(labels)} classes")
    if not len(instances):
        return ProposalLabels(np.zeros(len(boxes), np.int64), np.zeros(len(boxes)), np.zeros(len(boxes)))
    rows, columns, overlaps = overlapping(boxes, instances, videos)
    tiou = np.zeros(len(boxes))
    np.maximum.at(tiou, rows, overlaps)
    highest = overlaps == tiou[rows]
    best = np.full(len(boxes), len(instances))
    np.minimum.at(best, rows[highest], columns[highest])
    positive = np.flatnonzero(tiou)
    proposal, instance = boxes[positive], instances[best[positive]]
    label, share = np.zeros(len(boxes), np.int64), np.zeros(len(boxes))
    label[positive] = labels[best[positive]] + 1
    inside = np.minimum(proposal[:, 1], instance[:, 1]) - np.maximum(proposal[:, 0], instance[:, 0])
    share[positive] = inside / (proposal[:, 1] - proposal[:, 0])
    return ProposalLabels(label, tiou, share)


__all__ = ["ProposalLabels", "label_proposals"]
