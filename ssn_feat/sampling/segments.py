"""Which rows of each stage a training sample reads: 2 + 5 + 2 segments (SSN paper, "sparse sampling").

Each stage is cut into equal parts and one row is taken from each. Rows here are rows of the feature table; the
original's rule, which works on frames, is :func:`original_segments`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SEGMENTS = (2, 5, 2)


def choose_rows(
    first: NDArray[np.int64],
    count: NDArray[np.int64],
    segments: Sequence[int] = SEGMENTS,
    generator: np.random.Generator | None = None,
) -> NDArray[np.int64]:
    """One row for each segment of each stage: int64 ``(..., sum(segments))``, in the order of time.

    ``first``, ``count``: int64 ``(..., S)``, first row and number of rows (at least 1) of each of S stages;
    ``segments``: S numbers of parts. A stage of n rows is cut into k parts of n/k rows (not rounded, so every row is
    equally likely); ``generator`` draws a row uniformly within each part, without one the middle of the part is taken.
    Stages with fewer rows than parts repeat rows.
    """
    stage = np.repeat(np.arange(len(segments)), segments)
    part = np.concatenate([np.arange(k) for k in segments])
    parts = np.asarray(segments)[stage]
    n = count[..., stage]
    within = 0.5 if generator is None else generator.random(n.shape)
    # A draw just below 1 may round up to the next part: the last part must not leave its stage.
    chosen: NDArray[np.int64] = first[..., stage] + np.minimum(((part + within) / parts * n).astype(np.int64), n - 1)
    return chosen


def original_segments(
    frames: NDArray[np.int64],
    frame_count: NDArray[np.int64] | int,
    stack: int = 1,
    segments: tuple[int, int, int] = SEGMENTS,
    generator: np.random.Generator | None = None,
    augmentation: tuple[float, float] = (0.5, 0.5),
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Snippets of a training sample exactly as the original code chooses them, on frames.

    ``frames``: integers ``(N, 2)``, 0-based first and one past the last frame of each proposal (at most the frame
    count); ``frame_count``: of the video, one number or ``(N,)``; ``stack``: frames that a snippet reads (1 for RGB, 5
    for flow). Gives int64 ``(N, sum(segments))``, the *1-based* first frame of each snippet (its later frames are
    clamped to the frame count), and the scaling, float64 ``(N, 2)``.

    Kept on purpose: lengths of flanks are truncated to whole frames but divided by the exact ones; a stage with no more
    positions than parts puts all of its snippets on its first frame; with stacks the ending stage of a proposal at the
    end of the video has a negative length and a negative scaling, as low as -8. :func:`choose_rows` has none of these.
    """
    frames = np.asarray(frames, dtype=np.int64).reshape(-1, 2)
    start, end = frames[:, 0] + 1, frames[:, 1]
    duration = end - start + 1
    flanks = [duration * part for part in augmentation]
    first = np.maximum(1, start - flanks[0].astype(np.int64))
    last = np.minimum(np.asarray(frame_count) - stack + 1, end + flanks[1].astype(np.int64))
    lengths = np.stack((start - first - stack + 1, duration - stack, last - end - stack + 1), axis=1)
    scaling = np.stack([(lengths[:, i] + stack - 1) / flank for i, flank in zip((0, 2), flanks, strict=True)], axis=1)
    starts = np.stack((first, start, end), axis=1)
    chosen = [
        starts[:, [i]] + (_original_centres(n, k) if generator is None else _original_draws(n, k, generator))
        for i, (n, k) in enumerate(zip(lengths.T[:, :, None], segments, strict=True))
    ]
    return np.concatenate(chosen, axis=1), scaling


def _original_centres(length: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    tick = length / parts
    return np.where(length > parts, (tick / 2.0 + tick * np.arange(parts)).astype(np.int64), 0)


def _original_draws(length: NDArray[np.int64], parts: int, generator: np.random.Generator) -> NDArray[np.int64]:
    size = (length + 1) // parts
    draws = generator.integers(0, np.maximum(size, 1), size=(len(length), parts))
    return np.where(size > 0, np.arange(parts) * size + draws, 0)


__all__ = ["SEGMENTS", "choose_rows", "original_segments"]
