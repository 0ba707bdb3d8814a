"""The plain loops that detection is timed beside give the same results; the command prints and writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.speed.detect import DetectSpeedOptions, measure_detect
from bench.speed.timing import Measurement, print_measurements
from ssn_feat.errors import UserError


def test_every_part_agrees_with_its_plain_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = DetectSpeedOptions(
        videos=6,
        classes=4,
        proposals=60,
        detections=80,
        width=16,
        compared=3,
        draws=10,
        runs=1,
        json=tmp_path / "speed.json",
    )
    parts = measure_detect(options)
    compared = [part for part in parts if part.agrees is not None]
    assert [part.part for part in compared] == ["dense scoring", "filter, NMS, regression", "mAP"]
    assert all(part.agrees for part in compared)
    assert "6 videos, 480 detections" in next(part.size for part in parts if part.part == "mAP")
    content = json.loads((tmp_path / "speed.json").read_text())
    assert content["machine"]["processor"]
    assert [row["part"] for row in content["measurements"]] == [part.part for part in parts]
    said = capsys.readouterr().out
    assert "plain loop" in said
    # Bars are of the full size alone.
    assert "bar" not in said


def test_bars_are_told_and_missed_ones_marked(capsys: pytest.CaptureFixture[str]) -> None:
    assert DetectSpeedOptions().bar(2.0) == 2.0
    assert DetectSpeedOptions(videos=212).bar(2.0) is None
    print_measurements([Measurement("quick", "it", 1.0, bar=2.0), Measurement("slow", "it", 3.0, bar=2.0)])
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert said[:3] == [
        ["part", "of", "seconds", "bar,", "s"],
        ["quick", "it", "1", "2"],
        ["slow", "it", "3", "2", "MISSED"],
    ]


def test_sizes_are_checked() -> None:
    with pytest.raises(UserError, match="videos must be at least 1"):
        DetectSpeedOptions(videos=0)
