"""Stages of augmented proposals: reference ticks, hand-computed cases, invariances."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.heads.stages import inside, row_ranges, stage_rows, stages


def original_ticks(
    frames: NDArray[np.int64],
    frame_count: int,
    interval: int = 6,
    stack: int = 1,
    augmentation: tuple[float, float] = (0.5, 0.5),
) -> tuple[NDArray[np.int64], NDArray[np.float64], int]:
    """Ticks, scaling and number of samples as the original's test code computes them, to the last bit.

    ``frames``: integers ``(N, 2)``, first and one past the last frame of each proposal; ``interval``: frames between
    two samples; ``stack``: frames that a sample reads (5 for flow: the last start is left out as in the original).
    Gives int64 ``(N, 4)``, float64 ``(N, 2)`` and the number of samples of the video, which is 0 for a video of at most
    ``stack`` frames. The truncation of ticks depends on the order of the operations, and scaling may exceed 1 by a
    rounding error: for scores that must equal the original's. Everything else uses :func:`stages`.
    """
    relative = np.asarray(frames, dtype=np.float64).reshape(-1, 2) / frame_count
    length = relative[:, 1] - relative[:, 0]
    before, after = length * augmentation[0], length * augmentation[1]
    first = np.maximum(0.0, relative[:, 0] - before)
    last = np.minimum(1.0, relative[:, 1] + after)
    scaling = np.stack(((relative[:, 0] - first) / before, (last - relative[:, 1]) / after), axis=1)
    samples = max(0, -(-(frame_count - stack) // interval))
    positions = np.stack((first, relative[:, 0], relative[:, 1], last), axis=1)
    return (positions * samples).astype(np.int64), scaling, samples


def grid(rows: int, duration: float) -> np.ndarray:
    edges = np.linspace(0, duration, rows + 1)
    return np.stack((edges[:-1], edges[1:]), axis=1)


@pytest.mark.parametrize(("name", "stack"), [("len1", 1), ("len5", 5)])
def test_ticks_and_scaling_are_the_reference_ones(golden, name, stack):
    reference, parsed = golden("anet_test_data.npz"), golden("anet_dataset_parse.npz")
    offsets = reference["offsets"]
    for v, (begin, end) in enumerate(pairwise(offsets)):
        frames = parsed["proposals"][begin:end, 1:]
        ticks, scaling, samples = original_ticks(frames, int(reference["n_frames"][v]), stack=stack)
        assert samples == reference[f"{name}/n_sampled"][v]
        np.testing.assert_array_equal(ticks, reference[f"{name}/ticks"][begin:end])
        np.testing.assert_allclose(scaling, reference["scaling"][begin:end], rtol=0, atol=1e-12)


@pytest.mark.parametrize("setting", [(1, 6), (1, 5), (5, 6), (5, 5)])
def test_ticks_of_edge_cases(golden, setting):
    reference = golden("edge_proposal_list.json")
    stack, interval = setting
    frames = {v["id"]: (v["num_frames"], v["proposals"]) for v in reference["thumos14"]["videos"]}
    for case in reference["test_data"][f"new_length={stack},interval={interval}"]:
        count, proposals = frames[case["id"]]
        intervals = np.array([p[1:] for p in proposals] or [[0, count - 1]])
        ticks, scaling, samples = original_ticks(intervals, count, interval, stack)
        assert samples == case["n_sampled"]
        np.testing.assert_array_equal(ticks, case["ticks"])
        np.testing.assert_allclose(scaling, case["scaling"], rtol=0, atol=1e-12)


def test_by_hand():
    result = stages(np.array([[10.0, 14.0], [0.0, 4.0], [1.0, 5.0], [18.0, 20.0], [0.0, 20.0], [-3.0, 2.0]]), 20.0)
    np.testing.assert_allclose(
        result.boundaries,
        [[8, 10, 14, 16], [0, 0, 4, 6], [0, 1, 5, 7], [17, 18, 20, 20], [0, 0, 20, 20], [0, 0, 2, 3]],
    )
    np.testing.assert_allclose(result.scaling, [[1, 1], [0, 1], [0.5, 1], [1, 0], [0, 0], [0, 1]])
    rows = row_ranges(grid(20, 20.0), result)
    np.testing.assert_array_equal(
        rows, [[8, 10, 14, 16], [0, 0, 4, 6], [0, 1, 5, 7], [17, 18, 20, 20], [0, 0, 20, 20], [0, 0, 2, 3]]
    )
    first, count = stage_rows(rows, 20)
    np.testing.assert_array_equal(first[:2], [[8, 10, 14], [0, 0, 4]])
    np.testing.assert_array_equal(count[:2], [[2, 4, 2], [1, 4, 2]])
    np.testing.assert_array_equal((first[3], count[3]), [[17, 18, 19], [1, 2, 1]])


def test_short_proposals_take_the_row_that_holds_them_and_its_neighbours():
    short = stages(np.array([[5.6, 5.8], [5.4, 5.6], [0.1, 0.2]]), 20.0)
    np.testing.assert_array_equal(row_ranges(grid(20, 20.0), short), [[4, 5, 6, 7], [4, 5, 6, 7], [0, 0, 1, 2]])


def test_a_video_of_one_row_gives_that_row_to_every_stage():
    first, count = stage_rows(row_ranges(np.array([[0.0, 3.0]]), stages(np.array([[0.5, 1.0], [0.0, 3.0]]), 3.0)), 1)
    np.testing.assert_array_equal(first, 0)
    np.testing.assert_array_equal(count, 1)


def test_flanks_may_differ_or_be_absent():
    result = stages(np.array([[10.0, 14.0]]), 20.0, augmentation=(1.0, 0.0))
    np.testing.assert_allclose(result.boundaries, [[6, 10, 14, 14]])
    np.testing.assert_allclose(result.scaling, [[1, 0]])


def test_durations_may_differ_by_proposal():
    result = stages(np.array([[1.0, 3.0], [1.0, 3.0]]), np.array([3.5, 10.0]))
    np.testing.assert_allclose(result.scaling, [[1, 0.5], [1, 1]])


def test_no_proposals():
    result = stages(np.zeros((0, 2)), 5.0)
    assert row_ranges(grid(3, 5.0), result).shape == (0, 4)


def test_a_proposal_outside_its_video_is_refused():
    with pytest.raises(UserError, match=r"1 of 2 proposals .* 12\.000-14\.000 s in a video of 10\.000 s"):
        stages(np.array([[1.0, 2.0], [12.0, 14.0]]), 10.0)
    np.testing.assert_array_equal(inside(np.array([[1.0, 2.0], [10.0, 14.0], [3.0, 3.0]]), 10.0), [True, False, False])


intervals = st.tuples(st.floats(0, 99), st.floats(0.01, 60)).map(lambda x: (x[0], x[0] + x[1]))


@given(st.lists(intervals, min_size=1, max_size=20), st.integers(1, 300), st.floats(99.5, 130))
def test_every_stage_has_rows_in_order_inside_the_video(proposals, rows, duration):
    result = stages(np.array(proposals), duration)
    assert (np.diff(result.boundaries, axis=1) >= 0).all()
    assert ((result.scaling >= 0) & (result.scaling <= 1)).all()
    ranges = row_ranges(grid(rows, duration), result)
    assert (np.diff(ranges, axis=1) >= 0).all()
    assert ((ranges >= 0) & (ranges <= rows)).all()
    assert (ranges[:, 2] > ranges[:, 1]).all()
    first, count = stage_rows(ranges, rows)
    assert (count >= 1).all()
    assert ((first >= 0) & (first + count <= rows)).all()


@given(st.lists(intervals, min_size=1, max_size=20), st.floats(0.25, 4))
def test_the_unit_of_time_does_not_matter(proposals, factor):
    one, other = stages(np.array(proposals), 130.0), stages(np.array(proposals) * factor, 130.0 * factor)
    np.testing.assert_allclose(one.boundaries * factor, other.boundaries, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(one.scaling, other.scaling, atol=1e-9)
