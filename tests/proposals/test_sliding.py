"""Sliding windows and the labelling of proposals: the original's numbers, and what the defaults promise instead."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from conftest import meta
from hypothesis import given
from hypothesis import strategies as st

from ssn_feat.errors import UserError
from ssn_feat.proposals import SlidingOptions, label_proposals, sliding_windows

OVERLAPS = [0.4, 0.7]


@pytest.fixture(scope="module")
def reference(golden):
    return golden("sliding_window.npz")


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_original_windows_of_real_videos(reference, overlap: float) -> None:
    options = SlidingOptions(overlap=overlap, original_windows=True)
    hashes = [hashlib.sha256(sliding_windows(d, options)).hexdigest() for d in reference["duration"].tolist()]
    assert hashes == reference[f"ov{overlap}/sha256"].tolist()


def test_original_windows_of_other_steps_and_levels(reference) -> None:
    for case in meta(reference)["extra"]:
        options = SlidingOptions(case["overlap"], case["max_level"], case["time_step"], original_windows=True)
        windows = sliding_windows(case["duration"], options)
        assert len(windows) == case["n"]
        assert windows[:60].tolist() == case["boxes"]
        np.testing.assert_allclose(windows.sum(axis=0), [case["sum_start"], case["sum_end"]], atol=1e-6)


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_labels_of_real_windows(reference, overlap: float) -> None:
    options = SlidingOptions(overlap=overlap, original_windows=True)
    truth = meta(reference)["gt"]
    found = []
    for id, duration in zip(reference["video_id"].tolist(), reference["duration"].tolist(), strict=True):
        instances = np.array(truth.get(id, [])).reshape(-1, 3)
        found.append(label_proposals(sliding_windows(duration, options), instances[:, 1:], instances[:, 0]))
    key = f"ov{overlap}/"
    full = [found[i] for i in reference["full_index"]]
    np.testing.assert_array_equal(np.concatenate([f.label for f in full]), reference[key + "full_label"])
    overlaps = np.stack([np.concatenate([f.tiou for f in full]), np.concatenate([f.overlap for f in full])], axis=1)
    np.testing.assert_allclose(overlaps, reference[key + "full_overlap"], atol=1e-12, rtol=0)
    np.testing.assert_array_equal([(f.label > 0).sum() for f in found], reference[key + "n_positive"])
    np.testing.assert_array_equal([f.label.sum() for f in found], reference[key + "sum_label"])
    np.testing.assert_allclose([f.tiou.sum() for f in found], reference[key + "sum_overlap"], atol=1e-6)
    np.testing.assert_allclose([f.overlap.sum() for f in found], reference[key + "sum_overlap_self"], atol=1e-6)


durations = st.floats(0, 500, allow_subnormal=False)
ladders = st.builds(SlidingOptions, st.sampled_from([0.0, 0.4, 0.7, 0.9]), st.integers(1, 9), st.floats(0.1, 5))


@given(durations, ladders)
def test_windows_stay_inside_and_differ(duration: float, options: SlidingOptions) -> None:
    windows = sliding_windows(duration, options)
    assert windows.dtype == np.float64
    assert (windows[:, 0] >= 0).all()
    assert (windows[:, 1] <= duration).all()
    assert (windows[:, 1] - windows[:, 0] >= options.time_step * (1 - 1e-9)).all()
    assert len(np.unique(windows, axis=0)) == len(windows)


@given(st.integers(0, 300), ladders)
def test_a_time_step_scales_everything(steps: int, options: SlidingOptions) -> None:
    unit = sliding_windows(steps, SlidingOptions(options.overlap, options.levels))
    scaled = sliding_windows(steps * 0.5, SlidingOptions(options.overlap, options.levels, 0.5))
    np.testing.assert_array_equal(scaled, unit * 0.5)


def test_windows_of_one_short_video() -> None:
    windows = sliding_windows(2.5, SlidingOptions(overlap=0.5, levels=3))
    assert windows.tolist() == [[0, 1], [1, 2], [0, 2], [1, 2.5], [0, 2.5]]
    original = sliding_windows(2.5, SlidingOptions(overlap=0.5, levels=3, original_windows=True))
    assert original.tolist() == [[0, 1], [1, 2], [0, 2], [1, 3], [0, 4]]
    assert sliding_windows(0.5).shape == (0, 2)


def test_labels_by_hand() -> None:
    truth, classes = [(10, 20), (12, 22), (30, 30)], [4, 2, 7]
    found = label_proposals([(10, 20), (11, 21), (22, 40), (30, 30), (21, 23)], truth, classes)
    assert found.label.tolist() == [5, 5, 0, 0, 3]  # of equal tIoU the first instance; touching is no overlap
    np.testing.assert_allclose(found.tiou, [1, 9 / 11, 0, 0, 1 / 11])
    np.testing.assert_allclose(found.overlap, [1, 0.9, 0, 0, 0.5])
    nothing = label_proposals([(0, 1)], [], [])
    assert (nothing.label.tolist(), nothing.tiou.tolist(), nothing.overlap.tolist()) == ([0], [0.0], [0.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SlidingOptions(overlap=1.0), "overlap"),
        (lambda: SlidingOptions(levels=0), "at least 1 level"),
        (lambda: SlidingOptions(time_step=0), "time step"),
        (lambda: sliding_windows(float("nan")), "duration"),
        (lambda: sliding_windows(-1), "not -1"),
        (lambda: label_proposals([(0, 1)], [(0, 1)], [1, 2]), "there are 1 instances, but 2 classes"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()
