"""Pools of proposals: the reference's counts, indices, targets and statistics; the default in seconds; faults."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from numpy.typing import NDArray

from ssn_feat.annotations.dataset import Dataset, Instance, Video
from ssn_feat.errors import UserError
from ssn_feat.heads.losses import Groups
from ssn_feat.intervals import tiou
from ssn_feat.proposals.ssn_lists import ListedVideo, read_listed_videos
from ssn_feat.sampling.pools import (
    Candidates,
    PoolOptions,
    candidates_of,
    make_pools,
    random_windows,
    regression_targets,
    target_stats,
)

ACTIVITYNET = PoolOptions(incomplete_overlap=0.7)
THUMOS = PoolOptions()


def original_targets(proposals: NDArray[np.float64], matched: NDArray[np.float64]) -> NDArray[np.float64]:
    """Regression targets whose lengths count one frame more: the original's decoder does not undo that."""
    length = proposals[:, 1] - proposals[:, 0] + 1.0
    shift = (matched.sum(axis=1) / 2 - proposals.sum(axis=1) / 2) / length
    return np.stack((shift, np.log((matched[:, 1] - matched[:, 0] + 1.0) / length)), axis=1)


def original_candidates(listed: ListedVideo) -> Candidates | None:
    """Candidates of one video of an SSN proposal list, in that code's frame convention.

    Intervals of the result are frames. Gives None for a video without a valid instance, which the original leaves out.

    Kept from the original: those without length or starting after the last frame are dropped; ends are cut to the frame
    count but coverage is computed from the uncut ends; tIoU and overlap are the rounded ones of the list; lengths in
    regression targets count one frame more.
    """
    truth, own = (
        rows[(rows[:, -1] > rows[:, -2]) & (rows[:, -2] < listed.frames)] for rows in (listed.truth, listed.proposals)
    )
    if not len(truth):
        return None
    uncut = np.concatenate((own[:, -2:], truth[:, -2:])).astype(np.float64)
    intervals = np.minimum(uncut, listed.frames)
    n, m = len(own), len(truth)
    match = tiou(intervals, intervals[n:]).argmax(axis=1)
    return Candidates(
        ids=(listed.id,),
        video=np.zeros(n + m, dtype=np.int64),
        intervals=intervals,
        labels=np.concatenate((own[:, 0], truth[:, 0])).astype(np.int64) - 1,
        tiou=np.concatenate((own[:, 1], np.ones(m))),
        overlap=np.concatenate((own[:, 2], np.ones(m))),
        coverage=(uncut[:, 1] - uncut[:, 0]) / listed.frames,
        truth=np.arange(n + m) >= n,
        targets=original_targets(intervals, intervals[n:][match]),
    )


@pytest.fixture(scope="module")
def activitynet(golden, tmp_path_factory):
    path = tmp_path_factory.mktemp("list") / "list.txt"
    path.write_bytes(gzip.decompress(golden("anet_val_proposal_list.txt.gz").read_bytes()))
    return Candidates.concatenate([c for v in read_listed_videos(path) if (c := original_candidates(v)) is not None])


