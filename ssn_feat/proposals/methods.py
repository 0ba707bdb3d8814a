"""Methods of proposing: plain functions from what is known of one video to its proposals.

A method takes a :class:`VideoData` and returns intervals ``(N, 2)`` in seconds with scores ``(N,)``, or the intervals
alone, best first. Those here take options besides (``functools.partial`` fills them in); whoever has a method of their
own writes such a function and names it ``package.module:function``.
"""

from __future__ import annotations

import importlib
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from joblib import Parallel, delayed
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
    """What a method may use of one video.

    duration: seconds. actionness: logits ``(T, 2)`` of background and action or probabilities ``(T,)``, or None.
    spans: float64 ``(T, 2)``, seconds that each snippet stands for; goes with actionness and features.
    features: per stream float ``(T, D)``; empty where no store was named.
    truth: float64 ``(M, 2)``, seconds, of the annotations: for bounds such as the oracle, not for methods.
    """

    id: str
    duration: float
    actionness: NDArray[np.float32] | None = field(default=None, repr=False)
    spans: Floats | None = field(default=None, repr=False)
    features: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    truth: Floats | None = field(default=None, repr=False)


Found = tuple[ArrayLike, ArrayLike]
Method = Callable[[VideoData], Found | ArrayLike]


def sliding(video: VideoData, options: SlidingOptions | None = None, seed: int = 0) -> Found:
    """Sliding windows in random order: windows alone give no reason to prefer any."""
    rows = sliding_windows(video.duration, options)
    return rows, _generator(video.id, seed).permutation(len(rows))


def dense(video: VideoData, options: AnchorOptions | None = None, seed: int = 0) -> Found:
    """Dense anchors in random order."""
    rows = anchors(video.duration, options)
    return rows, _generator(video.id, seed).permutation(len(rows))


def uniform(video: VideoData, number: int = 1000, seed: int = 0) -> Found:
    """``number`` intervals whose two ends are uniform and independent; ranked as they are drawn."""
    rows = np.sort(_generator(video.id, seed).uniform(0.0, video.duration, (number, 2)), axis=1)
    return rows, -np.arange(number)


def oracle(video: VideoData) -> Found:
    """The truth itself: no method can have a higher recall with the same number of proposals per video."""
    rows = np.zeros((0, 2)) if video.truth is None else video.truth
    return rows, -np.arange(len(rows))


def grouped(video: VideoData, options: TagOptions | None = None) -> Found:
    """Actionness grouped (TAG). Raises UserError where the video has none."""
    values, spans = _actionness(video)
    return tag(values, spans, options)


def ranked(video: VideoData, method: Method, score: ScoreName = "contrast") -> Found:
    """The intervals of another method, ranked by actionness. Raises UserError where the video has none."""
    rows, _ = found(video, method)
    return rows, score_by_actionness(rows, *_actionness(video), score)


def _actionness(video: VideoData) -> tuple[NDArray[np.float32], Floats]:
    if video.actionness is None or video.spans is None:
        raise UserError(f"there is no actionness of video {video.id!r}")
    return video.actionness, video.spans


def _generator(id: str, seed: int) -> np.random.Generator:
    """Random numbers of one video, whatever other videos there are."""
    return np.random.default_rng([seed, zlib.crc32(id.encode())])


def found(video: VideoData, method: Method) -> tuple[Floats, Floats]:
    """What a method proposes, as arrays; intervals without scores are ranked in their order.

    Raises UserError naming the video where intervals are malformed or scores are of another number.
    """
    made = method(video)
    rows, scores = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    intervals = as_intervals(rows, f"proposals of {video.id!r}")
    values = -np.arange(len(intervals)) if scores is None else np.asarray(scores)
    if values.shape != (len(intervals),):
        raise UserError(f"video {video.id!r}: {len(intervals)} proposals need as many scores, not {values.shape}")
    return intervals, values.astype(np.float64)


def propose_each(
    method: Method,
    videos: Iterable[VideoData],
    name: str,
    parameters: Mapping[str, Any] | None = None,
    score: str = "score",
    jobs: int = 1,
) -> tuple[Proposals, float]:
    """Run ``method`` on every video, in ``jobs`` processes; proposals, and the seconds of compute that it took.

    The seconds are those inside the method, of all processes together: reading a video's data does not count.
    Raises UserError on what :func:`found` raises it.
    """
    each = Parallel(n_jobs=jobs, batch_size="auto")(delayed(_timed)(method, video) for video in videos)
    intervals = {id: rows for id, rows, _, _ in each}
    scores = {id: values for id, _, values, _ in each}
    proposals = Proposals(intervals, scores, name, dict(parameters or {}), score=score)
    return proposals, sum(seconds for *_, seconds in each)


def _timed(method: Method, video: VideoData) -> tuple[str, Floats, Floats, float]:
    started = time.perf_counter()
    rows, scores = found(video, method)
    return video.id, rows, scores, time.perf_counter() - started


def load_method(spec: str) -> Method:
    """The function behind ``package.module:function``. Raises UserError where there is none."""
    module, colon, name = spec.partition(":")
    if not (module and colon and name):
        raise UserError(f"a method of your own is named as package.module:function, not {spec!r}")
    try:
        made = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise UserError(
            f"cannot load the method {spec}: {error}; put its folder on PYTHONPATH or install its package"
        ) from None
    except AttributeError as error:
        raise UserError(f"cannot load the method {spec}: {error}") from None
    if not callable(made):
        raise UserError(f"the method {spec} is no function, but {type(made).__name__}")
    method: Method = made
    return method


__all__ = [
    "Method",
    "VideoData",
    "dense",
    "found",
    "grouped",
    "load_method",
    "oracle",
    "propose_each",
    "ranked",
    "sliding",
    "uniform",
]
