"""Post-processing beyond the reference runs: orders, soft suppression, voting, classifiers, invariances, bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_feat.detection.classifier import best_classes, read_class_scores
from ssn_feat.detection.postprocess import PRESETS, PostprocessOptions, combined_scores, postprocess, select, top
from ssn_feat.detection.scores import ProposalScores
from ssn_feat.detection.suppression import soft_nms_grouped, vote_grouped
from ssn_feat.errors import UserError
from ssn_feat.intervals import tiou
from ssn_feat.results.detections import Detections

LABELS = ("a", "b", "c")


def random_scores(seed: int, videos: int = 5, most: int = 30) -> ProposalScores:
    random = np.random.default_rng(seed)
    counts = random.integers(0, most, videos)
    rows = int(counts.sum())
    return ProposalScores(
        tuple(f"v{n}" for n in range(videos)),
        np.concatenate([[0], np.cumsum(counts)]),
        LABELS,
        np.full(videos, 20.0),
        np.sort(random.uniform(0, 20, (rows, 2)), axis=1),
        random.normal(size=(rows, 4)).astype(np.float32),
        random.normal(size=(rows, 3)).astype(np.float32),
        (0.3 * random.normal(size=(rows, 3, 2))).astype(np.float32),
    )


def hand_made(regression: np.ndarray | None = None) -> ProposalScores:
    """One video of 10 s; proposals 0-4, 1-5 (tIoU 0.6) and 6-8; the class is a, with falling completeness."""
    return ProposalScores(
        ("v",),
        np.array([0, 3]),
        ("a",),
        np.array([10.0]),
        np.array([[0.0, 4], [1, 5], [6, 8]]),
        np.zeros((3, 2), np.float32),
        np.log(np.array([[1.0], [0.8], [0.5]], np.float32)),
        np.zeros((3, 1, 2), np.float32) if regression is None else regression.astype(np.float32),
    )


BASE = PostprocessOptions(nms_threshold=0.5)


def test_scores_by_hand() -> None:
    activity = np.log(np.array([[2.0, 1, 1]], np.float32))
    completeness = np.log(np.array([[1.0, 3]], np.float32))
    np.testing.assert_allclose(combined_scores(activity, completeness, "foreground"), [[0.5, 1.5]], rtol=1e-6)
    np.testing.assert_allclose(combined_scores(activity, completeness, "all"), [[0.25, 0.75]], rtol=1e-6)
    np.testing.assert_allclose(combined_scores(activity, completeness, "logit"), [[0, 0]], atol=1e-7)


def test_scores_beyond_float32_are_refused() -> None:
    with pytest.raises(UserError, match="completeness scores up to 1000"):
        combined_scores(np.zeros((1, 2), np.float32), np.full((1, 1), 1000, np.float32), "all")


def test_suppression_by_hand() -> None:
    found = postprocess(hand_made(), BASE)
    np.testing.assert_allclose(found.intervals, [[0, 4], [6, 8]])
    np.testing.assert_allclose(found.scores, [1, 0.5], rtol=1e-6)
    kept = postprocess(hand_made(), replace(BASE, nms_threshold=0.6))
    np.testing.assert_allclose(kept.intervals, [[0, 4], [1, 5], [6, 8]])  # a tIoU at the threshold is kept
    assert len(postprocess(hand_made(), replace(BASE, nms="none")).scores) == 3


def test_soft_suppression_by_hand() -> None:
    linear = postprocess(hand_made(), replace(BASE, nms="linear"))
    np.testing.assert_allclose(linear.scores, [1, 0.5, 0.8 * 0.4], rtol=1e-6)
    np.testing.assert_allclose(linear.intervals, [[0, 4], [6, 8], [1, 5]])
    gaussian = postprocess(hand_made(), replace(BASE, nms="gaussian", nms_sigma=0.5))
    np.testing.assert_allclose(gaussian.scores, [1, 0.5, 0.8 * np.exp(-0.36 / 0.5)], rtol=1e-6)


def test_voting_by_hand() -> None:
    found = postprocess(hand_made(), replace(BASE, voting=True))
    mean = (np.array([0, 4]) * 1 + np.array([1, 5]) * 0.8) / 1.8
    np.testing.assert_allclose(found.intervals, [mean, [6, 8]], rtol=1e-6)


def test_the_order_of_regression_and_suppression_matters() -> None:
    # Regression moves the second proposal away from the first, and the third onto the first.
    moves = np.array([[[0.0, 0]], [[1, 0]], [[-2.5, np.log(2)]]])
    first = postprocess(hand_made(moves), BASE)
    np.testing.assert_allclose(first.intervals, [[0, 4], [0, 4]], atol=1e-6)
    after = postprocess(hand_made(moves), replace(BASE, order="regression-first"))
    np.testing.assert_allclose(after.intervals, [[0, 4], [5, 9]], atol=1e-6)
    none = postprocess(hand_made(moves), replace(BASE, regression=False))
    np.testing.assert_allclose(none.intervals, [[0, 4], [6, 8]])


def test_boundaries_are_clipped_to_the_video() -> None:
    moves = np.array([[[-5.0, 0]], [[0, 100]], [[5, 90]]])
    found = postprocess(hand_made(moves), replace(BASE, nms="none"))
    assert found.intervals.min() == 0
    assert found.intervals.max() == 10
    assert (found.intervals[:, 0] <= found.intervals[:, 1]).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, -1.0]), max_size=30), st.integers(1, 12))
def test_top_is_a_stable_sort(values: list[float], count: int) -> None:
    array = np.array(values, np.float32)
    expected = np.sort(np.argsort(-array, kind="stable")[:count])
    np.testing.assert_array_equal(top(array, count), expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["hard", "linear", "gaussian", "none"]), st.booleans(), st.booleans())
def test_videos_do_not_influence_each_other(seed: int, nms: str, voting: bool, first: bool) -> None:
    scores = random_scores(seed)
    options = PostprocessOptions(
        top_k=25, nms=nms, voting=voting, nms_threshold=0.3, order="nms-first" if first else "regression-first"
    )
    together = postprocess(scores, options)
    for video in scores.ids:
        alone = postprocess(scores.only([video]), options)
        np.testing.assert_array_equal(alone.classes, together[video].classes)
        np.testing.assert_allclose(alone.scores, together[video].scores, rtol=1e-12)
        np.testing.assert_allclose(alone.intervals, together[video].intervals, rtol=1e-12)
    assert all((np.diff(together[v].scores) <= 0).all() for v in together.ids)


def plain_soft_nms(
    intervals: np.ndarray, scores: np.ndarray, method: str, threshold: float, sigma: float
) -> np.ndarray:
    left, result, values = list(range(len(scores))), np.zeros(len(scores)), scores.astype(float).copy()
    while left:
        best = max(left, key=lambda i: (values[i], -i))
        result[best] = values[best]
        left.remove(best)
        for i in left:
            overlap = tiou(intervals[[best]], intervals[[i]])[0, 0]
            if method == "gaussian":
                values[i] *= np.exp(-(overlap**2) / sigma)
            elif overlap > threshold:
                values[i] *= 1 - overlap
    return result


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["linear", "gaussian"]), st.integers(1, 40))
def test_grouped_soft_suppression_is_that_of_each_group(seed: int, method: str, rows: int) -> None:
    random = np.random.default_rng(seed)
    # Few distinct places, so that equal intervals and equal scores occur.
    intervals = np.sort(random.integers(0, 8, (rows, 2)), axis=1).astype(float)
    scores, groups = random.integers(0, 5, rows) / 4, random.integers(0, 4, rows)
    found = soft_nms_grouped(intervals, scores, groups, method, 0.3, 0.5)
    for group in np.unique(groups):
        own = groups == group
        expected = plain_soft_nms(intervals[own], scores[own], method, 0.3, 0.5)
        np.testing.assert_allclose(found[own], expected, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_grouped_voting_is_that_of_each_interval(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    intervals = np.sort(random.uniform(0, 8, (rows, 2)), axis=1)
    scores, groups = random.uniform(0, 1, rows), random.integers(0, 4, rows)
    kept = np.flatnonzero(random.integers(0, 2, rows))
    voted = vote_grouped(intervals, scores, groups, kept, 0.4)
    for place, i in enumerate(kept):
        near = (groups == groups[i]) & (tiou(intervals[[i]], intervals)[0] > 0.4)
        near[i] = True
        np.testing.assert_allclose(voted[place], np.average(intervals[near], axis=0, weights=scores[near]), rtol=1e-9)


def test_the_number_of_detections_can_be_limited() -> None:
    scores = random_scores(1)
    everything = postprocess(scores, replace(BASE, nms="none"))
    few = postprocess(scores, replace(BASE, nms="none", max_detections=4))
    assert few.counts.max() == 4
    for video in few.ids:
        np.testing.assert_array_equal(few[video].scores, everything[video].scores[:4])


def test_no_proposals_no_detections() -> None:
    nothing = random_scores(1).only([])
    assert len(postprocess(nothing, PRESETS["thumos14"]).scores) == 0


def test_regression_that_is_not_there_is_said() -> None:
    scores = random_scores(1)
    without = replace(scores, regression=None)
    with pytest.raises(UserError, match="--no-regression"):
        postprocess(without, BASE)
    assert len(postprocess(without, replace(BASE, regression=False)).scores)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"top_k": 0}, "top_k"),
        ({"max_detections": 0}, "max_detections"),
        ({"nms_threshold": 1.5}, "nms_threshold"),
        ({"nms_sigma": 0.0}, "nms_sigma"),
        ({"classifier_top": 0}, "classifier_top"),
        ({"scoring": "logit", "nms": "linear"}, "at least 0"),
    ],
)
def test_options_are_checked(values: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        PostprocessOptions(**values)


# ------------------------------------------------------------------------------------------- classifier


TABLE = {"v0": {"a": 0.1, "b": 0.7, "c": 0.2}, "v1": {"a": 0.5, "b": 0.2, "c": 0.3}}


def write_class_scores(folder: Path, form: str) -> Path:
    if form == "csv":
        path = folder / "s.csv"
        lines = ["video,c,a,b", *(f"{v},{t['c']},{t['a']},{t['b']}" for v, t in TABLE.items())]
        path.write_text("\n".join(lines) + "\n")
        return path
    if form == "npz":
        path = folder / "s.npz"
        np.savez(path, video_id=list(TABLE), scores=[[t[k] for k in "abc"] for t in TABLE.values()])
        return path
    path = folder / "s.json"
    content = {
        "labels": TABLE,
        "rows": {v: list(t.values()) for v, t in TABLE.items()},
        "results": {"results": {v: [{"label": k, "score": s} for k, s in t.items()] for v, t in TABLE.items()}},
    }
    path.write_text(json.dumps(content[form]))
    return path


@pytest.mark.parametrize("form", ["labels", "rows", "results", "csv", "npz"])
def test_class_scores_of_every_form(tmp_path: Path, form: str) -> None:
    read = read_class_scores(write_class_scores(tmp_path, form), LABELS)
    assert {v: row.tolist() for v, row in read.items()} == {v: list(t.values()) for v, t in TABLE.items()}


def test_only_the_best_classes_of_a_video_count(tmp_path: Path) -> None:
    scores = random_scores(3, videos=2)
    path = write_class_scores(tmp_path, "csv")
    options = PostprocessOptions(classifier=path, classifier_top=1, nms="none", top_k=None)
    found = postprocess(scores, options)
    assert set(found["v0"].classes) == {1}
    assert set(found["v1"].classes) == {0}
    limited = postprocess(scores, replace(options, top_k=2))
    assert limited.counts.tolist() == [2, 2]
    masks = best_classes(read_class_scores(path, LABELS), scores, 3)
    assert len(select(scores, options, masks)) == len(scores.intervals) * 3


def test_classes_that_a_classifier_does_not_name_never_count(tmp_path: Path) -> None:
    scores = random_scores(3, videos=2)
    (tmp_path / "few.json").write_text('{"v0": {"b": 0.7}, "v1": {}}')
    options = PostprocessOptions(classifier=tmp_path / "few.json", classifier_top=2, nms="none")
    for use in ("filter", "multiply"):
        found = postprocess(scores, replace(options, classifier_use=use))
        assert set(found["v0"].classes) == {1}
        assert len(found["v1"].classes) == 0


def test_class_scores_as_factors(tmp_path: Path) -> None:
    scores = random_scores(3, videos=2)
    path = write_class_scores(tmp_path, "npz")
    options = PostprocessOptions(classifier=path, classifier_top=2, nms="none", top_k=None)
    plain, times = (postprocess(scores, replace(options, classifier_use=use)) for use in ("filter", "multiply"))

    def by_place(found: Detections, video: str) -> dict[tuple, float]:
        own = found[video]
        places = zip(own.classes.tolist(), map(tuple, own.intervals.tolist()), strict=True)
        return dict(zip(places, own.scores.tolist(), strict=True))

    for video, table in TABLE.items():
        before, after = by_place(plain, video), by_place(times, video)
        assert before.keys() == after.keys()
        for (label, place), score in before.items():
            assert after[label, place] == pytest.approx(score * list(table.values())[label], rel=1e-6)
    with pytest.raises(UserError, match="probabilities, not logits"):
        postprocess(scores, replace(options, classifier_use="multiply"), {v: np.array([-1.0, -2, -3]) for v in scores})
    with pytest.raises(UserError, match="needs the scores of an outside classifier"):
        postprocess(scores, PostprocessOptions(classifier_use="multiply"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("s.json", '{"v": {"z": 1}}', "unknown class 'z'"),
        ("s.json", '{"v": [1, 2]}', "needs 3 numbers"),
        ("s.json", '{"v": [1, 2, null]}', "are not numbers|needs 3 numbers"),
        ("s.json", "[", "is not a file of class scores"),
        ("s.json", '{"v": ["x", 1, 2]}', "not numbers"),
        ("s.csv", "video,a,b,c\nv,1,2\n", "is not a file of class scores"),
        ("s.npz", "x", "is not a file of class scores"),
        ("s.txt", "", "must be a .json, .csv, .npz file"),
    ],
)
def test_bad_class_scores_are_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=said):
        read_class_scores(tmp_path / name, LABELS)


def test_videos_without_class_scores_are_named() -> None:
    with pytest.raises(UserError, match="2 of 2 videos have no class scores: v0, v1"):
        best_classes({}, random_scores(1, videos=2), 1)
