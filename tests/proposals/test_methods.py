"""Methods as plain functions, and actionness that comes as probabilities or smeared."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from ssn_feat.errors import UserError
from ssn_feat.proposals import (
    Method,
    TagOptions,
    VideoData,
    action_probability,
    anchors,
    propose_each,
    sliding_windows,
    tag,
)
from ssn_feat.proposals.actionness import smear_as_original
from ssn_feat.proposals.methods import dense, grouped, oracle, ranked, run_method, sliding, uniform


@pytest.fixture
def video() -> VideoData:
    generator = np.random.default_rng(0)
    level = np.where((np.arange(60) // 10) % 2, 3.0, -3.0) + generator.normal(0, 0.5, 60)
    edges = np.arange(61) * 0.5
    logits = np.stack([np.zeros(60), level], axis=1).astype(np.float32)
    return VideoData("a", 30.0, logits, np.stack([edges[:-1], edges[1:]], axis=1))


def test_intervals_alone_are_ranked_in_their_order(video: VideoData) -> None:
    rows, scores = run_method(video, lambda video: [(0, 1), (1, 2), (2, 3)])
    assert scores.tolist() == [0, -1, -2]
    assert (rows.shape, run_method(video, lambda video: [])[0].shape) == ((3, 2), (0, 2))
    for made, message in (
        (([(0, 1)], [1, 2]), "'a' has 1 proposals, but scores of shape"),
        ([(1, 0)], "proposals of 'a': row 0"),
    ):
        with pytest.raises(UserError, match=message):
            run_method(video, lambda video, made=made: made)


@pytest.mark.parametrize(("method", "rows_of"), [(sliding, sliding_windows), (dense, anchors)])
def test_windows_and_anchors_have_a_random_order_by_seed_and_id(method: Method, rows_of: Callable) -> None:
    videos = [VideoData("a", 30.0), VideoData("b", 30.0)]
    both, _ = propose_each(partial(method, seed=1), videos, "x", score="random")
    np.testing.assert_array_equal(both.intervals["a"], rows_of(30.0))
    assert sorted(both.scores["a"]) == list(range(len(both.intervals["a"])))
    assert both.scores["a"].tolist() != both.scores["b"].tolist()
    alone, _ = propose_each(partial(method, seed=1), videos[1:], "x", score="random")
    np.testing.assert_array_equal(alone.scores["b"], both.scores["b"])
    other, _ = propose_each(partial(method, seed=2), videos, "x", score="random")
    assert other.scores["b"].tolist() != both.scores["b"].tolist()


def test_random_intervals_are_spread_over_the_video() -> None:
    rows, scores = uniform(VideoData("a", 40.0), 2000)
    assert (len(rows), rows.min() >= 0, rows.max() <= 40) == (2000, True, True)
    np.testing.assert_allclose(rows.mean(axis=0), [40 / 3, 80 / 3], atol=1)
    np.testing.assert_array_equal(rows[:5], uniform(VideoData("a", 40.0), 5)[0])
    assert scores.tolist() == list(range(0, -2000, -1))


def test_the_oracle_proposes_the_instances() -> None:
    rows, scores = oracle(VideoData("a", 9.0, truth=np.array([[1.0, 2], [4, 8]])))
    assert (rows.tolist(), scores.tolist()) == ([[1, 2], [4, 8]], [0, -1])
    assert len(oracle(VideoData("b", 9.0))[0]) == 0


def test_several_processes_give_the_same(video: VideoData) -> None:
    videos = [video, VideoData("b", 20.0, video.actionness, video.spans)]
    method = partial(ranked, method=partial(sliding, seed=3))
    one, seconds = propose_each(method, videos, "x", score="contrast")
    two, _ = propose_each(method, videos, "x", score="contrast", jobs=2)
    assert one.ids == two.ids == ("a", "b")
    assert seconds > 0
    for id in one.ids:
        np.testing.assert_array_equal(one.intervals[id], two.intervals[id])
        np.testing.assert_array_equal(one.scores[id], two.scores[id])


def test_groups_of_probabilities_are_those_of_logits(video: VideoData) -> None:
    probability = action_probability(video.actionness)
    for options in (TagOptions(), TagOptions(tag_score="mean"), TagOptions(original_smearing=True, smoothing=0)):
        boxes, scores = tag(probability, video.spans, options)
        if options.original_smearing:
            np.testing.assert_array_equal(
                boxes, tag(smear_as_original(probability), video.spans, TagOptions(smoothing=0))[0]
            )
        else:
            np.testing.assert_array_equal(boxes, grouped(video, options)[0])
            np.testing.assert_allclose(scores, grouped(video, options)[1])
    for options in (TagOptions(tag_score="sum"), TagOptions(original_grouping=True)):
        with pytest.raises(UserError, match="sum"):
            tag(probability, video.spans, options)
    with pytest.raises(UserError, match=r"snippet 1 is 1\.5, which is not a probability"):
        action_probability([0.5, 1.5])
    with pytest.raises(UserError, match="no actionness of video 'c'"):
        grouped(VideoData("c", 3.0))


@pytest.mark.parametrize("count", [1, 3, 4, 11])
def test_smearing_is_the_wrong_reading_of_crops(count: int) -> None:
    """Scores laid out crop after crop, read as if frame after frame, four frames at a time."""
    values = np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)
    expected = []
    for first in range(0, count, 4):
        own = values[first : first + 4]
        laid_out = np.concatenate([own] * 10)
        expected += [laid_out[10 * frame : 10 * frame + 10].mean(axis=0) for frame in range(len(own))]
    np.testing.assert_allclose(smear_as_original(values), expected, rtol=1e-6)
    four = smear_as_original(np.array([1.0, 0.0, 0.0, 0.0]))
    np.testing.assert_allclose(four, [0.3, 0.2, 0.3, 0.2], rtol=1e-6)
