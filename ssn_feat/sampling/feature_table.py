"""The features of all training videos in one tensor.

Reading rows from disk takes longer than a training step. Therefore the features of all training videos are read once,
one video after the other, into one contiguous tensor; the rows of a batch are then a single ``index_select``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssn_feat.annotations.similar import similar_name
from ssn_feat.errors import UserError
from ssn_feat.heads.features import Standardisation, join_streams, stream_dims
from ssn_feat.sampling.feature_memory import allocate
from ssn_feat.store import FeatureStore
from ssn_feat.terminal import printable_lines

# Number of missing videos that a message names.
_NAMED = 20


@dataclass(frozen=True)
class FeatureTable:
    """Features of V videos in one tensor.

    ``rows``: ``(R, D)`` with the dtype of the store (usually float16), video after video; several streams are
    concatenated along the columns in the order of ``streams`` (early fusion); ``offsets``: int64 ``(V + 1,)``, the rows
    of video v are ``rows[offsets[v]:offsets[v + 1]]``; ``spans``: float64 ``(R, 2)``, seconds that each row covers;
    ``durations``: float64 ``(V,)``, seconds.
    """

    ids: tuple[str, ...]
    streams: tuple[str, ...]
    rows: Tensor
    offsets: NDArray[np.int64]
    spans: NDArray[np.float64]
    durations: NDArray[np.float64]

    @classmethod
    def load(
        cls,
        store: FeatureStore,
        ids: Sequence[str],
        streams: Sequence[str],
        advance: Callable[[], None] = lambda: None,
        folder: Path | None = None,
        values: bool = True,
    ) -> FeatureTable:
        """Read videos from a store; ``advance`` is called after each video.

        ``folder``: folder of the file that rows are mapped from; None keeps them in memory. Without ``values``, rows
        have no columns: only their times are read. Raises UserError for an unknown stream, for an empty list of videos,
        and for a video that the store does not have.
        """
        if not ids:
            raise UserError(f"no video to read from the store {store.path}")
        width = sum(stream_dims(store, streams)) if values else 0
        counts = list(store.map(store.rows, ids))
        offsets = np.cumsum([0, *counts], dtype=np.int64)
        rows = allocate((int(offsets[-1]), width), getattr(torch, store.dtype), folder)
        spans, durations = np.empty((len(rows), 2)), np.empty(len(ids))
        for at, stored in enumerate(store.read_all(ids, streams if values else ())):
            of_video = slice(offsets[at], offsets[at + 1])
            spans[of_video], durations[at] = stored.spans, stored.duration
            if values:
                rows[of_video] = join_streams(stored.features, streams)
            advance()
        return cls(tuple(ids), tuple(streams), rows, offsets, spans, durations)

    def rows_of(self, video: int) -> slice:
        """The rows of the video with index ``video`` in ``ids``."""
        return slice(int(self.offsets[video]), int(self.offsets[video + 1]))

    @property
    def feature_dim(self) -> int:
        """Number of columns D."""
        return self.rows.shape[1]

    def standardised(self, standardisation: Standardisation) -> FeatureTable:
        """This table with its rows standardised in place, to save memory."""
        standardisation.overwrite(self.rows)
        return self

    def to(self, device: torch.device | str) -> FeatureTable:
        """The table with its rows on ``device``."""
        return replace(self, rows=self.rows.to(device))


def intersect_ids(
    wanted: Sequence[str],
    there: Iterable[str],
    missing: Literal["refuse", "skip"],
    what: str,
    subset: str | None = "training",
    quiet: bool = False,
) -> tuple[str, ...]:
    """The video ids in ``wanted`` that are also in ``there``.

    ``missing``: whether to refuse or to skip absent videos; skipped videos are printed unless ``quiet``; ``what``,
    ``subset``: name of the collection and of the videos in messages. Raises UserError, naming missing videos, unless
    they may be skipped, and always if no video is left.
    """
    present = dict.fromkeys(there)
    lost = [video for video in wanted if video not in present]
    some = ", ".join(lost[:_NAMED]) + (", ..." if len(lost) > _NAMED else "") + similar_name(lost, present, what)
    said = f"{what} lacks {len(lost)} of {len(wanted)} {subset} videos"
    if lost and (missing == "refuse" or len(lost) == len(wanted)):
        hint = "" if len(lost) == len(wanted) else "; --missing skip trains without them"
        raise UserError(f"{said}: {some}{hint}")
    if lost and not quiet:
        print(printable_lines(f"note: {said}, which are skipped: {some}"), file=sys.stderr)
    return tuple(video for video in wanted if video in present)


__all__ = ["FeatureTable", "intersect_ids"]
