"""What a store holds of a video beside its arrays, and what is read of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.store.arrays import TIME, describe

_OWN = ("id", "arrays")


@dataclass(frozen=True, slots=True)
class StoredVideo:
    """One video read from a store.

    ``spans``: start and end of each snippet, float64 ``(T, 2)``, seconds. ``features``: one array per stream that was
    asked for, of the store's dtype (float16 as a rule), ``(T, D)`` or, where crops were kept, ``(T, C, D)``.
    ``duration`` is in seconds; ``fps`` is None where unknown. ``info``: everything that was recorded when the video was
    written.
    """

    id: str
    duration: float
    fps: float | None
    spans: NDArray[np.float64]
    features: dict[str, NDArray[Any]]
    info: dict[str, Any]

    @classmethod
    def of(
        cls, video_id: str, attributes: dict[str, Any], spans: NDArray[Any], features: dict[str, NDArray[Any]]
    ) -> StoredVideo:
        """From the attributes that :func:`attributes_of` made."""
        fps = attributes.get("fps")
        return cls(
            video_id, float(attributes["duration"]), None if fps is None else float(fps), spans, features, attributes
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """A video that could not be extracted: the last reason, how often it was tried, when (seconds since 1970)."""

    id: str
    reason: str
    tries: int
    time: float


def attributes_of(video_id: str, arrays: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> dict[str, Any]:
    """What is recorded of a video. Raises UserError where ``info`` holds what JSON cannot, or names that are taken."""
    taken = [name for name in _OWN if name in info]
    if taken:
        raise UserError(f"video {video_id!r}: the information to record must not use the names {', '.join(taken)}")
    try:
        plain = json.loads(json.dumps(dict(info), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(f"video {video_id!r}: the information to record must be plain values: {error}") from None
    duration = float(plain.pop("duration", arrays[TIME][-1, 1]))
    fps = plain.pop("fps", None)
    described = {name: describe(array) for name, array in arrays.items()}
    return {"id": video_id, "duration": duration, "fps": fps, **plain, "arrays": described}
