"""Rows of several videos in one array, with offsets, so that whole data sets are processed without Python loops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError

Float = NDArray[np.float64]
Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows ``offsets[i]:offsets[i + 1]`` of every per-row array belong to video ``ids[i]``."""

    ids: tuple[str, ...]
    """Unique ids of the videos, also of videos without rows."""
    offsets: Int
    """int64 ``(V + 1,)``, non-decreasing, starting with 0."""

    def _check_offsets(self, rows: int) -> None:
        """Raises ValueError unless ids are unique and ``offsets`` split ``rows`` rows among them."""
        offsets = self.offsets
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("video ids must be unique")
        if (
            offsets.shape != (len(self.ids) + 1,)
            or offsets[0] != 0
            or offsets[-1] != rows
            or np.any(np.diff(offsets) < 0)
        ):
            raise ValueError(f"offsets do not split {rows} rows among {len(self.ids)} videos")

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each id in ``ids``."""
        return {video: position for position, video in enumerate(self.ids)}

    @property
    def counts(self) -> Int:
        """Number of rows of each video, int64 ``(V,)``."""
        return np.diff(self.offsets)

    @cached_property
    def videos(self) -> Int:
        """Position in ``ids`` of the video that each row belongs to, int64 ``(N,)``."""
        return np.repeat(np.arange(len(self.ids), dtype=np.int64), self.counts)

    def rows(self, video: str) -> slice:
        """The rows of one video. Raises UserError on an unknown video."""
        if video not in self.index:
            raise UserError(f"there is no video {video!r} among these {len(self.ids)}: {', '.join(self.ids[:5])} ...")
        position = self.index[video]
        return slice(int(self.offsets[position]), int(self.offsets[position + 1]))

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __contains__(self, video: object) -> bool:
        return video in self.index


def trained_on_of(value: Any) -> dict[str, tuple[str, ...]]:
    """Ids of videos by run, from what a file records. Raises ValueError if ``value`` is something else."""
    if not isinstance(value, dict) or not all(isinstance(videos, list) for videos in value.values()):
        raise ValueError("the videos that runs were trained on are not lists by run")
    return {str(run): tuple(map(str, videos)) for run, videos in value.items()}


def offsets_of(counts: Sequence[int] | Int) -> Int:
    """Offsets ``(V + 1,)`` of videos with the given numbers of rows."""
    return np.concatenate([[0], np.cumsum(np.asarray(counts, dtype=np.int64))]).astype(np.int64)


def take_videos(ragged: Ragged, positions: Int) -> tuple[Int, Int]:
    """Rows and new offsets that keep only the videos at ``positions``, in that order."""
    counts = ragged.counts[positions]
    offsets = offsets_of(counts)
    rows = np.arange(offsets[-1]) + np.repeat(ragged.offsets[:-1][positions] - offsets[:-1], counts)
    return rows.astype(np.int64), offsets
