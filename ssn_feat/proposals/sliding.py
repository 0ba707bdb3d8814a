"""Sliding windows: proposals that depend only on the duration of a video."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError


@dataclass(frozen=True)
class SlidingOptions:
    """Windows whose lengths double from level to level."""

    overlap: float = 0.7
    """Share of a window that the next window overlaps, in [0, 1)."""
    levels: int = 8
    """Number of lengths: 1, 2, 4, ... times the time step."""
    time_step: float = 1.0
    """Length of the shortest window, seconds."""
    original_windows: bool = False
    """Windows as in the original code: they may end after the video, and a time step other than 1 changes their
    distance but not their length."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.overlap < 1.0:
            raise UserError(f"overlap of sliding windows must be in [0, 1), not {self.overlap}")
        if self.levels < 1:
            raise UserError(f"sliding windows need at least 1 level, not {self.levels}")
        if not (self.time_step > 0 and math.isfinite(self.time_step)):
            raise UserError(f"the time step of sliding windows must be above 0 seconds, not {self.time_step}")


def sliding_windows(duration: float, options: SlidingOptions | None = None) -> NDArray[np.float64]:
    """Windows over a video of ``duration`` seconds: float64 ``(N, 2)``, seconds, sorted by level, then by start.

    Windows of ``2 ** level`` time steps start every ``ceil(2 ** level * (1 - overlap))`` time steps. Windows with less
    than one step inside the video are left out; the others are clipped to it, and windows that become equal are given
    once. With a time step of 1 they are those of ``gen_exponential_sw_proposal`` in the original code, except for the
    clipping.

    Raises UserError unless the duration is a finite number of at least 0.
    """
    options = options or SlidingOptions()
    if not (math.isfinite(duration) and duration >= 0):
        raise UserError(f"a video's duration must be a finite number of seconds, not {duration}")
    if options.original_windows:
        return _ladder(duration, options.time_step, options)
    windows = _ladder(duration / options.time_step, 1.0, options) * options.time_step
    windows[:, 1] = np.minimum(windows[:, 1], duration)
    last = np.flatnonzero(windows[:, 1] == duration)  # only clipped windows can be equal
    _, first = np.unique(windows[last, 0], return_index=True)
    return np.delete(windows, np.delete(last, first), axis=0)


def _ladder(duration: float, spacing: float, options: SlidingOptions) -> NDArray[np.float64]:
    """All levels, not clipped; ``spacing`` scales the distance of the starts."""
    levels = []
    for length in (2**level for level in range(options.levels)):
        # The order of operations matters: 1 - 0.7 is a little more than 0.3, which may change the rounded result.
        start = np.arange(0, duration, math.ceil(length * spacing * (1 - options.overlap)), dtype=np.float64)
        start = start[np.minimum(duration, start + length) - start >= 1]
        levels.append(np.stack([start, start + length], axis=1))
    return np.concatenate(levels)


__all__ = ["SlidingOptions", "sliding_windows"]
