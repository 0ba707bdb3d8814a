"""Recall@kx, precision-recall curves and calibration: by hand, by a plain reading, and against average precision."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ssn_feat.annotations import Dataset, Instance, Video, write_activitynet
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_precision import average_precision_of, mean_average_precision
from ssn_feat.evaluation.curves import RECALLS, calibration, calibration_of, precision_recall, recall_at_multiples
from ssn_feat.evaluation.evaluate import EvaluateOptions, evaluate
from ssn_feat.evaluation.matching import Scored, Truths, rank
from ssn_feat.results.detections import Detections


def rows(*table: tuple[int, int, float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    array = np.array(table, dtype=np.float64).reshape(-1, 4)
    return array[:, 0].astype(np.int64), array[:, 1].astype(np.int64), array[:, 2:]


def scored(*table: tuple[int, int, float, float]) -> Scored:
    return Scored(*rows(*table), -np.arange(len(table), dtype=np.float64))


TRUTHS = Truths(*rows((0, 0, 0, 10), (0, 0, 20, 30), (0, 1, 0, 10), (1, 0, 0, 10)))


def test_recall_by_hand() -> None:
    # Class 0 in video 0 has two truths: its first two detections count once, four twice. Nothing in video 1.
    detections = scored((0, 0, 0, 10), (0, 0, 0, 9), (0, 0, 50, 60), (0, 0, 20, 29), (0, 0, 20, 30), (0, 1, 40, 50))
    found = recall_at_multiples(detections, TRUTHS, 3, (0.5, 0.95), (1, 2, 3))
    np.testing.assert_allclose(found, [[1 / 6, 1 / 6], [2 / 6, 1 / 6], [2 / 6, 2 / 6]])


def test_one_detection_may_find_several_truths() -> None:
    truths = Truths(*rows((0, 0, 0, 10), (0, 0, 1, 10)))
    np.testing.assert_array_equal(recall_at_multiples(scored((0, 0, 0, 10)), truths, 1, (0.5,), (1,)), 1)


def test_recall_without_detections_or_truths() -> None:
    np.testing.assert_array_equal(recall_at_multiples(scored(), TRUTHS, 2, (0.5,), (1, 5)), 0)
    assert np.isnan(recall_at_multiples(scored((0, 0, 0, 1)), Truths(*rows()), 2, (0.5,), (1,))).all()
    with pytest.raises(UserError, match="at least 1"):
        recall_at_multiples(scored(), TRUTHS, 2, (0.5,), (0,))


def random_data(seed: int) -> tuple[Scored, Truths]:
    random = np.random.default_rng(seed)

    def some(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        intervals = np.sort(random.random((number, 2)), axis=1)
        return random.integers(0, 4, number), random.integers(0, 3, number), intervals

    return Scored(*some(90), random.permutation(90).astype(float)), Truths(*some(25))


@pytest.mark.parametrize("seed", range(3))
def test_recall_equals_its_plain_reading(seed: int) -> None:
    detections, truths = random_data(seed)
    for k in (1, 3):
        found, total = np.zeros(3), np.bincount(truths.classes, minlength=3)
        for video in range(4):
            for label in range(3):
                own = np.flatnonzero((truths.videos == video) & (truths.classes == label))
                tried = np.flatnonzero((detections.videos == video) & (detections.classes == label))
                tried = tried[np.argsort(-detections.scores[tried])][: k * len(own)]
                for a, b in truths.intervals[own]:
                    spans = detections.intervals[tried]
                    shared = np.clip(np.minimum(spans[:, 1], b) - np.maximum(spans[:, 0], a), 0, None)
                    found[label] += (shared / (b - a + spans[:, 1] - spans[:, 0] - shared) >= 0.4).any()
        expected = (found[total > 0] / total[total > 0]).mean()
        assert recall_at_multiples(detections, truths, 3, (0.4,), (k,)).item() == pytest.approx(expected)


def test_precision_recall_by_hand() -> None:
    truths = Truths(*rows((0, 0, 0, 10), (0, 0, 20, 30)))
    curve = precision_recall(rank(scored((0, 0, 0, 10), (0, 0, 50, 60), (0, 0, 20, 30)), truths, 2, (0.5,)), 0)
    np.testing.assert_allclose(curve[RECALLS <= 0.5], 1)
    np.testing.assert_allclose(curve[RECALLS > 0.505], 2 / 3)
    short = precision_recall(rank(scored((0, 0, 0, 10)), truths, 1, (0.5,)), 0)
    np.testing.assert_allclose(short[RECALLS > 0.505], 0)


@pytest.mark.parametrize("seed", range(3))
def test_the_area_under_the_curve_is_map(seed: int) -> None:
    ranked = rank(*random_data(seed), 3, (0.1, 0.3))
    area = [precision_recall(ranked, level)[1:].mean() for level in range(2)]
    np.testing.assert_allclose(area, mean_average_precision(average_precision_of(ranked)), atol=0.02)


def test_calibration_by_hand() -> None:
    found = calibration([0.1, 0.15, 0.9, 0.95, 1.0], [False, True, True, True, True], bins=2)
    np.testing.assert_allclose(found.score, [0.125, 0.95])
    np.testing.assert_allclose(found.precision, [0.5, 1])
    assert found.counts.tolist() == [2, 3]
    assert found.error == pytest.approx((2 * 0.375 + 3 * 0.05) / 5)


def test_scores_that_are_true_probabilities_are_calibrated() -> None:
    random = np.random.default_rng(0)
    scores = random.random(100_000)
    assert calibration(scores, random.random(100_000) < scores).error < 0.01


def test_scores_beyond_one_have_bins_of_equal_counts_and_no_error() -> None:
    found = calibration(np.arange(10) * 7.0, np.arange(10) >= 5, bins=5)
    assert found.counts.tolist() == [2] * 5
    np.testing.assert_allclose(found.precision, [0, 0, 0.5, 1, 1])
    assert np.isnan(found.error)
    assert found.plain["expected_calibration_error"] is None


def test_calibration_leaves_out_forgiven_detections_and_survives_none() -> None:
    truths, marks = Truths(*rows((0, 0, 0, 10))), Truths(*rows((0, 0, 40, 50)))
    detections = Scored(*rows((0, 0, 0, 10), (0, 0, 41, 44)), np.array([0.9, 0.8]))
    assert calibration_of(rank(detections, truths, 1, (0.5,), "thumos14", marks), 0).counts.tolist() == [1]
    assert calibration_of(rank(scored(), truths, 1, (0.5,)), 0).counts.tolist() == []


def test_the_command_says_and_draws_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = Dataset.of("d", [Video("v", 60.0, "testing", (Instance("a", 0, 10), Instance("b", 20, 30)))])
    write_activitynet(dataset, tmp_path / "t.json")
    Detections.of(("a", "b"), {"v": ([[0, 10], [40, 50]], [0, 1], [0.9, 0.3])}).write(tmp_path / "$x$.json")
    Detections.of(("a", "b"), {"v": ([[0, 10]], [0], [3.0])}).write(tmp_path / "big.json")
    evaluate(
        EvaluateOptions(
            files=(tmp_path / "$x$.json", tmp_path / "big.json"),
            annotations=str(tmp_path / "t.json"),
            thresholds=(0.5, 0.9),
            json=tmp_path / "n.json",
            curves=tmp_path / "c.svg",
        )
    )
    said = capsys.readouterr().out
    assert "$x$: error 0.200; big: scores are not probabilities" in said
    content = json.loads((tmp_path / "n.json").read_text())["files"][0]
    assert content["recall_at_multiples"] == {"1x": [0.5, 0.5], "5x": [0.5, 0.5]}
    assert content["calibration"]["detections"] == [1, 1]
    assert "<svg" in (tmp_path / "c.svg").read_text()[:1000]
    with pytest.raises(UserError, match="at least 1"):
        EvaluateOptions(files=(), annotations="x", multiples=(0,))
