"""The snippet grid: the frames that each row of features reads, and the time interval that it covers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssn_feat.errors import UserError

FLOW_LENGTH = 5
"""Number of pairs of consecutive frames in a snippet, as flow networks expect."""


@dataclass(frozen=True)
class SnippetGrid:
    """The snippets of one video, which all of its streams share."""

    first: np.ndarray
    """(T,) int64: the first frame of each snippet, counted from 0."""
    stop: np.ndarray
    """(T,) int64: the frame after the last one that a snippet may read: the next gap, or the end of the video."""
    spans: np.ndarray
    """(T, 2) float64, seconds: contiguous cells [start, end) from the first frame to the duration, without the gaps."""


def snippet_starts(frames: int, stride: int) -> np.ndarray:
    """Return the first frames, (T,) int64, of the snippets of a video of ``frames`` frames; T >= 1.

    ``arange(0, frames - 5, stride)``, as in the test sampling of SSN: the 5 flow fields of a snippet need 6 frames, so
    all of these starts are valid and later ones are not. A video too short for one snippet has one snippet at frame
    0, which repeats the last frame in place of the missing ones.
    """
    return np.arange(0, max(frames - FLOW_LENGTH, 1), stride, dtype=np.int64)


def snippet_grid(
    times: Sequence[float] | np.ndarray, duration: float, stride: int, gaps: Sequence[int] | np.ndarray = ()
) -> SnippetGrid:
    """Compute the grid of a video from the times of its frames.

    ``times`` (F,) seconds, strictly increasing; ``duration`` seconds, the end of the last frame; ``gaps``: numbers of
    frames before which the timestamps jump. The cell of a snippet extends from the time of its first frame to that of
    the next snippet; the last cell ends at ``duration``. Every frame is in exactly one cell, even if the frame rate
    varies. Each part between gaps has its own grid, so cells and snippets never span a gap.

    Raises UserError if there are no frames, times do not increase, ``duration`` is not after the last frame, or
    ``stride`` is below 1.
    """
    times = np.asarray(times, dtype=np.float64)
    if stride < 1:
        raise UserError(f"a snippet grid needs a stride of at least 1 frame, not {stride}")
    if times.ndim != 1 or len(times) == 0:
        raise UserError(f"a snippet grid needs the times of at least one frame, not an array of shape {times.shape}")
    if not np.all(np.isfinite(times)) or np.any(np.diff(times) <= 0):
        raise UserError("the times of a snippet grid must be finite and strictly increasing")
    if not duration > times[-1]:
        raise UserError(f"the duration {duration} s must be after the last frame's time {times[-1]} s")
    bounds = [0, *gaps, len(times)]
    firsts, stops, spans = [], [], []
    for begin, end in itertools.pairwise(bounds):
        first = begin + snippet_starts(end - begin, stride)
        edges = np.append(times[first], duration if end == len(times) else _end(times, begin, end))
        firsts.append(first)
        stops.append(np.full(len(first), end))
        spans.append(np.stack([edges[:-1], edges[1:]], axis=1))
    return SnippetGrid(np.concatenate(firsts), np.concatenate(stops), np.concatenate(spans))


def _end(times: np.ndarray, begin: int, end: int) -> float:
    """Return the end of the last frame before a gap: one mean interval later, but at most the next frame's time."""
    interval = (times[end - 1] - times[begin]) / (end - 1 - begin) if end - 1 > begin else np.inf
    return float(min(times[end - 1] + interval, times[end]))


__all__ = ["FLOW_LENGTH", "SnippetGrid", "snippet_grid", "snippet_starts"]
