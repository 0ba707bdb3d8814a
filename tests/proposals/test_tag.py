"""TAG: the original's boxes, the defaults against a plain reading of the paper, and the scores."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import meta
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ssn_feat.errors import UserError
from ssn_feat.intervals import tiou
from ssn_feat.proposals import TagOptions, action_probability, fuse_actionness, score_by_actionness, tag
from ssn_feat.proposals.tag import group_basins, original_groups

ORIGINAL = TagOptions(original_grouping=True)


@pytest.fixture(scope="module")
def reference(golden):
    return golden("tag.npz")


@pytest.fixture(scope="module")
def cases(reference) -> list[dict]:
    return [case for case in meta(reference)["cases"] if f"{case['key']}/boxes" in reference]


def even_spans(count: int, duration: float) -> np.ndarray:
    edges = np.linspace(0, duration, count + 1)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def ranked(boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((boxes[:, 1], boxes[:, 0], -np.round(scores, 6)))
    return boxes[order], scores[order]


def test_the_reference_has_all_kinds_of_cases(cases) -> None:
    kinds = [case["key"][0] for case in cases]
    assert (kinds.count("v"), kinds.count("e") > 10, kinds.count("f")) == (20, True, 6)


def test_original_boxes_and_scores(reference, cases) -> None:
    """Boxes and sums of every case; where equal scores leave the order open, any of the stored answers is right."""
    for case in cases:
        key = case["key"]
        logits = reference[f"{key}/merged" if key.startswith("f") else f"{key}/scores"]
        boxes, scores = ranked(*original_groups(logits, ORIGINAL))
        answers = [
            f"{key}{alt}" for alt in ("", "/alt_stable_rev", "/alt_stable_fwd") if f"{key}{alt}/boxes" in reference
        ]
        for answer in answers:
            expected, sums = ranked(reference[f"{answer}/boxes"], reference[f"{answer}/box_scores"])
            if boxes.tolist() == expected.tolist():
                np.testing.assert_allclose(scores, sums, rtol=1e-6, atol=1e-9)
                break
        else:
            pytest.fail(f"{key}: none of {answers}")


def test_original_boxes_in_seconds(reference, cases) -> None:
    for case in cases:
        if case["key"].startswith("v"):
            logits = reference[f"{case['key']}/scores"]
            intervals, scores = tag(logits, even_spans(len(logits), case["duration"]), ORIGINAL)
            expected = reference[f"{case['key']}/boxes_seconds"]
            if case["differs_with_other_tie_order"] == [0, 0]:
                expected, _ = ranked(expected, reference[f"{case['key']}/box_scores"])
                np.testing.assert_allclose(ranked(intervals, scores)[0], expected, atol=1e-9, rtol=0)


def test_minimum_length_leaves_out_boxes_and_their_scores(reference, cases) -> None:
    duration = next(case["duration"] for case in cases if case["key"] == "v05")
    logits = reference["v05/scores"]
    options = TagOptions(original_grouping=True, minimum_length=2.0)
    intervals, scores = tag(logits, even_spans(len(logits), duration), options)
    assert len(scores) == len(intervals)
    expected = reference["minlen2/boxes_seconds"]
    np.testing.assert_allclose(np.sort(intervals, axis=0), np.sort(expected, axis=0), atol=1e-9)


@pytest.mark.parametrize("key", ["f0", "f1", "f2", "f3", "f4", "f5", "f3files"])
def test_original_fusion(reference, key: str) -> None:
    case = next(case for case in meta(reference)["cases"] if case["key"] == key)
    names = ["scores_0", "scores_1", "scores_2"] if key == "f3files" else ["scores_a", "scores_b"]
    sources = [reference[f"{key}/{name}"].mean(axis=1) for name in names]
    pairs = [(logits, even_spans(len(logits), 10.0)) for logits in sources]
    merged, spans = fuse_actionness(pairs, case.get("score_weights") or (), "original")
    np.testing.assert_allclose(merged, reference[f"{key}/merged"], atol=1e-6)
    assert spans.shape == (len(merged), 2)
    assert spans[-1, 1] == 10.0


def plain_groups(actionness: np.ndarray, threshold: float, tolerance: float) -> set[tuple[int, int]]:
    """The definition, basin by basin."""
    above = actionness > threshold
    up = [t for t in range(len(above)) if above[t] and (t == 0 or not above[t - 1])]
    down = [t for t in range(1, len(above) + 1) if above[t - 1] and (t == len(above) or not above[t])]
    groups = set()
    for x in range(len(up)):
        y = x + 1
        while y < len(up) and (~above[up[x] : up[y] + 1]).sum() <= tolerance * (up[y] - up[x]) + 1e-9:
            y += 1
        groups.add((up[x], down[y - 1]))
        y = x - 1
        while y >= 0 and (~above[down[y] + 1 : down[x] + 1]).sum() <= tolerance * (down[x] - down[y]) + 1e-9:
            y -= 1
        groups.add((up[y + 1], down[x]))
    return groups


series = arrays(
    np.float32, st.integers(1, 40), elements=st.sampled_from(np.float32([0.05, 0.2, 0.45, 0.7, 0.93]).tolist())
)


@settings(max_examples=300)
@given(series, st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([0.07, 0.23, 0.37, 0.61, 0.83]))
def test_groups_are_those_of_a_plain_search(actionness: np.ndarray, threshold: float, tolerance: float) -> None:
    forward, backward, _ = group_basins(actionness, [threshold], [tolerance])
    groups = set(map(tuple, np.concatenate([forward, backward]).tolist()))
    assert groups == plain_groups(actionness, threshold, tolerance)
    for start, end in groups:  # starts and ends with action, and nothing beyond
        assert actionness[start] > threshold
        assert actionness[end - 1] > threshold


@given(arrays(np.float32, st.tuples(st.integers(1, 60), st.just(2)), elements=st.floats(-5, 5, width=32)))
def test_proposals_are_inside_ranked_and_distinct(logits: np.ndarray) -> None:
    spans = even_spans(len(logits), 30.0) + 2.0
    for score in ("contrast", "mean", "sum"):
        intervals, scores = tag(logits, spans, TagOptions(smoothing=1, tag_score=score))
        assert (intervals >= spans[0, 0]).all()
        assert (intervals <= spans[-1, 1]).all()
        assert (intervals[:, 1] > intervals[:, 0]).all()
        assert (np.diff(scores) <= 0).all()
        overlaps = tiou(intervals, intervals)[~np.eye(len(intervals), dtype=bool)]
        assert (overlaps <= 0.9).all()
        np.testing.assert_allclose(scores, score_by_actionness(intervals, logits, spans, score), atol=1e-12)


def logits_of(probability: list[float]) -> np.ndarray:
    p = np.array(probability)
    return np.stack([np.zeros(len(p)), np.log(p / (1 - p))], axis=1).astype(np.float32)


def test_one_action_is_found_exactly() -> None:
    logits = logits_of([0.001] * 10 + [0.999] * 5 + [0.001] * 15)
    intervals, scores = tag(logits, even_spans(30, 60.0), TagOptions(smoothing=0))
    assert intervals.tolist() == [[20.0, 30.0]]
    np.testing.assert_allclose(scores, [0.998], atol=1e-6)


def test_smoothing_is_in_seconds() -> None:
    logits = np.random.default_rng(1).normal(0, 3, (80, 2)).astype(np.float32)
    fine, _ = tag(logits, even_spans(80, 20.0), TagOptions(smoothing=0.5))
    slow, _ = tag(logits, even_spans(80, 40.0), TagOptions(smoothing=1.0))
    np.testing.assert_allclose(slow, 2 * fine)
    assert len(fine) < len(tag(logits, even_spans(80, 20.0), TagOptions(smoothing=0.1))[0])


def test_smoothing_over_more_than_the_video_flattens_it() -> None:
    spans = np.stack([np.arange(8), np.arange(1, 9)], axis=1)
    probability = np.linspace(0.2, 0.9, 8)
    for smoothing in (20.0, 1e12):
        boxes, _ = tag(probability, spans, TagOptions(smoothing=smoothing))
        assert boxes.tolist() == [[0, 8]]
    assert tag([0.9, 0.9], [[0, 0], [0, 0]])[0].tolist() == [[0, 0]]


def test_spans_need_not_be_even() -> None:
    logits = logits_of([0.001, 0.999, 0.999, 0.001])
    spans = [(0, 1), (1, 1.5), (1.5, 4), (4, 5)]
    intervals, _ = tag(logits, spans, TagOptions(smoothing=0))
    assert intervals.tolist() == [[1, 4]]
    np.testing.assert_allclose(score_by_actionness([(1, 4)], logits, spans, "mean"), [0.999], atol=1e-6)


def test_scores_by_hand() -> None:
    logits, spans = logits_of([0.25, 0.5, 0.75, 0.5]), even_spans(4, 8.0)
    boxes = [(2, 6), (0, 8), (3, 5), (6, 8), (4, 4)]
    np.testing.assert_allclose(
        score_by_actionness(boxes, logits, spans, "mean"), [0.625, 0.5, 0.625, 0.5, 0], atol=1e-6
    )
    contrast = [0.625 - 0.375, 0.5, 0.0, 0.5 - 0.375, 0.0]  # beyond the video there is no action
    np.testing.assert_allclose(score_by_actionness(boxes, logits, spans, "contrast"), contrast, atol=1e-6)
    known = action_probability(logits)
    np.testing.assert_allclose(score_by_actionness(boxes, known, spans, "contrast"), contrast, atol=1e-6)
    half = np.log(3)
    np.testing.assert_allclose(score_by_actionness(boxes, logits, spans, "sum"), [half, 0, half / 2, 0, 0], atol=1e-6)


def test_probability_is_a_softmax_that_does_not_overflow() -> None:
    logits = np.array([[0, 0], [1, 3], [-200, 200], [200, -200]])
    np.testing.assert_allclose(action_probability(logits), [0.5, 1 / (1 + np.exp(-2)), 1, 0], rtol=1e-6)


def test_fusion_by_time() -> None:
    coarse = (np.array([[0, 0], [0, 4]]), even_spans(2, 8.0))
    fine = (np.array([[0, 2], [0, 2], [2, 2], [2, 2]]), even_spans(4, 8.0))
    mean, spans = fuse_actionness([coarse, fine])
    np.testing.assert_allclose(mean, [[0, 1], [1, 3]])  # at 2 s and 6 s, half way between snippets of the finer one
    np.testing.assert_array_equal(spans, coarse[1])
    total, _ = fuse_actionness([coarse, fine], [1, 0.5], "sum")
    np.testing.assert_allclose(total, [[0, 1], [1, 5]])
    alone, _ = fuse_actionness([fine], [7.0])
    np.testing.assert_allclose(alone, fine[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TagOptions(thresholds=()), "thresholds"),
        (lambda: TagOptions(thresholds=(1.0,)), "thresholds"),
        (lambda: TagOptions(tolerances=(0.0,)), "tolerances"),
        (lambda: TagOptions(smoothing=-1), "smoothing"),
        (lambda: TagOptions(tag_nms=2), "suppression"),
        (lambda: TagOptions(minimum_length=-1), "minimum length"),
        (lambda: tag(np.zeros((3, 100)), even_spans(3, 1)), r"\(3, 100\)"),
        (lambda: tag(np.zeros((0, 2)), np.zeros((0, 2))), "one span per snippet"),
        (lambda: tag([[0, np.nan]], even_spans(1, 1)), "snippet 0 is not finite"),
        (
            lambda: tag(np.zeros((3, 2)), even_spans(4, 1)),
            "actionness has 3 snippets and 4 spans",
        ),
        (lambda: tag(np.zeros((3, 2)), even_spans(4, 1), ORIGINAL), "actionness has 3 snippets"),
        (lambda: score_by_actionness([(0, 1)], np.ones(1), [(0, 1)], "sum"), "needs logits"),
        (lambda: score_by_actionness([(0, 1)], np.ones(1), [], "mean"), "1 snippets"),
        (lambda: fuse_actionness([]), "0 sources"),
        (lambda: fuse_actionness([(np.zeros((1, 2)), [(0, 1)])], [1, 2]), "1 sources"),
        (lambda: fuse_actionness([(np.zeros((2, 2)), [(0, 1)])]), "2 snippets"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()
