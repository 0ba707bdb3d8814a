"""The time base: which part of a video each row of features stands for. Files of features do not contain it.

:class:`FrameGrid` is for features extracted at a fixed stride in frames, :class:`Rescaled` for features that were
rescaled to a fixed number of rows for each video.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError

Spans = NDArray[np.float64]


@dataclass(frozen=True)
class FrameGrid:
    """Row i was computed from the frames ``[offset + i * stride, offset + i * stride + window)``, counted from 0.

    It stands for one stride of time around the middle of that window, as in ActionFormer (``(i * feat_stride +
    num_frames / 2) / fps``) and OpenTAD (``(i * snippet_stride + offset_frames) / fps``).
    """

    fps: float
    """Frames per second at which the features were extracted (after any change of the frame rate)."""
    stride: float
    """Frames from one row to the next."""
    window: float
    """Frames that one row was computed from."""
    offset: float
    """Frames before the window of the first row."""

    def __post_init__(self) -> None:
        for name in ("fps", "stride", "window"):
            if not (math.isfinite(value := getattr(self, name)) and value > 0):
                raise UserError(f"the time base needs a positive {name}, not {value}")
        if not math.isfinite(self.offset):
            raise UserError(f"the time base needs a finite offset, not {self.offset}")

    def windows(self, rows: int) -> Spans:
        """The windows that the rows were computed from: float64 ``(rows, 2)``, seconds."""
        first = self.offset + np.arange(rows, dtype=np.float64) * self.stride
        return np.stack([first, first + self.window], axis=1) / self.fps

    def spans(self, rows: int, duration: float) -> Spans:
        """The cells that the rows stand for, clipped to the video: float64 ``(rows, 2)``, seconds."""
        centre = self.offset + self.window / 2 + np.arange(rows, dtype=np.float64) * self.stride
        cells = np.stack([centre - self.stride / 2, centre + self.stride / 2], axis=1) / self.fps
        return np.clip(cells, 0.0, duration)

    def contradiction(self, rows: int, duration: float, tolerance: float) -> str | None:
        """Why a video of ``duration`` seconds cannot have ``rows`` rows; None if it can.

        The middle of the last window may lie up to ``tolerance`` seconds after the end of the video; at most a stride
        and ``tolerance`` may remain after the last window.
        """
        begin, end = self.windows(rows)[-1]
        if (begin + end) / 2 > duration + tolerance:
            return f"the last of {rows} rows would be at {(begin + end) / 2:.2f} s of a video of {duration:.2f} s"
        if end + self.stride / self.fps < duration - tolerance:
            return f"the last of {rows} rows would end at {end:.2f} s of a video of {duration:.2f} s"
        return None

    def describe(self) -> dict[str, Any]:
        """The time base as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Rescaled:
    """Every video has the same number of rows; row k stands for ``[k, k + 1) / rows`` of the covered time.

    The rows cover the whole video, or its first ``covered`` seconds: BSN and BMN rescaled ``frames // 16 * 16`` frames.
    """

    rows: int
    """Rows of each video."""
    covered: float | None = None
    """Covered seconds; None for the whole video."""

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise UserError(f"rows per video must be at least 1, not {self.rows}")

    def spans(self, rows: int, duration: float) -> Spans:
        """The cells that the rows stand for: float64 ``(rows, 2)``, seconds."""
        edges = (duration if self.covered is None else self.covered) * np.arange(rows + 1, dtype=np.float64) / rows
        return np.stack([edges[:-1], edges[1:]], axis=1)

    def contradiction(self, rows: int, duration: float, tolerance: float) -> str | None:
        """Why a video cannot have ``rows`` rows; None if it can."""
        return None if rows == self.rows else f"there are {rows} rows, not {self.rows}"

    def describe(self) -> dict[str, Any]:
        """The time base as plain values."""
        return asdict(self)


TimeBase = FrameGrid | Rescaled


def time_base_of(described: dict[str, Any]) -> TimeBase:
    """The inverse of ``describe``. Raises UserError if ``described`` is not a time base."""
    try:
        return Rescaled(**described) if "rows" in described else FrameGrid(**described)
    except TypeError as error:
        raise UserError(f"the recorded time base is not valid: {error}") from None


__all__ = ["FrameGrid", "Rescaled", "Spans", "TimeBase", "time_base_of"]
