"""The three stages of an augmented proposal: starting, course, ending (SSN paper, section 3.1).

A proposal ``[s, e)`` of length d is augmented to ``[s - d/2, e + d/2)``. The part before the proposal is the starting
stage, the proposal itself the course stage, and the part after it the ending stage. These flanks are cut at the ends of
the video; the *scaling* of a flank is the fraction that is left, and its features are multiplied by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError


@dataclass(frozen=True)
class Stages:
    """The stages of N proposals.

    ``boundaries``: float64 ``(N, 4)``, seconds: start of the starting stage, of the course and of the ending stage, and
    end of the ending stage; never decreasing, inside the video. ``scaling``: float64 ``(N, 2)`` in [0, 1], the fraction
    of the starting and of the ending flank that is inside the video.
    """

    boundaries: NDArray[np.float64]
    scaling: NDArray[np.float64]


def inside(intervals: NDArray[np.float64], duration: ArrayLike) -> NDArray[np.bool_]:
    """Which intervals ``(N, 2)`` (seconds) have a positive length inside ``[0, duration]``: bool ``(N,)``."""
    start, end = np.maximum(intervals[:, 0], 0.0), np.minimum(intervals[:, 1], duration)
    return np.asarray(end > start)


def stages(
    intervals: NDArray[np.float64], duration: ArrayLike, augmentation: tuple[float, float] = (0.5, 0.5)
) -> Stages:
    """Stages of proposals.

    ``intervals``: float64 ``(N, 2)``, seconds, first cut to the video; ``duration``: seconds, one number or ``(N,)``;
    ``augmentation``: lengths of the starting and the ending flank as fractions of the length of the proposal.

    Raises UserError for a proposal without length inside its video (see :func:`inside`).
    """
    intervals = np.asarray(intervals, dtype=np.float64).reshape(-1, 2)
    limit = np.broadcast_to(np.asarray(duration, dtype=np.float64), (len(intervals),))
    outside = np.flatnonzero(~inside(intervals, limit))
    if len(outside):
        at = outside[0]
        raise UserError(
            f"{len(outside)} of {len(intervals)} proposals have no length inside their video, the first is "
            f"{intervals[at, 0]:.3f}-{intervals[at, 1]:.3f} s in a video of {limit[at]:.3f} s"
        )
    start, end = np.maximum(intervals[:, 0], 0.0), np.minimum(intervals[:, 1], limit)
    flanks = (end - start)[:, None] * np.asarray(augmentation, dtype=np.float64)
    first, last = np.maximum(start - flanks[:, 0], 0.0), np.minimum(end + flanks[:, 1], limit)
    present = np.stack((start - first, last - end), axis=1)
    # A flank of length 0 (augmentation 0) has scaling 0; rounding may give a ratio slightly above 1.
    scaling = np.minimum(np.divide(present, flanks, out=np.zeros_like(present), where=flanks > 0), 1.0)
    return Stages(np.stack((first, start, end, last), axis=1), scaling)


def row_ranges(spans: NDArray[np.float64], stages: Stages) -> NDArray[np.int64]:
    """Rows of a video that belong to each stage: int64 ``(N, 4)``; stage i of a result row ``t`` is ``t[i]:t[i + 1]``.

    ``spans``: float64 ``(T, 2)``, seconds that each row covers. A row belongs to the stage that contains its centre. A
    course that contains no centre has the row that covers its middle; a flank that contains no centre has the row next
    to the course. At the ends of the video there may be no such row: the range is then empty (``t[0] == t[1] == 0`` or
    ``t[2] == t[3] == T``), and :func:`stage_rows` gives the nearest row.
    """
    rows = len(spans)
    centres = spans.mean(axis=1)
    t = np.searchsorted(centres, stages.boundaries, side="left").astype(np.int64).reshape(-1, 4)
    middle = (stages.boundaries[:, 1] + stages.boundaries[:, 2]) / 2
    holder = np.clip(np.searchsorted(spans[:, 0], middle, side="right") - 1, 0, rows - 1)
    short = t[:, 1] >= t[:, 2]
    t[:, 1] = np.where(short, holder, t[:, 1])
    t[:, 2] = np.where(short, holder + 1, t[:, 2])
    wanted = stages.scaling > 0
    t[:, 0] = np.maximum(np.minimum(t[:, 0], t[:, 1] - wanted[:, 0]), 0)
    t[:, 3] = np.minimum(np.maximum(t[:, 3], t[:, 2] + wanted[:, 1]), rows)
    return t


def stage_rows(ranges: NDArray[np.int64], rows: int | NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First row and number of rows (at least one) of each stage, int64 ``(N, 3)`` each; all rows are below ``rows``.

    ``ranges``: result of :func:`row_ranges`; ``rows``: number of rows of the video, one number or ``(N, 1)``. An empty
    stage has the row at its boundary, or the last row of the video.
    """
    first = np.minimum(ranges[:, :3], rows - 1)
    return first, np.clip(ranges[:, 1:] - first, 1, None)


__all__ = ["Stages", "inside", "row_ranges", "stage_rows", "stages"]
