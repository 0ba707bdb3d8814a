"""Methods as plain functions, and actionness that comes as probabilities or smeared."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from ssn_feat.errors import UserError
from ssn_feat.proposals import TagOptions, VideoData, action_probability, propose_each, tag
from ssn_feat.proposals.actionness import smear_as_original
from ssn_feat.proposals.methods import found, grouped, ranked, sliding


@pytest.fixture
def video() -> VideoData:
    generator = np.random.default_rng(0)
    level = np.where((np.arange(60) // 10) % 2, 3.0, -3.0) + generator.normal(0, 0.5, 60)
    edges = np.arange(61) * 0.5
    logits = np.stack([np.zeros(60), level], axis=1).astype(np.float32)
    return VideoData("a", 30.0, logits, np.stack([edges[:-1], edges[1:]], axis=1))


def test_intervals_alone_are_ranked_in_their_order(video: VideoData) -> None:
    rows, scores = found(video, lambda video: [(0, 1), (1, 2), (2, 3)])
    assert scores.tolist() == [0, -1, -2]
    assert (rows.shape, found(video, lambda video: [])[0].shape) == ((3, 2), (0, 2))
    for made, message in (
        (([(0, 1)], [1, 2]), "'a': 1 proposals need as many scores"),
        ([(1, 0)], "proposals of 'a': row 0"),
    ):
        with pytest.raises(UserError, match=message):
            found(video, lambda video, made=made: made)


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
    with pytest.raises(UserError, match=r"snippet 1 is 1\.5, which is no probability"):
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
