"""Video-centric sampling: what is drawn, how often, and that a seed decides it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_feat.heads.losses import Groups
from ssn_feat.sampling.draws import draw, epoch_candidates, epoch_generator, epoch_videos, steps_per_epoch
from ssn_feat.sampling.pools import CandidatePool, CandidatePools


def pool(name: str, counts: list[int], first: int = 0) -> CandidatePool:
    offsets = np.concatenate(([0], np.cumsum(counts)))
    return CandidatePool(name, np.arange(first, first + offsets[-1]), offsets)


def pools() -> CandidatePools:
    return CandidatePools(
        pool("foreground", [2, 0, 5, 1], 0),
        pool("incomplete", [20, 3, 6, 0], 100),
        pool("background", [1, 1, 0, 4], 200),
        np.array([[0.0, 0.0], [1.0, 1.0]]),
    )


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(0, 7), st.integers(0, 1000))
def test_draws_are_of_the_video_and_distinct_where_possible(counts, wanted, seed):
    if not sum(counts):
        counts[0] = 1
    source = pool("any", counts)
    videos = np.repeat(np.arange(len(counts)), 3)
    drawn = draw(source, videos, wanted, np.random.default_rng(seed))
    assert drawn.shape == (len(videos), wanted)
    for video, row in zip(videos, drawn, strict=True):
        own = counts[video] or sum(counts)
        allowed = range(source.offsets[video], source.offsets[video + 1]) if counts[video] else range(sum(counts))
        assert set(row) <= set(allowed)
        if own >= wanted:
            assert len(set(row)) == wanted


@pytest.mark.parametrize("size", [6, 7, 20])
def test_every_member_is_equally_likely_at_every_place(size):
    n = 30_000
    drawn = draw(pool("any", [size]), np.zeros(n, dtype=np.int64), 6, np.random.default_rng(0))
    for place in drawn.T:
        share = np.bincount(place, minlength=size) / n
        np.testing.assert_allclose(share, 1 / size, atol=5 * np.sqrt(1 / size / n))


def test_pairs_of_members_are_equally_likely():
    n = 40_000
    drawn = draw(pool("any", [4]), np.zeros(n, dtype=np.int64), 2, np.random.default_rng(3))
    share = np.bincount(drawn @ np.array([4, 1]), minlength=16).reshape(4, 4) / n
    np.testing.assert_allclose(share, (1 - np.eye(4)) / 12, atol=0.01)


def test_a_batch_holds_the_groups_of_each_video_in_order():
    chosen = epoch_candidates(pools(), 4, 10, 4, Groups(), epoch_generator(0, 0))
    assert chosen.shape == (10, 4, 8)
    assert (chosen[..., 0] < 8).all()
    assert ((chosen[..., 1:7] >= 100) & (chosen[..., 1:7] < 129)).all()
    assert (chosen[..., 7] >= 200).all()
    fewer = epoch_candidates(pools(), 4, 10, 4, Groups(2, 3, 0), epoch_generator(0, 0))
    assert fewer.shape == (10, 4, 5)


def test_epochs_differ_and_repeat_by_seed():
    def epoch(seed, number):
        return epoch_candidates(pools(), 4, 10, 4, Groups(), epoch_generator(seed, number))

    np.testing.assert_array_equal(epoch(0, 3), epoch(0, 3))
    assert (epoch(0, 3) != epoch(0, 4)).any()
    assert (epoch(0, 3) != epoch(1, 3)).any()


def test_each_pass_visits_every_video_once():
    order = epoch_videos(200, 10, 16, epoch_generator(0, 0))
    assert order.shape == (125, 16)
    for one in order.reshape(10, 200):
        assert sorted(one) == list(range(200))


def test_an_incomplete_last_batch_is_left_out_but_one_batch_is_always_made():
    assert steps_per_epoch(200, 10, 16) == 125
    assert steps_per_epoch(10, 1, 4) == 2
    assert steps_per_epoch(3, 1, 16) == 1
    order = epoch_videos(3, 1, 16, epoch_generator(0, 0))
    assert order.shape == (1, 16)
    assert (np.bincount(order.ravel(), minlength=3) >= 5).all()
