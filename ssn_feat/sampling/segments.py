"""The rows of each stage that a training sample reads: 2 + 5 + 2 segments (SSN paper, "sparse sampling").

Each stage is cut into equal parts, and one row of the feature table is chosen from each part.
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
    """One row for each segment of each stage: int64 ``(..., sum(segments))``, in temporal order.

    ``first``, ``count``: int64 ``(..., S)``, first row and number of rows (at least 1) of each of S stages;
    ``segments``: number of parts of each stage. A stage of n rows is cut into k parts of n/k rows (not rounded, so that
    every row is equally likely). ``generator`` draws a row uniformly from each part; without a generator, the middle of
    the part is chosen. Rows of stages with fewer rows than parts are repeated.
    """
    stage = np.repeat(np.arange(len(segments)), segments)
    part = np.concatenate([np.arange(k) for k in segments])
    parts = np.asarray(segments)[stage]
    n = count[..., stage]
    within = 0.5 if generator is None else generator.random(n.shape)
    # A draw just below 1 may be rounded up to the next part: the last part must not leave its stage.
    chosen: NDArray[np.int64] = first[..., stage] + np.minimum(((part + within) / parts * n).astype(np.int64), n - 1)
    return chosen


__all__ = ["SEGMENTS", "choose_rows"]
