"""Proposals that need no learning: what others are compared with."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.cli import to_dict
from ssn_feat.errors import UserError
from ssn_feat.proposals.collection import Proposals
from ssn_feat.proposals.sliding import SlidingOptions, sliding_windows


def sliding_proposals(
    durations: Mapping[str, float], options: SlidingOptions | None = None, seed: int = 0
) -> Proposals:
    """Sliding windows over every video (seconds by id), in random order: windows alone give no reason to prefer any.

    ``seed`` and the id decide a video's order, whatever other videos there are. To rank windows by actionness, see
    :meth:`Proposals.rescored`.
    """
    options = options or SlidingOptions()
    intervals = {id: sliding_windows(duration, options) for id, duration in durations.items()}
    scores = {id: _generator(id, seed).permutation(len(rows)).astype(np.float64) for id, rows in intervals.items()}
    return Proposals(intervals, scores, "sliding", {**to_dict(options), "seed": seed}, score="random")


def random_proposals(durations: Mapping[str, float], number: int = 1000, seed: int = 0) -> Proposals:
    """``number`` intervals in every video whose two ends are uniform and independent; ranked as they are drawn.

    Raises UserError where ``number`` is less than 1.
    """
    if number < 1:
        raise UserError(f"at least 1 random proposal per video is needed, not {number}")
    intervals = {
        id: np.sort(_generator(id, seed).uniform(0.0, duration, (number, 2)), axis=1)
        for id, duration in durations.items()
    }
    scores = {id: -np.arange(number, dtype=np.float64) for id in intervals}
    return Proposals(intervals, scores, "random", {"number": number, "seed": seed}, score="random")


def oracle_proposals(dataset: Dataset) -> Proposals:
    """The truth itself: no method can have a higher recall with the same number of proposals per video."""
    intervals = {id: video.intervals() for id, video in dataset.videos.items()}
    scores = {id: -np.arange(len(rows), dtype=np.float64) for id, rows in intervals.items()}
    return Proposals(intervals, scores, "oracle", score="order")


def _generator(id: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(id.encode())])


__all__ = ["oracle_proposals", "random_proposals", "sliding_proposals"]