@pytest.mark.parametrize(("name", "options"), [("anet", ACTIVITYNET), ("thumos", THUMOS)])
def test_pools_of_a_real_list_are_the_reference_ones(golden, activitynet, name, options):
    reference, c = golden("anet_dataset_parse.npz"), activitynet
    pools = make_pools(c, options)
    assert list(c.ids) == reference[f"{name}/video_id"].tolist()
    first = np.searchsorted(c.video, np.arange(len(c.ids)))

    def in_video(pool):
        return pool.members - first[c.video[pool.members]]

    for pool in (pools.incomplete, pools.background):
        np.testing.assert_array_equal(in_video(pool), reference[f"{name}/{pool.name}_index"])
        np.testing.assert_array_equal(pool.offsets, reference[f"{name}/{pool.name}_off"])
    members = pools.foreground.members
    np.testing.assert_array_equal(np.where(c.truth[members], -1, in_video(pools.foreground)), reference["fg_index"])
    np.testing.assert_array_equal(pools.foreground.offsets, reference["fg_off"])
    np.testing.assert_allclose(c.targets[members], reference["fg_reg_targets"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(pools.target_stats, reference[f"{name}/stats"], rtol=0, atol=1e-9)
    rows = np.column_stack((c.labels + 1, c.intervals))
    np.testing.assert_array_equal(rows[~c.truth], reference["proposals"])
    np.testing.assert_array_equal(rows[c.truth], reference["gt"])


@pytest.mark.parametrize(("name", "options"), [("activitynet1.2", ACTIVITYNET), ("thumos14", THUMOS)])
def test_pools_of_edge_cases_are_the_reference_ones(golden, name, options):
    raw = golden("edge_proposal_list.json")
    reference = raw[name]
    listed = [
        ListedVideo(name, frames, np.array(truth, dtype=int).reshape(-1, 3), np.array(own, dtype=float).reshape(-1, 5))
        for name, frames, truth, own in raw["load_proposal_file"]
    ]
    made = [original_candidates(video) for video in listed]
    c = Candidates.concatenate([part for part in made if part is not None])
    pools = make_pools(c, options)
    rows = np.column_stack((c.labels + 1, c.intervals))
    assert list(c.ids) == [video["id"] for video in reference["videos"]]
    for v, video in enumerate(reference["videos"]):
        np.testing.assert_allclose(c.coverage[(c.video == v) & ~c.truth], video["coverage"], rtol=0, atol=1e-12)
        for pool, key in ((pools.foreground, "fg"), (pools.incomplete, "incomplete"), (pools.background, "background")):
            members = pool.members[pool.offsets[v] : pool.offsets[v + 1]]
            np.testing.assert_array_equal(rows[members], np.array(video[key]).reshape(-1, 3))
            if key == "fg":
                np.testing.assert_allclose(c.targets[members], video["fg_reg"], rtol=0, atol=1e-12)
    assert [len(p) for p in (pools.foreground, pools.incomplete, pools.background)] == [
        reference[key] for key in ("fg_pool", "incomp_pool", "bg_pool")
    ]
    np.testing.assert_allclose(pools.target_stats, reference["stats"], rtol=0, atol=1e-12)


def toy(*videos: Video) -> Dataset:
    return Dataset.of("toy", videos, ["jump", "run"])


def test_default_pools_by_hand():
    dataset = toy(
        Video("a", 100.0, "training", (Instance("run", 10.0, 30.0), Instance("jump", 50.0, 60.0))),
        Video("b", 50.0, "training"),
    )
    proposals = {
        "a": np.array(
            [[11.0, 29.0], [10.0, 12.0], [70.0, 90.0], [70.0, 71.0], [10.0, 24.0], [48.0, 59.0], [-9.0, -1.0]]
        ),
        "b": np.array([[0.0, 60.0]]),
    }
    c = candidates_of(dataset, proposals, {"a": 100.0, "b": 50.0})
    assert c.ids == ("a", "b")
    np.testing.assert_array_equal(c.video, [0] * 8 + [1])
    np.testing.assert_array_equal(c.labels, [1, 1, -1, -1, 1, 0, 1, 0, -1])
    np.testing.assert_allclose(c.tiou, [0.9, 0.1, 0, 0, 0.7, 9 / 12, 1, 1, 0])
    np.testing.assert_allclose(c.overlap, [1, 1, 0, 0, 1, 9 / 11, 1, 1, 0])
    np.testing.assert_allclose(c.intervals[-1], [0, 50])
    pools = make_pools(c, THUMOS)
    np.testing.assert_array_equal(pools.foreground.members, [0, 5, 6, 7])  # tIoU of exactly .7 is not above it
    np.testing.assert_array_equal(pools.incomplete.members, [1])
    np.testing.assert_array_equal(pools.background.members, [2, 8])
    np.testing.assert_array_equal(pools.background.offsets, [0, 1, 2])
    np.testing.assert_allclose(c.targets[0], [0, np.log(20 / 18)])
    np.testing.assert_allclose(c.targets[5], [1.5 / 11, np.log(10 / 11)])
    np.testing.assert_allclose(pools.target_stats[0], c.targets[[0, 5]].mean(axis=0))
    np.testing.assert_allclose(pools.target_stats[1], c.targets[[0, 5]].std(axis=0))


def test_targets_undo_what_the_decoder_does():
    generator = np.random.default_rng(0)
    starts, lengths = generator.uniform(0, 50, (2, 40)), generator.uniform(1, 20, (2, 40))
    proposals, truth = (np.stack((s, s + n), axis=1) for s, n in zip(starts, lengths, strict=True))
    shift, ratio = regression_targets(proposals, truth).T
    length = proposals[:, 1] - proposals[:, 0]
    centre, new = proposals.mean(axis=1) + shift * length, length * np.exp(ratio)
    np.testing.assert_allclose(np.stack((centre - new / 2, centre + new / 2), axis=1), truth)


def test_statistics_without_variation_normalise_nothing():
    np.testing.assert_array_equal(target_stats(np.zeros((0, 2))), [[0, 0], [1, 1]])
    np.testing.assert_array_equal(target_stats(np.array([[0.5, 2.0]])), [[0.5, 2], [1, 1]])


def test_random_windows_lie_inside_their_video_with_lengths_like_instances():
    dataset = toy(Video("a", 100.0, "training", (Instance("run", 10.0, 14.0),)), Video("b", 3.0, "training"))
    drawn = random_windows(dataset, {"a": 100.0, "b": 3.0}, 500, np.random.default_rng(0))
    for name, duration in (("a", 100.0), ("b", 3.0)):
        start, end = drawn[name].T
        assert ((start >= 0) & (end <= duration + 1e-9)).all()
        assert ((end - start >= 2 - 1e-9) & (end - start <= min(8, duration) + 1e-9)).all()
    assert np.ptp(drawn["a"][:, 0]) > 80


BASE = toy(Video("a", 100.0, "training", (Instance("run", 10.0, 30.0),)))
DURATION = {"a": 100.0}
GOOD = np.array([[11.0, 29.0], [12.0, 14.0], [70.0, 90.0]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (PoolOptions(foreground_tiou=0.95, truth_as_foreground=False), r"tIoU 0\.900, foreground_tiou is 0\.95"),
        (PoolOptions(incomplete_tiou=0.0), r"no incomplete proposals: none of 3 .* incomplete_tiou 0: raise"),
        (PoolOptions(incomplete_overlap=1.0), r"2 of 3 .* none exceeds incomplete_overlap 1: lower"),
        (PoolOptions(background_tiou=0.0), r"no background proposals: none of 3 .* background_tiou 0: raise"),
        (PoolOptions(background_coverage=0.5), r"1 of 3 .* none exceeds background_coverage 0\.5: lower"),
    ],
)
def test_an_empty_pool_says_which_threshold_did_it(options, message):
    c = candidates_of(BASE, {"a": GOOD}, DURATION)
    make_pools(c, THUMOS)
    with pytest.raises(UserError, match=message):
        make_pools(c, options)


def test_a_pool_that_is_not_drawn_from_may_be_empty():
    c = candidates_of(BASE, {"a": GOOD}, DURATION)
    pools = make_pools(c, PoolOptions(background_coverage=0.5), Groups(background=0))
    assert len(pools.background) == 0


def test_no_proposal_at_all_is_said():
    with pytest.raises(UserError, match="none of the 1 video has any proposal"):
        make_pools(candidates_of(BASE, {"a": np.zeros((0, 2))}, DURATION), THUMOS)


def test_thresholds_out_of_range_are_refused():
    with pytest.raises(UserError, match=r"background_coverage must be within 0\.\.1, not 2"):
        PoolOptions(background_coverage=2)
