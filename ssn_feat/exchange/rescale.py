"""Features of a video as a fixed number of rows: exact means over time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SAME_SECONDS = 1e-6


def rescaled(features: NDArray[Any], spans: NDArray[np.float64], duration: float, rows: int) -> NDArray[Any]:
    """Row k is the mean of the features over the time ``[k, k + 1) * duration / rows``: ``(rows, D)``, as given.

    ``features``: ``(T, D)``; ``spans``: float64 ``(T, 2)``, seconds that each row stands for. A row counts by the time
    that its span shares with the cell; a cell that shares none with any span takes the row whose span is nearest to
    its middle. Features that have these rows already come back as they are.
    """
    edges = duration * np.arange(rows + 1, dtype=np.float64) / rows
    cells = np.stack([edges[:-1], edges[1:]], axis=1)
    if len(spans) == rows and np.abs(spans - cells).max() <= _SAME_SECONDS:
        return features
    shared = np.minimum(cells[:, None, 1], spans[None, :, 1]) - np.maximum(cells[:, None, 0], spans[None, :, 0])
    weights = np.maximum(shared, 0.0)
    lost = weights.sum(axis=1) <= 0
    nearest = np.abs(cells[lost].mean(axis=1)[:, None] - spans.mean(axis=1)[None]).argmin(axis=1)
    weights[np.flatnonzero(lost), nearest] = 1.0
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray(weights @ features.astype(np.float64), dtype=np.float32)
