"""How long an extraction will take: a few snippets of its first videos, timed beforehand."""

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
from ssn_feat.extraction.worker_threads import threads
from ssn_feat.video import SnippetOptions, snippets

_TRIED = 3  # videos, of which the first may be bad
_ROWS = 4


def predicted_rate(
    options: ExtractOptions, backbones: Mapping[str, Backbone], cut: SnippetOptions, videos: Mapping[str, Path]
) -> float | None:
    """Snippets a second of a run; None where it cannot be told beforehand: on dask, or networks that are elsewhere.

    Times a batch of the first video that is long enough, after another one to warm up, and counts on processes not
    standing in each other's way. Right within a factor of two or so.
    """
    here = all(backbone.device.type == options.device[0].partition(":")[0] for backbone in backbones.values())
    if options.dask or not here:
        return None
    for path in list(videos.values())[:_TRIED]:
        try:
            with threads(max(1, joblib.cpu_count() // max(options.jobs, 2))):
                seconds = _seconds_of_a_batch(path, options, backbones, cut)
        except UserError:  # it will be reported when its turn comes
            continue
        if seconds is not None:
            return options.jobs * _ROWS / seconds
    return None


def _seconds_of_a_batch(
    path: Path, options: ExtractOptions, backbones: Mapping[str, Backbone], cut: SnippetOptions
) -> float | None:
    """Seconds of the second batch of a video, all stages one after the other; None where there is none."""
    device = next(iter(backbones.values())).device
    feeders = {stream: Feeder(backbone, options.keep_crops) for stream, backbone in backbones.items()}
    with closing(snippets(path, cut, _ROWS, device, options.fps)) as batches:
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
