"""The durations in a store, for comparison with annotations, proposals and results."""

from __future__ import annotations

from collections.abc import Iterable

from ssn_feat.annotations.joining import VideoTimes
from ssn_feat.store.reading import StoreReader


def times_of_store(store: StoreReader, ids: Iterable[str]) -> VideoTimes:
    """Durations and frame rates of the videos ``ids``, without reading arrays. Ids that ``store`` lacks are ignored."""
    stored = set(store.ids)
    ids = [video for video in ids if video in stored]
    attributes = dict(zip(ids, store.map(store.attributes, ids), strict=True))
    rates = {video: float(each["fps"]) for video, each in attributes.items() if each.get("fps")}
    durations = {video: float(each["duration"]) for video, each in attributes.items()}
    return VideoTimes(f"the store {store.path}", durations, rates=rates)


__all__ = ["times_of_store"]
