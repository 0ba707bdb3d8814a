"""Score thresholds chosen on some videos and measured on others, on cases made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssn_feat.annotations import Dataset, Instance, Video, write_activitynet
from ssn_feat.errors import UserError
from ssn_feat.evaluation.choose_operating_point import MEASURES, choose_operating_point
from ssn_feat.evaluation.evaluate import EvaluateOptions, evaluate_files
from ssn_feat.evaluation.operating_point_options import OperatingPointOptions
from ssn_feat.results.detections import Detections
from ssn_feat.results.operating_point import OperatingPoint

LABELS = ("jump", "run")


def video(name: str, subset: str, jumps: int, runs: int) -> Video:
    """An hour with jumps at every 100th second and runs 50 seconds later."""
    instances = [Instance("jump", 100.0 * n, 100.0 * n + 10) for n in range(jumps)]
    instances += [Instance("run", 100.0 * n + 50, 100.0 * n + 60) for n in range(runs)]
    return Video(name, 3600.0, subset, tuple(instances))


DATASET = Dataset.of(
    "toy",
    [
        *(video("a", "validation", 3, 0), video("b", "validation", 1, 1)),
        *(video("c", "testing", 2, 1), video("d", "testing", 2, 0), video("t", "training", 2, 2)),
    ],
    LABELS,
)
# By video: start, class, score. Starts at 1000 s and later are false.
ROWS = {
    "a": [(0, 0, 0.9), (100, 0, 0.7), (1000, 0, 0.8), (1100, 0, 0.5), (1200, 0, 0.4)],
    "b": [(0, 0, 0.6), (50, 1, 0.3), (1000, 1, 0.35)],
    "c": [(0, 0, 0.9), (100, 0, 0.2), (1000, 0, 0.95), (50, 1, 0.8)],
    "d": [(0, 0, 0.65), (1000, 1, 0.5)],
    "t": [(0, 0, 0.99), (100, 0, 0.98), (50, 1, 0.97), (150, 1, 0.96)],
}


@pytest.fixture
def options(tmp_path: Path) -> OperatingPointOptions:
    write_activitynet(DATASET, tmp_path / "truth.json")
    videos: dict[str, Any] = {
        name: ([[start, start + 10] for start, _, _ in rows], [c for _, c, _ in rows], [s for *_, s in rows])
        for name, rows in ROWS.items()
    }
    Detections.of(LABELS, videos).write(tmp_path / "found.json")
    return OperatingPointOptions(
        tmp_path / "found.json", str(tmp_path / "truth.json"), test_subset="testing", minimum_instances=2, quiet=True
    )


def test_thresholds_by_hand(options: OperatingPointOptions) -> None:
    # Validation: jump has 4 instances; by score: right, false, right, right, false, false.
    # F1 is highest with the first four (6 / 8). run has one instance and gets the threshold of all.
    # All: 5 instances; the first four (6 / 9) again.
    point, _ = choose_operating_point(options)
    assert point.thresholds == {"jump": 0.6, "run": 0.6}
    assert point.pooled == ("run",)
    assert str(point) == "best F1 at tIoU 0.5, chosen on 2 videos of validation of truth"
    alone, _ = choose_operating_point(replace(options, minimum_instances=1))
    assert alone.thresholds == {"jump": 0.6, "run": 0.3}
    strict, _ = choose_operating_point(replace(options, precision=1.0, minimum_instances=1))
    assert strict.thresholds == {"jump": 0.9, "run": None}
    # Two hours: at most one false alarm of a class in 2 hours.
    quiet, _ = choose_operating_point(replace(options, false_alarms=0.5, minimum_instances=1))
    assert quiet.thresholds == {"jump": 0.6, "run": 0.3}


def test_measures_by_hand(options: OperatingPointOptions, tmp_path: Path) -> None:
    # Testing: jump from 0.6 on: 0.95 false, 0.9 and 0.65 right, of 4; run: 0.8 right, of 1. Two hours.
    _, measured = choose_operating_point(replace(options, json=tmp_path / "n.json"))
    assert measured.labels == (*LABELS, "all classes")
    assert measured.instances == (4, 1, 5)
    expected = [[2 / 3, 2 / 4, 4 / 7, 0.5], [1, 1, 1, 0], [3 / 4, 3 / 5, 6 / 9, 0.5]]
    np.testing.assert_allclose(measured.values, expected)
    assert measured.low is not None
    assert measured.high is not None
    assert (measured.low <= measured.values + 1e-9).all()
    assert (measured.high >= measured.values - 1e-9).all()
    written = json.loads((tmp_path / "n.json").read_text())
    assert written["measured"]["values"]["all classes"] == dict(zip(MEASURES, expected[2], strict=True))
    assert written["operating_point"]["thresholds"] == {"jump": 0.6, "run": 0.6}


def test_a_draw_is_a_set_of_copied_videos(options: OperatingPointOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = np.array([[2.0, 0.0], [0.0, 2.0]])  # c twice, d twice
    monkeypatch.setattr("ssn_feat.evaluation.choose_operating_point.draw_videos", lambda *_: drawn)
    _, measured = choose_operating_point(options)
    draws = np.array([2 / 3, 1])  # precision of all: c has 2 right and 1 false, d has 1 right
    spread = np.quantile(draws, [0.025, 0.975]) - draws.mean()
    assert measured.low is not None
    np.testing.assert_allclose(measured.low[2, 0], 3 / 4 + spread[0])


def test_what_makes_figures_too_good_is_said(
    options: OperatingPointOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    choose_operating_point(replace(options, quiet=False))
    said = capsys.readouterr().out
    assert "warning" not in said
    assert "run: fewer than 2 instances to choose on, so the threshold of all classes together" in said
    assert "mAP of all detections at tIoU 0.5: 0." in said
    choose_operating_point(replace(options, quiet=False, test_subset=None, subset="testing"))
    assert "warning: 2 of 2 videos that the thresholds are measured on were also used" in capsys.readouterr().out
    choose_operating_point(replace(options, quiet=False, subset="train"))
    assert "warning: heads were trained on the subset training" in capsys.readouterr().out
    model = tmp_path / "model"
    (model / "ssn-1").mkdir(parents=True)
    (model / "model.yaml").touch()
    (model / "ssn-1" / "config.yaml").write_text("subset: val\n")
    choose_operating_point(replace(options, quiet=False, model=model, precision=1.0, minimum_instances=1))
    said = capsys.readouterr().out
    assert "warning: heads were trained on the subset validation" in said
    assert "run: no threshold gives precision 1 on the videos to choose on, so none is kept" in said
    assert OperatingPoint.load(model).thresholds == {"jump": 0.9, "run": None}


def test_it_cleans_results_and_explains_them(options: OperatingPointOptions, tmp_path: Path) -> None:
    point, measured = choose_operating_point(replace(options, out=tmp_path / "point.json"))
    assert OperatingPoint.load(tmp_path / "point.json") == point
    clean = point.keep(Detections.read(options.detections))
    assert clean.ids == tuple(ROWS)
    assert [len(clean[name].scores) for name in ROWS] == [3, 1, 3, 1, 4]
    how = EvaluateOptions(
        (options.detections,), options.annotations, subset="testing", operating_point=tmp_path / "point.json"
    )
    [explanation] = evaluate_files(replace(how, bootstrap=0)).explanations
    assert (explanation.total.found, explanation.total.outranked, explanation.total.false_alarms) == (3, 1, 1)
    assert explanation.operating_point == str(point)
    np.testing.assert_allclose(explanation.total.found / explanation.total.instances, measured.values[2, 1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"precision": 0.9, "false_alarms": 2.0}, "give one of them"),
        ({"precision": 1.5}, "precision is a share above 0"),
        ({"false_alarms": -1.0}, "must not be negative"),
        ({"tiou": 0.0}, "tiou must be above 0"),
        ({"minimum_instances": 0}, "minimum_instances"),
        ({"bootstrap": -1}, "bootstrap"),
        ({"out": Path()}, "--model writes into a model folder"),
        ({"subset": "nothing"}, "no subset 'nothing'"),
        ({"model": Path("nowhere")}, "nowhere is not a model folder"),
        ({"tiou": 1.0, "test_subset": None, "detections": Path("none.json")}, "none.json"),
    ],
)
def test_bad_requests_are_named(options: OperatingPointOptions, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        choose_operating_point(replace(options, **changes))


def test_nothing_correct_is_an_error(options: OperatingPointOptions, tmp_path: Path) -> None:
    Detections.of(LABELS, {"a": ([[1000, 1010]], [0], [0.5])}).write(tmp_path / "bad.json")
    with pytest.raises(UserError, match="no threshold gives best F1 for any class on 2 validation videos"):
        choose_operating_point(replace(options, detections=tmp_path / "bad.json"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "expected a JSON object"),
        ("{", "is not JSON"),
        ("{}", "thresholds"),
        ('{"thresholds": {"a": "x"}, "criterion": "c", "tiou": 0.5, "chosen_on": "v"}', "thresholds"),
        ('{"thresholds": {"a": Infinity}, "criterion": "c", "tiou": 0.5, "chosen_on": "v"}', "finite"),
    ],
)
def test_files_that_are_not_an_operating_point_are_named(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(UserError, match=said) as error:
        OperatingPoint.load(tmp_path / "p.json")
    assert "p.json" in str(error.value)
    with pytest.raises(UserError, match=r"there is no operating point .*--model writes one"):
        OperatingPoint.load(tmp_path)


def test_a_file_without_the_videos_of_a_subset_is_refused(options: OperatingPointOptions) -> None:
    found = json.loads(options.detections.read_text())
    found["results"] = {name: rows for name, rows in found["results"].items() if name in "ab"}
    options.detections.write_text(json.dumps(found))
    with pytest.raises(UserError, match=r"of none of the 2 testing videos with instances; name .* --test-detections"):
        choose_operating_point(options)
    with pytest.raises(UserError, match=r"of none of the 2 testing videos with instances$"):
        choose_operating_point(replace(options, subset="testing", test_detections=options.detections))


def test_videos_without_detections_are_said(options: OperatingPointOptions, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(options.detections.read_text())
    del found["results"]["d"]
    options.detections.write_text(json.dumps(found))
    choose_operating_point(replace(options, quiet=False))
    shown = capsys.readouterr().out
    assert "1 of 2 videos is available; 2 of 5 instances cannot be found" in shown
    assert "not evaluated" not in shown
