"""Seconds to positions on the grid of the rows of a video, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RowGrid:
    """The grid of the rows of one video: the centre of row t has the position t.

    Between the centres of two rows, and beyond the first and the last one, positions grow linearly with time, so that
    rows that follow a gap keep their time. ``centres``: float64 ``(T,)``, seconds, ascending; ``step``: seconds between
    rows, beyond the ends.
    """

    centres: Floats
    step: float

    @classmethod
    def of(cls, spans: Floats) -> RowGrid:
        """The grid of rows that cover ``spans``, float64 ``(T, 2)``, seconds."""
        # Two rows with the same centre would give two positions to one time.
        centres = np.maximum.accumulate(spans.mean(axis=1) + 1e-9 * np.arange(len(spans)))
        step = float(np.median(np.diff(centres))) if len(centres) > 1 else float(spans[0, 1] - spans[0, 0])
        return cls(centres, step or 1.0)

    def positions(self, seconds: Floats) -> Floats:
        """Positions of times, of any shape."""
        rows = np.arange(len(self.centres), dtype=np.float64)
        inner = np.interp(seconds, self.centres, rows)
        before = np.minimum(seconds - self.centres[0], 0) / self.step
        after = np.maximum(seconds - self.centres[-1], 0) / self.step
        result: Floats = inner + before + after
        return result

    def seconds(self, positions: Floats) -> Floats:
        """Times of positions, of any shape."""
        rows = np.arange(len(self.centres), dtype=np.float64)
        inner = np.interp(positions, rows, self.centres)
        beyond = np.minimum(positions, 0) + np.maximum(positions - rows[-1], 0)
        result: Floats = inner + beyond * self.step
        return result


__all__ = ["RowGrid"]
