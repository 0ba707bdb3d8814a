"""The input of a head: the columns of all its streams, standardised if the run standardises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssn_feat.errors import UserError
from ssn_feat.store import FeatureStore

# Rows whose statistics are computed at once: the float64 copy of a chunk needs some tens of megabytes.
_CHUNK = 4096


@dataclass(frozen=True)
class Standardisation:
    """Shift and scale to mean 0 and standard deviation 1 on the training rows: float32 ``(D,)`` each."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Standardisation:
        """Computed from rows ``(R, D)``. Constant features are only shifted."""
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

    def overwrite(self, rows: Tensor) -> None:
        """Standardise rows ``(R, D)`` in place."""
        for chunk in rows.split(_CHUNK):
            chunk.copy_(self(chunk))


def join_streams(features: Mapping[str, NDArray[Any]], streams: Sequence[str]) -> Tensor:
    """The columns of all streams, ``(T, D)``. Features of several crops ``(T, C, D)`` are averaged over the crops.

    Raises UserError for a missing stream.
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


__all__ = ["Standardisation", "join_streams", "stream_dims"]
