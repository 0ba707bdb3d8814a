"""Segments of training samples: the original's choice number by number, ours by its distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_feat.sampling.segments import choose_rows, original_segments


@pytest.mark.parametrize("stack", [1, 5])
@pytest.mark.parametrize("parts", [(2, 5), (3, 9)])
def test_original_choice_is_the_reference_one(golden, parts, stack):
    reference = golden("ssn_indices.npz")
    aug, body = parts
    key = f"aug{aug}_body{body}_len{stack}"
    start, _, frame_count = reference["start_end_framecnt"].T
    frames = np.stack((start, reference["end_clipped"]), axis=1)
    chosen, scaling = original_segments(frames, frame_count, stack, (aug, body, aug))
    np.testing.assert_array_equal(chosen, reference[f"{key}/offsets"])
    np.testing.assert_allclose(scaling, reference[f"{key}/scale"], rtol=0, atol=1e-12)
    read = np.minimum(frame_count[:, None, None], chosen[:, :, None] + np.arange(stack)).reshape(len(chosen), -1)
    np.testing.assert_array_equal(read, reference[f"{key}/frames"])


@pytest.mark.parametrize("stack", [1, 5])
def test_original_random_choice_covers_the_reference_range(golden, stack):
    reference = golden("ssn_indices.npz")
    start, end, frame_count = reference["random/start_end_framecnt"].T
    frames = np.stack((start, np.minimum(end, frame_count)), axis=1)
    generator = np.random.default_rng(0)
    draws = np.stack([original_segments(frames, frame_count, stack, generator=generator)[0] for _ in range(3000)])
    low, high = reference[f"random/len{stack}_min"], reference[f"random/len{stack}_max"]
    assert (draws.min(axis=0) <= low).all()
    assert (draws.max(axis=0) >= high).all()
    # A part may be wider than 400 draws of the reference showed, but not by much.
    assert (low - draws.min(axis=0)).max() <= 20
    assert (draws.max(axis=0) - high).max() <= 20


def test_middle_of_equal_parts_by_hand():
    first, count = np.array([[100, 200, 300]]), np.array([[10, 20, 1]])
    np.testing.assert_array_equal(choose_rows(first, count), [[102, 107, 202, 206, 210, 214, 218, 300, 300]])


@pytest.mark.parametrize("rows", [1, 3, 5, 7, 23])
def test_random_rows_are_equally_likely(rows):
    draws = 20_000
    first, count = np.full((draws, 1), 40), np.full((draws, 1), rows)
    chosen = choose_rows(first, count, (5,), np.random.default_rng(1))
    share = np.bincount(chosen.ravel() - 40, minlength=rows) / chosen.size
    assert len(share) == rows
    np.testing.assert_allclose(share, 1 / rows, atol=5 * np.sqrt(1 / rows / chosen.size) + 1e-12)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 40), min_size=3, max_size=3))
def test_segments_stay_in_their_part_in_order_of_time(seed, counts):
    first, count = np.array([0, 1000, 2000]), np.array(counts)
    segments = (2, 5, 2)
    chosen = choose_rows(first, count, segments, np.random.default_rng(seed))
    at = 0
    for stage, k in enumerate(segments):
        place = chosen[at : at + k] - first[stage]
        assert (np.diff(place) >= 0).all()
        edges = np.arange(k + 1) * count[stage] / k
        assert (place >= np.floor(edges[:-1])).all()
        assert (place <= np.ceil(edges[1:]) - 1).all()
        at += k


def test_a_draw_next_to_one_stays_in_its_stage():
    class Last:
        def random(self, shape):
            return np.full(shape, np.nextafter(1.0, 0.0))

    assert choose_rows(np.array([0]), np.array([3]), (5,), Last()).max() == 2
