"""Rescaling of features to a fixed number of rows by exact means over time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SAME_SECONDS = 1e-6


def rescaled(features: NDArray[Any], spans: NDArray[np.float64], duration: float, rows: int) -> NDArray[Any]:
    """Rescale features ``(T, D)`` to float32 ``(rows, D)``: row k is their mean over ``[k, k + 1) * duration / rows``.

    ``spans``: float64 ``(T, 2)``, the seconds that each row stands for. A row is weighted by the overlap of its span
    with the cell. A cell without overlap takes the row whose span is nearest to its middle. Features that already have
    these rows are returned unchanged.
    """
    edges = duration * np.arange(rows + 1, dtype=np.float64) / rows
    cells = np.stack([edges[:-1], edges[1:]], axis=1)
    if len(spans) == rows and np.abs(spans - cells).max() <= _SAME_SECONDS:
        return features
    overlap = np.minimum(cells[:, None, 1], spans[None, :, 1]) - np.maximum(cells[:, None, 0], spans[None, :, 0])
    weights = np.maximum(overlap, 0.0)
    empty = weights.sum(axis=1) <= 0
    nearest = np.abs(cells[empty].mean(axis=1)[:, None] - spans.mean(axis=1)[None]).argmin(axis=1)
    weights[np.flatnonzero(empty), nearest] = 1.0
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray(weights @ features.astype(np.float64), dtype=np.float32)


__all__ = ["rescaled"]
