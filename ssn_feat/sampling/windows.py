"""Windows of rows for heads that read whole videos."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# A window with an instance is found almost always at once; a video whose instances are longer than any window has none.
_TRIES = 300


def draw_window(
    rows: int,
    instances: Floats,
    longest: int,
    crop: tuple[float, float],
    kept_share: float,
    generator: np.random.Generator,
) -> tuple[int, int]:
    """First row and number of rows of a random window of a video, with an instance if there is one.

    ``rows``: of the video; ``instances``: ``(G, 2)`` on the grid of rows; a video of more than ``longest`` rows gives a
    window of that size, a shorter one a share of its rows between the two of ``crop``. An instance is in a window with
    at least ``kept_share`` of its length. Without a window with an instance, the last one that was tried is returned.
    """
    if rows > longest:
        size = longest
    else:
        low, high = max(round(crop[0] * rows), 1), max(round(crop[1] * rows), 1)
        size = int(generator.integers(low, high + 1))
    if size == rows:
        return 0, rows
    first = 0
    for _ in range(_TRIES):
        first = int(generator.integers(0, rows - size + 1))
        if not len(instances) or len(kept_instances(instances, first, size, kept_share)):
            break
    return first, size


def kept_instances(instances: Floats, first: int, size: int, kept_share: float) -> NDArray[np.int64]:
    """Indices of the instances of which at least ``kept_share`` lies in a window: int64 ``(M,)``."""
    shared = np.minimum(instances[:, 1], first + size) - np.maximum(instances[:, 0], first)
    lengths = np.maximum(instances[:, 1] - instances[:, 0], 1e-9)
    return np.flatnonzero(shared / lengths >= kept_share)


__all__ = ["draw_window", "kept_instances"]
