"""Proposal methods: functions from the data of one video to its proposals.

A method takes a :class:`VideoData` and returns intervals ``(N, 2)`` in seconds with scores ``(N,)``, or only the
intervals, best first. The methods here also take options, which ``functools.partial`` fills in. A user's own method is
such a function, named as ``package.module:function``.
"""

from __future__ import annotations

import importlib
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError
from ssn_feat.intervals import as_intervals
from ssn_feat.proposals.actionness import ScoreName, score_by_actionness
from ssn_feat.proposals.anchors import AnchorOptions, anchors
from ssn_feat.proposals.collection import Proposals
from ssn_feat.proposals.sliding import SlidingOptions, sliding_windows
from ssn_feat.proposals.tag import TagOptions, tag

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class VideoData:
    """The data of one video that a method may use.

    duration: seconds. actionness: logits ``(T, 2)`` of background and action or probabilities ``(T,)``, or None.
    spans: float64 ``(T, 2)``, start and end of each snippet in seconds; given with actionness or features.
    features: per stream float ``(T, D)``; empty without a store.
    truth: float64 ``(M, 2)``, seconds, annotated instances; for bounds such as the oracle, not for real methods.
    """

    id: str
    duration: float
    actionness: NDArray[np.float32] | None = field(default=None, repr=False)
    spans: Floats | None = field(default=None, repr=False)
    features: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    truth: Floats | None = field(default=None, repr=False)


Proposed = tuple[ArrayLike, ArrayLike]
Method = Callable[[VideoData], Proposed | ArrayLike]


def sliding(video: VideoData, options: SlidingOptions | None = None, seed: int = 0) -> Proposed:
    """Sliding windows in random order, since windows alone cannot be ranked."""
    rows = sliding_windows(video.duration, options)
    return rows, _generator(video.id, seed).permutation(len(rows))


def dense(video: VideoData, options: AnchorOptions | None = None, seed: int = 0) -> Proposed:
    """Dense anchors in random order."""
    rows = anchors(video.duration, options)
    return rows, _generator(video.id, seed).permutation(len(rows))


def uniform(video: VideoData, number: int = 1000, seed: int = 0) -> Proposed:
    """``number`` intervals with two independent uniform ends, ranked in the order in which they are drawn."""
    rows = np.sort(_generator(video.id, seed).uniform(0.0, video.duration, (number, 2)), axis=1)
    return rows, -np.arange(number)


def oracle(video: VideoData) -> Proposed:
    """The annotated instances: the highest recall with this number of proposals per video."""
    rows = np.zeros((0, 2)) if video.truth is None else video.truth
    return rows, -np.arange(len(rows))


def grouped(video: VideoData, options: TagOptions | None = None) -> Proposed:
    """Groups of actionness (TAG). Raises UserError if the video has no actionness."""
    values, spans = _actionness(video)
    return tag(values, spans, options)


def ranked(video: VideoData, method: Method, score: ScoreName = "contrast") -> Proposed:
    """The intervals of another method, ranked by actionness. Raises UserError if the video has no actionness."""
    rows, _ = run_method(video, method)
    return rows, score_by_actionness(rows, *_actionness(video), score)


def _actionness(video: VideoData) -> tuple[NDArray[np.float32], Floats]:
    if video.actionness is None or video.spans is None:
        raise UserError(f"there is no actionness of video {video.id!r}")
    return video.actionness, video.spans


def _generator(id: str, seed: int) -> np.random.Generator:
    """A random generator that depends on the seed and the id only, not on other videos."""
    return np.random.default_rng([seed, zlib.crc32(id.encode())])


def run_method(video: VideoData, method: Method) -> tuple[Floats, Floats]:
    """Intervals ``(N, 2)`` and scores ``(N,)`` that a method proposes; intervals without scores keep their order.

    Raises UserError, naming the video, on malformed intervals and on another number of scores.
    """
    proposed = method(video)
    rows, scores = proposed if isinstance(proposed, tuple) and len(proposed) == 2 else (proposed, None)
    intervals = as_intervals(rows, f"proposals of {video.id!r}")
    values = -np.arange(len(intervals)) if scores is None else np.asarray(scores)
    if values.shape != (len(intervals),):
        raise UserError(f"video {video.id!r} has {len(intervals)} proposals, but scores of shape {values.shape}")
    return intervals, values.astype(np.float64)


def propose_each(
    method: Method,
    videos: Iterable[VideoData],
    name: str,
    parameters: Mapping[str, Any] | None = None,
    score: str = "score",
    jobs: int = 1,
) -> tuple[Proposals, float]:
    """Run ``method`` on every video in ``jobs`` processes; returns the proposals and the seconds of compute.

    The seconds are the time inside the method, summed over all processes; reading the data does not count.
    Raises UserError as :func:`run_method`.
    """
    from joblib import Parallel, delayed  # slow to import, and options do not need it

    each = Parallel(n_jobs=jobs, batch_size="auto")(delayed(_timed)(method, video) for video in videos)
    intervals = {id: rows for id, _, rows, _, _ in each}
    durations = {id: duration for id, duration, _, _, _ in each}
    scores = {id: values for id, _, _, values, _ in each}
    proposals = Proposals(intervals, scores, name, dict(parameters or {}), score=score, durations=durations)
    return proposals, sum(seconds for *_, seconds in each)


def _timed(method: Method, video: VideoData) -> tuple[str, float, Floats, Floats, float]:
    started = time.perf_counter()
    rows, scores = run_method(video, method)
    return video.id, video.duration, rows, scores, time.perf_counter() - started


def load_method(spec: str) -> Method:
    """The function named ``package.module:function``. Raises UserError if it cannot be imported."""
    module, colon, name = spec.partition(":")
    if not (module and colon and name):
        raise UserError(f"name your own method as package.module:function, not {spec!r}")
    try:
        function = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise UserError(
            f"cannot load the method {spec}: {error}; put its folder on PYTHONPATH or install its package"
        ) from None
    except AttributeError as error:
        raise UserError(f"cannot load the method {spec}: {error}") from None
    if not callable(function):
        raise UserError(f"the method {spec} is not a function but {type(function).__name__}")
    method: Method = function
    return method


__all__ = [
    "Method",
    "VideoData",
    "dense",
    "grouped",
    "load_method",
    "oracle",
    "propose_each",
    "ranked",
    "run_method",
    "sliding",
    "uniform",
]
