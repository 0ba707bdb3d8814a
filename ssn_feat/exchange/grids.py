"""The time base of a whole store, in the form that other projects use: stride and window in frames, frame rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssn_feat.errors import UserError
from ssn_feat.exchange.time_base import FrameGrid, Rescaled, time_base_of
from ssn_feat.store import FeatureStore


@dataclass(frozen=True)
class Grid:
    """Row i of a video is at ``(i * stride + window / 2) / fps`` seconds unless features were rescaled to ``rows``."""

    stride: float
    """Frames from one row to the next."""
    window: float
    """Twice the frames before the middle of the first row."""
    fps: dict[str, float]
    """Frames per second by video; empty for rescaled features."""
    rows: int | None = None
    """Rows that every video was rescaled to; None if they follow the frames."""

    @property
    def common_fps(self) -> float | None:
        """The frame rate of all videos; None if they differ by more than 4 ms in an hour.

        Frame rates are measured from the times of frames, so equal rates differ in their last digits.
        """
        if not self.fps:
            return None
        slowest, fastest = min(self.fps.values()), max(self.fps.values())
        return fastest if math.isclose(slowest, fastest, rel_tol=1e-6) else None


def grid_of(store: FeatureStore, ids: Sequence[str], tolerance: float) -> Grid:
    """The common time base of videos of a store.

    Raises UserError if they have none, and for the first video with a row whose middle differs by more than
    ``tolerance`` seconds from the time base.
    """
    described = store.attributes(ids[0]).get("time_base")
    first = _frame_grid(store, ids[0]) if described is None else time_base_of(described)
    if isinstance(first, Rescaled):
        for video_id in ids:
            if store.rows(video_id) != first.rows:
                raise UserError(f"video {video_id!r} has {store.rows(video_id)} rows, others have {first.rows}")
        return Grid(-1, 1, {}, first.rows)
    rates = {}
    for video_id in ids:
        grid = _frame_grid(store, video_id) if described is None else _imported(store, video_id)
        if (grid.stride, grid.window, grid.offset) != (first.stride, first.window, first.offset):
            raise UserError(
                f"videos {ids[0]!r} and {video_id!r} have time bases {first} and {grid}: export them separately"
            )
        _check(store, video_id, grid, tolerance)
        rates[video_id] = grid.fps
    return Grid(first.stride, first.window + 2 * first.offset, rates)


def _imported(store: FeatureStore, video_id: str) -> FrameGrid:
    base = time_base_of(store.attributes(video_id).get("time_base") or {})
    if isinstance(base, Rescaled):
        raise UserError(f"video {video_id!r} was rescaled, others were not: export them separately")
    return base


def _frame_grid(store: FeatureStore, video_id: str) -> FrameGrid:
    """The grid of a video that this program extracted: a row stands for one stride from its first frame."""
    stride, fps = store.recipe.get("snippets", {}).get("stride"), store.attributes(video_id).get("fps")
    if not stride or not fps:
        raise UserError(f"the store {store.path} has no {'stride' if not stride else 'fps'} for video {video_id!r}")
    return FrameGrid(fps, stride, stride, 0)


def _check(store: FeatureStore, video_id: str, grid: FrameGrid, tolerance: float) -> None:
    video = store.read(video_id, [])
    # The last cells are clipped to the end of the video.
    unclipped = video.spans[:, 1] < video.duration
    expected = grid.windows(len(video.spans)).mean(axis=1)
    deviation = np.where(unclipped, np.abs(video.spans.mean(axis=1) - expected), 0.0)
    worst = int(deviation.argmax())
    if deviation[worst] > tolerance:
        raise UserError(
            f"video {video_id!r}: row {worst} is at {video.spans[worst].mean():.3f} s, but a constant frame rate of "
            f"{grid.fps:g} and a stride of {grid.stride:g} frames put it at {expected[worst]:.3f} s (its frame rate "
            f"may not be constant); --tolerance {deviation[worst]:.2f} exports it anyway"
        )


__all__ = ["Grid", "grid_of"]
