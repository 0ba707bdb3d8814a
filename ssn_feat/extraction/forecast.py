"""Predicts how long an extraction takes by timing a few snippets of its first videos."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import joblib

from ssn_feat.backbones import Backbone
from ssn_feat.errors import UserError
from ssn_feat.extraction.extract_options import ExtractOptions
from ssn_feat.extraction.extract_video import Feeder
from ssn_feat.extraction.worker_threads import limited_threads
from ssn_feat.video import ResolvedSnippets, snippets

_VIDEOS = 3  # tried at most, since the first ones may be damaged
_ROWS = 4


def predicted_rate(
    options: ExtractOptions, backbones: Mapping[str, Backbone], cut: ResolvedSnippets, videos: Mapping[str, Path]
) -> float | None:
    """Predicted snippets per second of a run; None for dask and where the networks are not loaded on their device.

    Times the second batch of the first video that has two, and assumes that processes do not slow each other down.
    Accurate within a factor of about two.
    """
    loaded = all(backbone.device.type == options.device[0].partition(":")[0] for backbone in backbones.values())
    if options.dask or not loaded:
        return None
    for path in list(videos.values())[:_VIDEOS]:
        try:
            with limited_threads(max(1, joblib.cpu_count() // max(options.jobs, 2))):
                seconds = _seconds_of_a_batch(path, options, backbones, cut)
        except UserError:  # reported when the video is extracted
            continue
        if seconds is not None:
            return options.jobs * _ROWS / seconds
    return None


def _seconds_of_a_batch(
    path: Path, options: ExtractOptions, backbones: Mapping[str, Backbone], cut: ResolvedSnippets
) -> float | None:
    """Seconds for the second batch of a video, all stages in sequence; None if the video has only one batch."""
    device = next(iter(backbones.values())).device
    feeders = {stream: Feeder(backbone, options.keep_crops) for stream, backbone in backbones.items()}
    with closing(snippets(path, cut, _ROWS, device, options.fps, options.names)) as batches:
        for number in range(2):
            started = time.perf_counter()
            batch = next(batches, None)
            if batch is None or len(batch) < _ROWS:
                return None
            for stream, pixels in batch.streams.items():
                feeders[stream](pixels)
            if number:
                return time.perf_counter() - started
    return None


__all__ = ["predicted_rate"]
