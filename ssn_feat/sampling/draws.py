"""Video-centric batches: one foreground, six incomplete and one background proposal from each video (SSN paper, 4.1).

A whole epoch is drawn at once by a NumPy generator that depends on the seed and the epoch only, so that an interrupted
epoch can be drawn again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssn_feat.heads.losses import Groups
from ssn_feat.sampling.pools import CandidatePool, CandidatePools


def epoch_generator(seed: int, epoch: int) -> np.random.Generator:
    """The generator for all draws of one epoch."""
    return np.random.default_rng([seed, epoch])


def steps_per_epoch(videos: int, multiplier: int, batch_videos: int) -> int:
    """Number of full batches in ``multiplier`` passes over the videos, at least one; an incomplete last batch is
    dropped."""
    return max(1, videos * multiplier // batch_videos)


def epoch_videos(videos: int, multiplier: int, batch_videos: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Videos of all batches of one epoch: int64 ``(steps, batch_videos)``, every pass in a new order.

    If there are fewer videos than a batch holds, they occur several times in it.
    """
    steps = steps_per_epoch(videos, multiplier, batch_videos)
    passes = -(-steps * batch_videos // videos)
    order = generator.permuted(np.tile(np.arange(videos), (passes, 1)), axis=1)
    return order.reshape(-1)[: steps * batch_videos].reshape(steps, batch_videos)


def draw(
    pool: CandidatePool, videos: NDArray[np.int64], count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """``count`` members of ``pool`` for each of ``videos`` ``(B,)``: candidate indices, int64 ``(B, count)``.

    They are drawn without repetition if the video has enough members. For a video without members they are drawn from
    the whole pool, as in the original.
    """
    first, size = pool.offsets[videos], np.diff(pool.offsets)[videos]
    empty = size == 0
    first, size = np.where(empty, 0, first), np.where(empty, len(pool), size)
    members: NDArray[np.int64] = pool.members[first[:, None] + _distinct(size, count, generator)]
    return members


def _distinct(size: NDArray[np.int64], count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """``count`` numbers below each of ``size``, without repetition if ``size`` permits: int64 ``(B, count)``.

    The j-th draw chooses among the remaining numbers: a number below ``size - j`` is increased by one for each taken
    number that is not above it, in ascending order.
    """
    enough = size >= count
    taken = np.empty((len(size), 0), dtype=np.int64)
    drawn = taken
    for j in range(count):
        value = generator.integers(0, np.where(enough, size - j, size))
        for k in range(j):
            value += enough & (value >= taken[:, k])
        drawn = np.column_stack((drawn, value))
        taken = np.sort(drawn, axis=1)
    return drawn


def epoch_candidates(
    pools: CandidatePools,
    videos: int,
    multiplier: int,
    batch_videos: int,
    groups: Groups,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """Candidates of all batches of one epoch: int64 ``(steps, batch_videos, groups.size)``.

    The proposals of a video are in the order of ``groups``: foreground, incomplete, background.
    """
    order = epoch_videos(videos, multiplier, batch_videos, generator)
    kinds = (
        (pools.foreground, groups.foreground),
        (pools.incomplete, groups.incomplete),
        (pools.background, groups.background),
    )
    drawn = [draw(pool, order.reshape(-1), count, generator) for pool, count in kinds]
    return np.concatenate(drawn, axis=1).reshape(*order.shape, groups.size)


__all__ = ["draw", "epoch_candidates", "epoch_generator", "epoch_videos", "steps_per_epoch"]
