"""All rows of a store in one tensor: what a training step gathers from.

Reading rows out of an array on disk costs more than the whole training step, so the features of all training videos are
read once, video by video, into one contiguous tensor; a batch is then a single ``index_select``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssn_feat.errors import UserError
from ssn_feat.store import FeatureStore
from ssn_feat.terminal import printable_lines
from ssn_feat.training.memory import room

# Rows whose statistics are computed at once: keeps the float64 copy of a chunk at some tens of megabytes.
_CHUNK = 4096
# Missing videos that a message names.
_NAMED = 20


@dataclass(frozen=True)
class Standardisation:
    """Shift and scale that give every feature mean 0 and deviation 1 on the training rows: float32 ``(D,)`` each."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Standardisation:
        """Of rows ``(R, D)``. Features that never vary are only shifted."""
        total, square = (torch.zeros(rows.shape[1], dtype=torch.float64) for _ in range(2))
        for chunk in rows.split(_CHUNK):
            total += chunk.double().sum(dim=0)
        mean = total / len(rows)
        for chunk in rows.split(_CHUNK):
            square += (chunk.double() - mean).square_().sum(dim=0)
        deviation = (square / len(rows)).sqrt()
        scale = torch.where(deviation > 1e-6, 1 / deviation.clamp(min=1e-6), torch.ones_like(deviation))
        return cls(mean.float(), scale.float())

    def __call__(self, rows: Tensor) -> Tensor:
        """Standardised float32 rows ``(..., D)``."""
        result: Tensor = (rows.float() - self.mean) * self.scale
        return result


@dataclass(frozen=True)
class FeatureTable:
    """Features of V videos in one tensor.

    ``rows``: ``(R, D)`` of the store's dtype (float16 as a rule), video after video, the columns of several streams
    side by side (early fusion) in the order of ``streams``; ``offsets``: int64 ``(V + 1,)``, video v owns
    ``rows[offsets[v]:offsets[v + 1]]``; ``spans``: float64 ``(R, 2)``, seconds that each row stands for;
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
        """Read videos from a store; ``advance`` is called after each.

        ``folder``: where rows are kept in a mapped file, None for memory; both hold the same. Without ``values`` rows
        have no columns: what the store says of them is read, not what is in them.
        Raises UserError for an unknown stream, and where no video is asked for or one is missing in the store.
        """
        if not ids:
            raise UserError(f"no video to read from the store {store.path}")
        width = sum(stream_dims(store, streams)) if values else 0
        counts = list(store.map(store.rows, ids))
        offsets = np.cumsum([0, *counts], dtype=np.int64)
        rows = room((int(offsets[-1]), width), getattr(torch, store.dtype), folder)
        spans, durations = np.empty((len(rows), 2)), np.empty(len(ids))
        for at, stored in enumerate(store.read_all(ids, streams if values else ())):
            place = slice(offsets[at], offsets[at + 1])
            spans[place], durations[at] = stored.spans, stored.duration
            if values:
                rows[place] = join_streams(stored.features, streams)
            advance()
        return cls(tuple(ids), tuple(streams), rows, offsets, spans, durations)

    def rows_of(self, video: int) -> slice:
        """The rows of one video, by its index in ``ids``."""
        return slice(int(self.offsets[video]), int(self.offsets[video + 1]))

    @property
    def feature_dim(self) -> int:
        """Number of columns D."""
        return self.rows.shape[1]

    def standardised(self, standardisation: Standardisation) -> FeatureTable:
        """The same videos with standardised rows; the rows of this table are overwritten to save memory."""
        for chunk in self.rows.split(_CHUNK):
            chunk.copy_(standardisation(chunk))
        return self

    def to(self, device: torch.device | str) -> FeatureTable:
        """The table with its rows on ``device``."""
        return replace(self, rows=self.rows.to(device))


def join_streams(features: Mapping[str, NDArray[Any]], streams: Sequence[str]) -> Tensor:
    """The streams' columns side by side, ``(T, D)``; of features kept for several crops ``(T, C, D)`` their mean.

    Raises UserError for a stream that is not there.
    """
    for stream in streams:
        if stream not in features:
            raise UserError(f"no stream {stream!r} among the features; there are {', '.join(features)}")
    parts = [torch.from_numpy(np.ascontiguousarray(features[stream])) for stream in streams]
    return torch.cat([part.float().mean(dim=1) if part.ndim == 3 else part for part in parts], dim=1)


def stream_dims(store: FeatureStore, streams: Sequence[str]) -> list[int]:
    """Number of features of each stream. Raises UserError for an unknown stream, a repeated one, or none at all."""
    if not streams or len(set(streams)) != len(streams):
        raise UserError(
            f"streams must name at least one stream, each once, not {list(streams)}; "
            f"the store {store.path} has {', '.join(store.streams)}"
        )
    return [store.feature_dim(stream) for stream in streams]


def present(
    wanted: Sequence[str],
    there: Iterable[str],
    missing: Literal["refuse", "skip"],
    what: str,
    subset: str | None = "training",
    quiet: bool = False,
) -> tuple[str, ...]:
    """Those of the ``wanted`` video ids that are ``there``; ``what`` and ``subset`` name place and videos in messages.

    What is skipped is said, unless ``quiet``. Raises UserError naming the missing ones, unless they may be skipped;
    always if none is left.
    """
    held = set(there)
    lost = [video for video in wanted if video not in held]
    some = ", ".join(lost[:_NAMED]) + (", ..." if len(lost) > _NAMED else "")
    said = f"{what} lacks {len(lost)} of {len(wanted)} {subset} videos"
    if lost and (missing == "refuse" or len(lost) == len(wanted)):
        hint = "" if len(lost) == len(wanted) else "; --missing skip goes on without them"
        raise UserError(f"{said}: {some}{hint}")
    if lost and not quiet:
        print(printable_lines(f"note: {said}, which are skipped: {some}"), file=sys.stderr)
    return tuple(video for video in wanted if video in held)


__all__ = ["FeatureTable", "Standardisation", "join_streams", "present", "stream_dims"]
