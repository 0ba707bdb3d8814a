"""Files of detections side by side: numbers of the toolkit and of published tables, tables, outputs, faults."""

from __future__ import annotations

import csv
import json
import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from ssn_feat.annotations import Dataset, Instance, Video, write_activitynet
from ssn_feat.cli import load_yaml, save_yaml
from ssn_feat.errors import UserError
from ssn_feat.evaluation.evaluate import PRESETS, EvaluateOptions, evaluate, evaluate_detections
from ssn_feat.results.detections import Detections

LABELS = ("jump", "run")
DATASET = Dataset.of(
    "toy",
    [
        Video("one", 20.0, "testing", (Instance("jump", 0, 4), Instance("run", 10, 14), Instance("Ambiguous", 5, 7))),
        Video("two", 20.0, "testing", (Instance("run", 2, 6),)),
        Video("empty", 20.0, "testing"),
        Video("learned", 20.0, "training", (Instance("jump", 2, 6),)),
    ],
)
GOOD = {
    "one": ([[0.0, 4], [10, 14], [5, 7]], [0, 1, 1], [0.9, 0.8, 0.95]),
    "two": ([[2.0, 5]], [1], [0.7]),
    "empty": ([[0.0, 5]], [0], [0.99]),
}


@pytest.fixture
def options(tmp_path: Path) -> EvaluateOptions:
    write_activitynet(DATASET, tmp_path / "truth.json")
    Detections.of(LABELS, GOOD).write(tmp_path / "good.json")
    half = {"one": ([[0.0, 4]], [0], [0.5]), "two": ([[12.0, 15]], [1], [0.4])}
    Detections.of(LABELS, half).write(tmp_path / "half.json")
    return EvaluateOptions(
        files=(tmp_path / "good.json", tmp_path / "half.json"),
        annotations=str(tmp_path / "truth.json"),
        subset="testing",
        thresholds=(0.5, 0.8),
        bootstrap=50,
        quiet=True,
    )


def test_by_hand(options: EvaluateOptions) -> None:
    good, half = evaluate(options)
    # jump: a false alarm in the empty video ranks above the hit. run: the false alarm at 5-7 s ranks first.
    np.testing.assert_allclose(good.average_precision, [[1 / 2, 1 / 2], [2 / 3, (1 / 2) / 2]])
    np.testing.assert_allclose(half.average_precision, [[1, 1], [0, 0]])
    np.testing.assert_allclose(half.mean, [0.5, 0.5])
    assert (good.detections, good.lacking, half.lacking) == (5, 0, 0)


def test_videos_without_truth_can_be_left_out(options: EvaluateOptions) -> None:
    good, _ = evaluate(replace(options, empty_videos="ignore"))
    np.testing.assert_allclose(good.average_precision[0], [1, 1])
    assert good.detections == 4


def test_ambiguous_instances_forgive_in_the_definition_of_the_challenge(options: EvaluateOptions) -> None:
    good, _ = evaluate(replace(options, definition="thumos14"))
    np.testing.assert_allclose(good.average_precision[1], [1, 0.5])
    strict, _ = evaluate(replace(options, definition="thumos14", ambiguous="nothing"))
    assert strict.labels == ("Ambiguous", "jump", "run")
    np.testing.assert_allclose(strict.average_precision[2, 0], (1 / 2 + 2 / 3) / 2)


