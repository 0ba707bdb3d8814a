"""The snippet grid: which frames each row of features looks at, and which seconds it stands for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssn_feat.errors import UserError

FLOW_LENGTH = 5
"""Pairs of consecutive frames in a snippet, as flow networks take them."""


@dataclass(frozen=True)
class SnippetGrid:
    """The snippets of one video, the same for all of its streams."""

    first: np.ndarray
    """(T,) int64: the first frame of each snippet, counted from 0."""
    stop: np.ndarray
    """(T,) int64: the frame after the last one that a snippet may read: the next gap, or the end of the video."""
    spans: np.ndarray
    """(T, 2) float64, seconds: contiguous cells [start, end) from the first frame to the duration, without the gaps."""


def snippet_starts(frames: int, stride: int) -> np.ndarray:
    """(T,) int64 first frames of the snippets of a video of ``frames`` frames; T >= 1.

    ``arange(0, frames - 5, stride)``, as in the test sampling of SSN: the 5 flow fields of a snippet need 6 frames, so
    each of these starts is valid and no later one is. A video too short for one snippet has one at frame 0, which
    repeats the last frame in place of the missing ones.
    """
    return np.arange(0, max(frames - FLOW_LENGTH, 1), stride, dtype=np.int64)


def snippet_grid(
    times: Sequence[float] | np.ndarray, duration: float, stride: int, gaps: Sequence[int] | np.ndarray = ()
) -> SnippetGrid:
    """The grid of a video from the times of its frames.

    ``times`` (F,) seconds, strictly increasing; ``duration`` seconds, the end of the last frame; ``gaps``: numbers of
    frames before which the timestamps jump. The cell of a snippet reaches from the time of its first frame to that of
    the next snippet's; the last ends at ``duration``. So every frame lies in exactly one cell, also where the frame
    rate varies. The parts between gaps have a grid each, so that no cell and no snippet spans a gap.

    Raises UserError if there is no frame, times do not increase, ``duration`` is not after the last frame, or
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
    """End of the last frame before a gap: after the mean interval of its part, or at the next frame."""
    interval = (times[end - 1] - times[begin]) / (end - 1 - begin) if end - 1 > begin else np.inf
    return float(min(times[end - 1] + interval, times[end]))


__all__ = ["FLOW_LENGTH", "SnippetGrid", "snippet_grid", "snippet_starts"]
