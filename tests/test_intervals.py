"""Overlap and suppression of intervals, against hand-computed numbers and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_feat.errors import UserError
from ssn_feat.intervals import as_intervals, nms, nms_grouped, overlap_over, overlapping, tiou

# Few distinct values, so that touching, nested, equal and empty intervals and ties of scores are all common.
points = st.sampled_from([0.0, 0.1, 0.3, 1.0, 2.0, 2.5, 4.0, 1e3])
rows = st.tuples(points, points).map(sorted)
boxes = st.lists(rows, max_size=30)


def plain_nms(intervals: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        for j in kept:
            inter = min(intervals[i, 1], intervals[j, 1]) - max(intervals[i, 0], intervals[j, 0])
            union = (intervals[i, 1] - intervals[i, 0]) + (intervals[j, 1] - intervals[j, 0]) - inter
            if union > 0 and inter / union > threshold:
                break
        else:
            kept.append(i)
    return kept


def test_tiou_and_overlap_by_hand() -> None:
    a, b = [(0, 10), (3, 3)], [(5, 15), (10, 12), (0, 10), (2, 4)]
    np.testing.assert_allclose(tiou(a, b), [[5 / 15, 0, 1, 0.2], [0, 0, 0, 0]])
    np.testing.assert_allclose(overlap_over(a, b), [[0.5, 0, 1, 0.2], [0, 0, 0, 0]])
    np.testing.assert_allclose(overlap_over(b, a), [[0.5, 0], [0, 0], [1, 0], [1, 0]])
    assert tiou([(1, 1)], [(1, 1)]) == 0.0


def test_empty_arrays_keep_their_shape() -> None:
    assert tiou([], [(0, 1)]).shape == (0, 1)
    assert overlap_over([(0, 1)], []).shape == (1, 0)
    assert nms([], [], 0.5).tolist() == []
    assert nms([], [], 0.5).dtype == np.int64


@given(boxes, boxes)
def test_tiou_is_symmetric_bounded_and_below_both_overlaps(a: list, b: list) -> None:
    values = tiou(a, b)
    np.testing.assert_array_equal(values, tiou(b, a).T)
    assert ((values >= 0) & (values <= 1)).all()
    assert (values <= overlap_over(a, b) + 1e-12).all()
    assert (values <= overlap_over(b, a).T + 1e-12).all()


@settings(max_examples=200)
@given(boxes, boxes)
def test_the_overlapping_pairs_are_those_of_the_whole_matrix(a: list, b: list) -> None:
    rows, columns, overlaps = overlapping(a, b)
    matrix = np.zeros((len(a), len(b)))
    matrix[rows, columns] = overlaps
    np.testing.assert_array_equal(matrix, tiou(a, b))
    groups = [np.arange(len(side)) % 3 for side in (a, b)]
    rows, columns, overlaps = overlapping(a, b, (groups[0], groups[1]))
    matrix[:] = 0
    matrix[rows, columns] = overlaps
    np.testing.assert_array_equal(matrix, tiou(a, b) * (groups[0][:, None] == groups[1]))
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == len(rows)
    assert (np.diff(rows) >= 0).all()


@given(boxes, st.data(), st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 0.6, 0.9, 1.0]))
def test_nms_is_the_plain_greedy_loop(intervals: list, data: st.DataObject, threshold: float) -> None:
    n = len(intervals)
    scores = np.array(data.draw(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=n, max_size=n)))
    groups = np.array(data.draw(st.lists(st.sampled_from([-3, 0, 7]), min_size=n, max_size=n)), dtype=np.int64)
    array = as_intervals(intervals)
    assert nms(array, scores, threshold).tolist() == plain_nms(array, scores, threshold)
    expected = []
    for group in sorted(set(groups.tolist())):
        members = np.flatnonzero(groups == group)
        expected += members[plain_nms(array[members], scores[members], threshold)].tolist()
    assert nms_grouped(array, scores, groups, threshold).tolist() == expected


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.6, 0.9])
@pytest.mark.parametrize("scale", [0.5, 20.0])
def test_nms_of_many_is_the_plain_greedy_loop(threshold: float, scale: float) -> None:
    random = np.random.default_rng(3)
    start = random.uniform(1e6, 1e6 + 100, 700)
    intervals = np.stack([start, start + random.exponential(scale, 700)], axis=1)
    scores = random.uniform(size=700)
    assert nms(intervals, scores, threshold).tolist() == plain_nms(intervals, scores, threshold)


def test_nms_of_a_long_chain_and_of_copies() -> None:
    start = np.arange(3000.0)
    chain = np.stack([start, start + 2], axis=1)  # neighbours have tIoU 1/3
    assert nms(chain, -start, 0.3).tolist() == list(range(0, 3000, 2))
    assert nms(chain, -start, 0.34).tolist() == list(range(3000))
    assert nms(np.tile([[0.0, 1.0]], (3000, 1)), np.zeros(3000), 0.99).tolist() == [0]


def test_an_overlap_equal_to_the_threshold_survives() -> None:
    assert nms([(0, 2), (1, 2)], [1, 0], 0.5).tolist() == [0, 1]
    assert nms([(0, 2), (0.999, 2)], [1, 0], 0.5).tolist() == [0]


@given(boxes)
def test_nms_keeps_the_best_and_its_result_is_stable(intervals: list) -> None:
    array, scores = as_intervals(intervals), np.arange(len(intervals), dtype=float)
    kept = nms(array, scores, 0.4)
    assert kept[:1].tolist() == ([len(intervals) - 1] if intervals else [])
    assert nms(array[kept], scores[kept], 0.4).tolist() == list(range(len(kept)))
    overlaps = tiou(array[kept], array[kept])
    assert (overlaps[~np.eye(len(kept), dtype=bool)] <= 0.4).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nms([(0, 1)], [1, 2], 0.5), "1 intervals need as many scores"),
        (lambda: nms([(0, 1)], [np.nan], 0.5), "score 0 is not a number"),
        (lambda: nms([(0, 1)], [1], 1.5), "not 1.5"),
        (lambda: nms([(0, 1), (3, 2)], [1, 1], 0.5), r"row 1 is \(3, 2\)"),
        (lambda: tiou([(0, np.inf)], [(0, 1)]), r"row 0 is \(0, inf\)"),
        (lambda: tiou([(0, 1, 2)], [(0, 1)]), r"shape \(1, 3\)"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()
