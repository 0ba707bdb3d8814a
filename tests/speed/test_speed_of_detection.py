"""The plain loops that detection is timed beside give the same results; the command prints and writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ssn_feat.errors import UserError
from ssn_feat.speed.detect import DetectSpeedOptions, measure_detect


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
    assert "plain loop" in capsys.readouterr().out


def test_sizes_are_checked() -> None:
    with pytest.raises(UserError, match="videos must be at least 1"):
        DetectSpeedOptions(videos=0)
