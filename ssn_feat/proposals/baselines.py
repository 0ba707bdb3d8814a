"""Proposals that need no learning: what others are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.cli import to_dict
from ssn_feat.errors import UserError
from ssn_feat.proposals.anchors import AnchorOptions
from ssn_feat.proposals.collection import Proposals
from ssn_feat.proposals.methods import Method, VideoData, dense, oracle, propose_each, sliding, uniform
from ssn_feat.proposals.sliding import SlidingOptions


def sliding_proposals(
    durations: Mapping[str, float], options: SlidingOptions | None = None, seed: int = 0
) -> Proposals:
    """Sliding windows over every video (seconds by id), in random order: windows alone give no reason to prefer any.

    ``seed`` and the id decide a video's order, whatever other videos there are. To rank windows by actionness, see
    :meth:`Proposals.rescored`.
    """
    options = options or SlidingOptions()
    method = partial(sliding, options=options, seed=seed)
    return _at_random(method, durations, "sliding", {**to_dict(options), "seed": seed})


def anchor_proposals(durations: Mapping[str, float], options: AnchorOptions | None = None, seed: int = 0) -> Proposals:
    """Dense anchors over every video (seconds by id), in random order like :func:`sliding_proposals`."""
    options = options or AnchorOptions()
    method = partial(dense, options=options, seed=seed)
    return _at_random(method, durations, "anchors", {**to_dict(options), "seed": seed})


def random_proposals(durations: Mapping[str, float], number: int = 1000, seed: int = 0) -> Proposals:
    """``number`` intervals in every video whose two ends are uniform and independent; ranked as they are drawn.

    Raises UserError where ``number`` is less than 1.
    """
    if number < 1:
        raise UserError(f"at least 1 random proposal per video is needed, not {number}")
    method = partial(uniform, number=number, seed=seed)
    return _at_random(method, durations, "random", {"number": number, "seed": seed})


def _at_random(
    method: Method, durations: Mapping[str, float], name: str, parameters: Mapping[str, object]
) -> Proposals:
    videos = (VideoData(id, duration) for id, duration in durations.items())
    return propose_each(method, videos, name, parameters, score="random")[0]


def oracle_proposals(dataset: Dataset) -> Proposals:
    """The truth itself: no method can have a higher recall with the same number of proposals per video."""
    videos = (VideoData(video.id, video.duration, truth=video.intervals()) for video in dataset.videos.values())
    return propose_each(oracle, videos, "oracle", score="order")[0]


__all__ = ["anchor_proposals", "oracle_proposals", "random_proposals", "sliding_proposals"]
