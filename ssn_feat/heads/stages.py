"""The three stages of an augmented proposal: starting, course, ending (SSN paper, section 3.1).

A proposal ``[s, e)`` of length d is augmented to ``[s - d/2, e + d/2)``. What lies before it is the starting stage, the
proposal itself the course stage, what lies after it the ending stage. Where the video has no room for a whole flank,
the flank is cut and its *scaling* says which part of it was left; the heads weigh the flank's features with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError


@dataclass(frozen=True)
class Stages:
    """Where the stages of N proposals lie.

    ``boundaries``: float64 ``(N, 4)``, seconds: start of the starting stage, of the course, of the ending stage, and
    end of the ending stage; never decreasing, inside the video. ``scaling``: float64 ``(N, 2)`` in 0..1, the part of
    the starting and of the ending flank that lies inside the video.
    """

    boundaries: NDArray[np.float64]
    scaling: NDArray[np.float64]


def inside(intervals: NDArray[np.float64], duration: ArrayLike) -> NDArray[np.bool_]:
    """Which intervals ``(N, 2)`` (seconds) have a positive length once cut to ``[0, duration]``: bool ``(N,)``."""
    start, end = np.maximum(intervals[:, 0], 0.0), np.minimum(intervals[:, 1], duration)
    return np.asarray(end > start)


def stages(
    intervals: NDArray[np.float64], duration: ArrayLike, augmentation: tuple[float, float] = (0.5, 0.5)
) -> Stages:
    """Stages of proposals.

    ``intervals``: float64 ``(N, 2)``, seconds, cut to the video first; ``duration``: seconds, one number or ``(N,)``;
    ``augmentation``: length of the starting and of the ending flank as parts of the proposal's length.

    Raises UserError for a proposal that has no length inside its video (see :func:`inside`).
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
    # A flank of length 0 (augmentation 0) is wholly outside; rounding may give a ratio a hair above 1.
    scaling = np.minimum(np.divide(present, flanks, out=np.zeros_like(present), where=flanks > 0), 1.0)
    return Stages(np.stack((first, start, end, last), axis=1), scaling)


def row_ranges(spans: NDArray[np.float64], stages: Stages) -> NDArray[np.int64]:
    """Rows of a video that belong to each stage: int64 ``(N, 4)``; stage i of a row t of it is rows ``t[i]:t[i + 1]``.

    ``spans``: float64 ``(T, 2)``, seconds, the cells of the rows. A row belongs to the stage that holds the cell's
    centre. A course that holds no centre takes the row whose cell holds its middle, a flank that holds none takes the
    row next to the course. Only where the video ends there may be no such row: then the range is empty
    (``t[0] == t[1] == 0`` or ``t[2] == t[3] == T``) and :func:`stage_rows` reads the nearest row instead.
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
    """First row and number of rows of each stage, int64 ``(N, 3)`` each, at least one row a stage, all below ``rows``.

    ``ranges``: what :func:`row_ranges` gives (or the original's ticks); ``rows``: of the video, one number or
    ``(N, 1)``. An empty stage reads the row at its boundary,
    or the video's last row.
    """
    first = np.minimum(ranges[:, :3], rows - 1)
    return first, np.clip(ranges[:, 1:] - first, 1, None)


__all__ = ["Stages", "inside", "row_ranges", "stage_rows", "stages"]