def test_videos_of_other_subsets_are_left_out_and_said(
    options: EvaluateOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    everywhere = GOOD | {"learned": ([[0.0, 1]], [0], [5.0])}
    Detections.of(LABELS, everywhere).write(options.files[0])
    good, _ = evaluate(replace(options, quiet=False))
    np.testing.assert_allclose(good.average_precision[0], [1 / 2, 1 / 2])
    said = capsys.readouterr().out
    assert "detections in 0 unknown videos and in 1 that are not evaluated are left out" in said
    assert "3 videos, 3 instances, 2 of 2 classes" in said
    assert "detections in the video without instances are false alarms" in said


def test_unknown_videos_are_refused_or_dropped(options: EvaluateOptions) -> None:
    Detections.of(LABELS, GOOD | {"stranger": ([[0.0, 1]], [0], [5.0])}).write(options.files[0])
    with pytest.raises(UserError, match=r"good.json: 1 of 4 videos are not in data set .*'stranger'; --unknown-videos"):
        evaluate(options)
    good, _ = evaluate(replace(options, unknown_videos="drop"))
    assert good.detections == 5
    counted, _ = evaluate(replace(options, unknown_videos="count"))
    assert counted.detections == 6
    np.testing.assert_allclose(counted.average_precision[0], [1 / 3, 1 / 3])
    with pytest.raises(UserError, match="--unknown-videos count contradicts --empty-videos ignore"):
        replace(options, unknown_videos="count", empty_videos="ignore")


def test_numbers_are_written(options: EvaluateOptions, tmp_path: Path) -> None:
    good, half = evaluate(replace(options, json=tmp_path / "o" / "n.json", csv=tmp_path / "n.csv"))
    content = json.loads((tmp_path / "o" / "n.json").read_text())
    assert content["tiou"] == [0.5, 0.8]
    assert content["protocol"] is None
    assert content["empty_videos"] == {"number": 1, "treatment": "count"}
    assert content["files"][0]["AP"]["jump"] == good.average_precision[0].tolist()
    assert content["files"][1]["mAP"] == half.mean.tolist()
    with (tmp_path / "n.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 2
    assert rows[0] == {"file": "good", "class": "", "tiou": "0.5", "ap": repr(float(good.mean[0]))}


def test_classes_without_truth_have_no_number(options: EvaluateOptions, tmp_path: Path) -> None:
    write_activitynet(DATASET.only(["two", "learned"]), tmp_path / "truth.json")
    two = {"two": GOOD["two"]}
    Detections.of(LABELS, two).write(options.files[0])
    first, *_ = evaluate(replace(options, files=options.files[:1], json=tmp_path / "n.json"))
    assert np.isnan(first.average_precision[0]).all()
    np.testing.assert_allclose(first.mean, [1, 0])
    assert json.loads((tmp_path / "n.json").read_text())["files"][0]["AP"]["jump"] == [None, None]


def test_tables_hold_hostile_names(
    options: EvaluateOptions, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    label = "[bold]$x$</script>"
    write_activitynet(Dataset.of("h", [Video("v", 9.0, "testing", (Instance(label, 0, 4),))]), tmp_path / "truth.json")
    path = tmp_path / "[red]d.json"
    Detections.of((label,), {"v": ([[0.0, 4]], [0], [1.0])}).write(path)
    picture = tmp_path / "p.svg"
    evaluate(replace(options, files=(path,), quiet=False, per_class=True, picture=picture, videos=("v",)))
    said = capsys.readouterr().out
    assert label in said
    assert "[red]d" in said
    assert picture.stat().st_size > 1000


def test_files_of_one_name_are_told_apart(options: EvaluateOptions, tmp_path: Path) -> None:
    other = tmp_path / "other" / "good.json"
    Detections.of(LABELS, GOOD).write(other)
    names = [e.name for e in evaluate(replace(options, files=(options.files[0], other)))]
    assert names == [f"{tmp_path.name}/good", "other/good"]
    with pytest.raises(UserError, match=r"good\.json is named twice"):
        evaluate(replace(options, files=(other, other)))


def test_timelines_are_drawn(options: EvaluateOptions, tmp_path: Path) -> None:
    evaluate(replace(options, picture=tmp_path / "p.png", videos=("one", "empty")))
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="cannot draw the video 'three'"):
        evaluate(replace(options, picture=tmp_path / "p.png", videos=("three",)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"thresholds": ()}, "one or more different tIoUs"),
        ({"thresholds": (0.5, 0.7, 0.5)}, "different tIoUs"),
        ({"picture": Path("x.png")}, "vice versa"),
        ({"curves": Path("x.jpg")}, "written as .png, .svg, .pdf, not 'x.jpg'"),
        ({"analysis_picture": Path("x.html")}, "not 'x.html'"),
        ({"videos": ("one",)}, "vice versa"),
        ({"bootstrap": -1}, "bootstrap must be at least 0"),
        ({"protocol": "thumos15"}, "no protocol 'thumos15'"),
        ({"protocol": "activitynet1.3"}, "uses the subset validation, not testing"),
    ],
)
def test_options_are_checked(options: EvaluateOptions, changes: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        replace(options, **changes)


def test_options_survive_yaml(options: EvaluateOptions, tmp_path: Path) -> None:
    save_yaml(options, tmp_path / "o.yaml")
    assert load_yaml(EvaluateOptions, tmp_path / "o.yaml") == options


def test_nothing_to_evaluate_is_said(options: EvaluateOptions, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one file"):
        evaluate(replace(options, files=()))
    write_activitynet(DATASET.only(["empty", "learned"]), tmp_path / "truth.json")
    with pytest.raises(UserError, match="none of the 1 video to evaluate has an instance"):
        evaluate(options)


def run_script(monkeypatch: pytest.MonkeyPatch, *flags: object) -> object:
    monkeypatch.setattr(sys, "argv", ["bench/detections.py", *map(str, flags)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "bench" / "detections.py"), run_name="__main__")
    return stopped.value.code


@pytest.mark.parametrize("score", ["NaN", '"x"'])
def test_the_script_says_what_is_wrong_in_a_line(
    options: EvaluateOptions, score: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = f'{{"label": "run", "score": {score}, "segment": [0, 1]}}'
    options.files[1].write_text(f'{{"results": {{"one": [{row}]}}}}')
    assert run_script(monkeypatch, *options.files, "--annotations", options.annotations) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "half.json: video 'one', detection 0 has the score" in said


def test_the_script_prints_a_table(
    options: EvaluateOptions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_script(monkeypatch, "thumos14", *options.files, "--annotations", options.annotations) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:4] in ("good", "half")]
    assert rows[:5] == ["good", "half", "good", "half", "half"]  # mAP, intervals, difference


def test_it_is_said_where_no_video_is_without_instances(
    options: EvaluateOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_activitynet(DATASET.only(["one", "two", "learned"]), tmp_path / "truth.json")
    evaluate(replace(options, files=options.files[1:], quiet=False))
    assert "all of these videos have instances" in capsys.readouterr().out


def test_a_protocol_says_what_counts(options: EvaluateOptions, capsys: pytest.CaptureFixture[str]) -> None:
    named = replace(options, subset=None, thresholds=None, protocol="testing", quiet=False)
    assert named.tious == tuple(round(0.05 * n, 2) for n in range(10, 20))
    good, half = evaluate(named)
    assert good.detections == 4  # not that in the video without truth
    said = capsys.readouterr().out
    assert "protocol testing: 2 videos with truth, 3 instances, subset testing" in said
    assert "the video without instances are left out (by the protocol" in said
    assert half.lacking == 0
    everything, _ = evaluate(replace(named, protocol="testing/all", thresholds=(0.5, 0.8), quiet=True))
    np.testing.assert_allclose(everything.average_precision, [[1 / 2, 1 / 2], [2 / 3, (1 / 2) / 2]])


def test_instances_that_a_file_cannot_reach_are_said(
    options: EvaluateOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    Detections.of(LABELS, {"one": GOOD["one"]}).write(options.files[0])
    evaluate(replace(options, quiet=False))
    assert "good.json: 1 of 3 videos is available; 1 of 3 instances cannot be found" in capsys.readouterr().out


def test_instances_after_the_end_of_their_videos_are_refused(options: EvaluateOptions, tmp_path: Path) -> None:
    shifted = json.loads((tmp_path / "truth.json").read_text())
    for video in shifted["database"].values():
        for instance in video["annotations"]:
            instance["segment"] = [second + 1000 for second in instance["segment"]]
    (tmp_path / "truth.json").write_text(json.dumps(shifted))
    with pytest.raises(UserError, match=r"3 of 3 intervals in the annotations .* are outside their video in the same"):
        evaluate(options)
    assert len(evaluate(replace(options, allow_duration_mismatch=True))) == 2


def test_intervals_and_paired_differences_are_written(options: EvaluateOptions, tmp_path: Path) -> None:
    good, half = evaluate(replace(options, json=tmp_path / "n.json", bootstrap=200))
    content = json.loads((tmp_path / "n.json").read_text())
    low, high = good.interval()
    assert (low <= [*good.mean, good.average]).all()
    assert (high >= [*good.mean, good.average]).all()
    assert content["files"][0]["mAP_95"] == np.column_stack([low, high])[:-1].tolist()
    [difference] = content["differences"]
    assert (difference["of"], difference["to"]) == ("half", "good")
    assert difference["average_mAP"] == pytest.approx(half.average - good.average)
    again, _ = evaluate(replace(options, bootstrap=200))
    np.testing.assert_array_equal(again.resampled, good.resampled)
    none, _ = evaluate(replace(options, bootstrap=0, json=tmp_path / "n.json"))
    assert none.resampled is None
    assert json.loads((tmp_path / "n.json").read_text())["differences"] == []


def test_equals_the_official_toolkit(golden: Callable[[str], Any], shared: Path) -> None:
    for grid, expected in golden("toolkit_results.json")["detection"].items():
        [found] = evaluate(
            EvaluateOptions(
                files=(shared / "golden" / "toolkit_detections.json",),
                annotations=str(shared / "golden" / "toolkit_gt.json"),
                subset="testing",
                thresholds=tuple(expected["tiou"]),
                unknown_videos="count",
                quiet=True,
            )
        )
        ours = dict(zip(found.labels, found.average_precision, strict=True))
        for label, values in expected["ap_per_class"].items():
            np.testing.assert_allclose(ours[label], values, rtol=0, atol=1e-9, err_msg=f"{grid} {label}")
        np.testing.assert_allclose(found.mean, expected["mAP"], rtol=0, atol=1e-9)
        assert found.average == pytest.approx(expected["average_mAP"], abs=1e-9)


@pytest.mark.parametrize("name", ["th14_test", "an12_val"])
def test_reproduces_published_tables(shared: Path, tmp_path: Path, name: str) -> None:
    content = json.loads((shared / "data" / "detections" / "autoloc" / f"{name}.json").read_text())
    labels = [f"{number:03d}" for number in range(1 + max(row[0] for row in content["ground_truth"]))]
    videos: dict[str, list[Instance]] = {}
    for label, video, start, end in content["ground_truth"]:
        videos.setdefault(video, []).append(Instance(labels[label], start, end))
    dataset = Dataset.of(name, [Video(v, 1.0, "testing", tuple(i)) for v, i in videos.items()], labels)
    found: dict[str, tuple[list, list, list]] = {}
    for label, video, start, end, score in content["detections"]:
        intervals, classes, scores = found.setdefault(video, ([], [], []))
        intervals.append((start, end))
        classes.append(label)
        scores.append(score)
    Detections.of(labels, found).write(tmp_path / "d.json")
    result = evaluate_detections(
        Detections.read(tmp_path / "d.json", labels), dataset, content["tiou"], elsewhere="count"
    )
    np.testing.assert_allclose(result.mean, content["published_mAP"], atol=6e-4)
    assert result.average == pytest.approx(content["published_average"], abs=6e-4)


def test_presets() -> None:
    assert PRESETS["activitynet"].thresholds[-1] == pytest.approx(0.95)
    assert len(PRESETS["activitynet"].thresholds) == 10
    assert PRESETS["thumos14-challenge"].definition == "thumos14"
    assert PRESETS["thumos14-ssn"].empty_videos == "ignore"
