"""A video as read from a store, and the attributes that a store records for it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.store.arrays import TIME, Damage, describe_array
from ssn_feat.store.keys import key_of
from ssn_feat.terminal import printable

_RESERVED = ("id", "arrays", "fingerprints", "revision")


@dataclass(frozen=True, slots=True)
class StoredVideo:
    """One video read from a store.

    ``spans``: start and end of each snippet, float64 ``(T, 2)``, seconds. ``features``: one array for each requested
    stream, of the store's dtype (usually float16), ``(T, D)``, or ``(T, C, D)`` if crops were kept. ``duration`` is in
    seconds; ``fps`` is None if unknown. ``info``: all attributes recorded for the video.
    """

    id: str
    duration: float
    fps: float | None
    spans: NDArray[np.float64]
    features: dict[str, NDArray[Any]]
    info: dict[str, Any]

    def __repr__(self) -> str:
        streams = ", ".join(f"{printable(stream)} {rows.shape}" for stream, rows in self.features.items())
        return (
            f"StoredVideo({self.id!r}: {self.duration:.1f} s, {len(self.spans)} snippets{streams and f', {streams}'})"
        )

    @classmethod
    def of(
        cls, video_id: str, attributes: dict[str, Any], spans: NDArray[Any], features: dict[str, NDArray[Any]]
    ) -> StoredVideo:
        """From the attributes that :func:`video_attributes` returned."""
        fps = attributes.get("fps")
        return cls(
            video_id, float(attributes["duration"]), None if fps is None else float(fps), spans, features, attributes
        )


@dataclass(frozen=True, slots=True)
class FailedVideo:
    """A video that could not be extracted: last reason, number of tries, time of the last (seconds since 1970).

    ``streams``: the streams that the last try was to extract; empty if not recorded.
    """

    id: str
    reason: str
    tries: int
    time: float
    streams: tuple[str, ...] = ()


def video_attributes(
    video_id: str,
    arrays: Mapping[str, NDArray[Any]],
    info: Mapping[str, Any],
    fingerprints: Mapping[str, str],
) -> dict[str, Any]:
    """The attributes to record for a video. Raises UserError if ``info`` is not plain JSON or uses reserved names."""
    reserved = [name for name in _RESERVED if name in info]
    if reserved:
        raise UserError(f"video {video_id!r}: the recorded information must not use the names {', '.join(reserved)}")
    try:
        plain = json.loads(json.dumps(dict(info), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(f"video {video_id!r}: the recorded information must be plain values: {error}") from None
    duration = float(plain.pop("duration", arrays[TIME][-1, 1]))
    fps = plain.pop("fps", None)
    described = {name: describe_array(array) for name, array in arrays.items()}
    return {
        "id": video_id,
        "duration": duration,
        "fps": fps,
        **plain,
        "fingerprints": dict(fingerprints),
        "arrays": described,
    }


def array_folder(name: str, described: Mapping[str, Any]) -> str:
    """The name of the array in its video's group: the name itself, or ``NAME~REVISION`` if it was replaced.

    Raises Damage for any other name, since an untrusted store must not lead out of its folder.
    """
    folder = described.get("folder", name) if isinstance(described, Mapping) else name
    plain = name == key_of(name)
    if not plain or (folder != name and not re.fullmatch(rf"{re.escape(name)}~[1-9][0-9]{{0,8}}", str(folder))):
        raise Damage(f"{folder if plain else name!r} is not the name of an array")
    return str(folder)


def array_folders(attributes: Mapping[str, Any]) -> set[str]:
    """Names of all arrays that the attributes of a video refer to."""
    return {array_folder(name, described) for name, described in attributes["arrays"].items()}


__all__ = ["FailedVideo", "StoredVideo", "array_folder", "array_folders", "video_attributes"]
