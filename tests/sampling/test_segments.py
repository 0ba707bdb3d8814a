"""Segments of training samples: the original's choice number by number, ours by its distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssn_feat.sampling.segments import SEGMENTS, choose_rows


def original_segments(
    frames: NDArray[np.int64],
    frame_count: NDArray[np.int64] | int,
    stack: int = 1,
    segments: tuple[int, int, int] = SEGMENTS,
    generator: np.random.Generator | None = None,
    augmentation: tuple[float, float] = (0.5, 0.5),
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Snippets of a training sample exactly as the original code chooses them, on frames.

    ``frames``: integers ``(N, 2)``, 0-based first and one past the last frame of each proposal (at most the frame
    count); ``frame_count``: of the video, one number or ``(N,)``; ``stack``: frames that a snippet reads (1 for RGB, 5
    for flow). Gives int64 ``(N, sum(segments))``, the *1-based* first frame of each snippet (its later frames are
    clamped to the frame count), and the scaling, float64 ``(N, 2)``.

    Kept on purpose: lengths of flanks are truncated to whole frames but divided by the exact ones; a stage with no more
    positions than parts puts all of its snippets on its first frame; with stacks the ending stage of a proposal at the
    end of the video has a negative length and a negative scaling, as low as -8. :func:`choose_rows` has none of these.
    """
    frames = np.asarray(frames, dtype=np.int64).reshape(-1, 2)
    start, end = frames[:, 0] + 1, frames[:, 1]
    duration = end - start + 1
    flanks = [duration * part for part in augmentation]
    first = np.maximum(1, start - flanks[0].astype(np.int64))
    last = np.minimum(np.asarray(frame_count) - stack + 1, end + flanks[1].astype(np.int64))
    lengths = np.stack((start - first - stack + 1, duration - stack, last - end - stack + 1), axis=1)
    scaling = np.stack([(lengths[:, i] + stack - 1) / flank for i, flank in zip((0, 2), flanks, strict=True)], axis=1)
    starts = np.stack((first, start, end), axis=1)
    chosen = [
        starts[:, [i]] + (_original_centres(n, k) if generator is None else _original_draws(n, k, generator))
        for i, (n, k) in enumerate(zip(lengths.T[:, :, None], segments, strict=True))
    ]
    return np.concatenate(chosen, axis=1), scaling


def _original_centres(length: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    tick = length / parts
    return np.where(length > parts, (tick / 2.0 + tick * np.arange(parts)).astype(np.int64), 0)


def _original_draws(length: NDArray[np.int64], parts: int, generator: np.random.Generator) -> NDArray[np.int64]:
    size = (length + 1) // parts
    draws = generator.integers(0, np.maximum(size, 1), size=(len(length), parts))
    return np.where(size > 0, np.arange(parts) * size + draws, 0)


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
