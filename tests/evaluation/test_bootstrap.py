"""Resampling of videos: against videos that are really copied, and what intervals must do."""

from __future__ import annotations

import numpy as np
import pytest

from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_precision import average_precision_of, mean_average_precision
from ssn_feat.evaluation.bootstrap import draw_videos, interval_of, resampled_map, running_maximum
from ssn_feat.evaluation.matching import Definition, Scored, Truths, rank

LEVELS = (0.1, 0.3, 0.5)
CLASSES, VIDEOS = 3, 6


def data(seed: int) -> tuple[Scored, Truths, Truths]:
    random = np.random.default_rng(seed)

    def rows(number: int, videos: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        intervals = np.sort(random.random((number, 2)), axis=1) * 10
        return random.integers(0, videos, number), random.integers(0, CLASSES, number), intervals

    # Some detections lie outside the data set.
    return Scored(*rows(80, VIDEOS + 2), random.permutation(80) / 80), Truths(*rows(25, VIDEOS)), Truths(*rows(3, 6))


def copied(detections: Scored, truths: Truths, marks: Truths, counts: np.ndarray) -> tuple[Scored, Truths, Truths]:
    """The videos copied as often as counted, each copy a video of its own; outside videos stay once."""
    copies = [v for v in range(VIDEOS) for _ in range(int(counts[v]))] + [VIDEOS, VIDEOS + 1]

    def take(table):  # type: ignore[no-untyped-def]
        parts = [np.flatnonzero(table.videos == video) for video in copies]
        rows = np.concatenate(parts)
        videos = np.repeat(np.arange(len(copies)), [len(p) for p in parts])
        return type(table)(videos, *(column[rows] for column in table[1:]))

    return take(detections), take(truths), take(marks)


@pytest.mark.parametrize("definition", ["activitynet", "thumos14"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_videos_that_are_copied(definition: Definition, seed: int) -> None:
    detections, truths, marks = data(seed)
    draws = draw_videos(VIDEOS, 200, seed)
    ranked = rank(detections, truths, CLASSES, LEVELS, definition, marks)
    found = resampled_map(ranked, truths, draws)
    assert found.shape == (200, len(LEVELS))
    for number in range(40):
        plain = copied(detections, truths, marks, draws[:, number])
        ap = average_precision_of(rank(*plain[:2], CLASSES, LEVELS, definition, plain[2]))
        np.testing.assert_allclose(found[number], mean_average_precision(ap), atol=1e-10)


@pytest.mark.parametrize("definition", ["activitynet", "thumos14"])
def test_every_video_once_is_the_map(definition: Definition) -> None:
    detections, truths, marks = data(9)
    ranked = rank(detections, truths, CLASSES, LEVELS, definition, marks)
    found = resampled_map(ranked, truths, np.ones((VIDEOS, 1)))
    np.testing.assert_allclose(found[0], mean_average_precision(average_precision_of(ranked)), atol=1e-10)


def test_draws_without_truth_and_files_without_detections() -> None:
    detections, truths, _ = data(1)
    none = rank(detections.rows(np.zeros(0, dtype=np.int64)), truths, CLASSES, LEVELS)
    np.testing.assert_array_equal(resampled_map(none, truths, np.ones((VIDEOS, 2))), 0)
    ranked = rank(detections, truths, CLASSES, LEVELS)
    assert np.isnan(resampled_map(ranked, truths, np.zeros((VIDEOS, 1)))).all()


def test_draws_are_seeded_and_complete() -> None:
    draws = draw_videos(10, 50, 3)
    np.testing.assert_array_equal(draws, draw_videos(10, 50, 3))
    assert not np.array_equal(draws, draw_videos(10, 50, 4))
    np.testing.assert_array_equal(draws.sum(axis=0), 10)
    with pytest.raises(UserError, match="at least one video"):
        draw_videos(0, 10, 0)


def test_interval_is_the_middle_of_the_draws_around_the_number() -> None:
    values = np.stack([np.arange(101.0), np.full(101, 7.0), np.full(101, np.nan)], axis=1)
    low, high = interval_of(values, [50, 7, 1], 0.9)
    np.testing.assert_allclose(low, [5, 7, np.nan])
    np.testing.assert_allclose(high, [95, 7, np.nan])
    # Draws that all lie above the number say how it spreads, not where it is.
    low, high = interval_of(values[:, :1], [-10], 0.9)
    np.testing.assert_allclose([low, high], [[-55], [35]])
    with pytest.raises(UserError, match="confidence"):
        interval_of(values, [50, 7, 1], 1.0)


def test_a_shared_difficulty_cancels_in_a_paired_difference() -> None:
    # Ten videos, each easy or hard for both files; the second file misses one video more.
    truths = Truths(np.arange(10), np.zeros(10, dtype=np.int64), np.tile([0.0, 1.0], (10, 1)))
    draws = draw_videos(10, 500, 0)

    def measured(videos: range) -> np.ndarray:
        rows = np.array(videos)
        found = Scored(rows, np.zeros(len(rows), dtype=np.int64), np.tile([0.0, 1.0], (len(rows), 1)), -1.0 * rows)
        return resampled_map(rank(found, truths, 1, (0.5,)), truths, draws)

    first, second = measured(range(6)), measured(range(5))
    alone, paired = interval_of(first, [0.6]), interval_of(first - second, [0.1])
    assert (paired.high - paired.low) < (alone.high - alone.low)
    np.testing.assert_allclose(first - second, draws[5][:, None] / 10)


def test_running_maximum_begins_anew_with_each_class() -> None:
    values = np.array([0.1, 0.5, 0.2, 0.3, 0.9])
    np.testing.assert_allclose(running_maximum(values, np.array([0, 0, 0, 1, 1])), [0.5, 0.5, 0.2, 0.9, 0.9])
