"""The plan for many hours: its constants are those measured, its counts those of real stores and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from bench.speed.scale import Measured, Quantity, ScaleOptions, plan, print_scale, told
from ssn_feat.annotations.activitynet import write_activitynet
from ssn_feat.annotations.dataset import Dataset, Instance, Video
from ssn_feat.errors import UserError
from ssn_feat.results.detections import Detections
from ssn_feat.store import create_store
from ssn_feat.store.packed import pack


def values(options: ScaleOptions, hours: float = 1.0) -> dict[str, float]:
    return {each.name: each.value for each in plan(options, hours)}


def recorded(file: str, name: str, note: str = "", unit: str = "") -> float:
    content: dict[str, Any] = json.loads((ROOT / "bench" / "results" / f"{file}.json").read_text())
    found = [f for f in content["figures"] if f["name"] == name and note in f["note"] and unit in f["unit"]]
    return float(found[0]["value"])


def test_constants_are_those_measured() -> None:
    pairs = 5
    parts = {
        each["part"]: each["seconds"] / 213 * 1e3
        for each in json.loads((ROOT / "bench" / "results" / "detect-epyc.json").read_text())["measurements"]
        if each["size"].startswith("213 videos")
    }
    expected = Measured(
        two_streams=pairs * recorded("extract-h100", "end to end", "tvl1_fixed", "snippets/s"),
        images=recorded("extract-h100", "network bninception", "float16, 256 images on the GPU"),
        decoding=recorded("extract-h100", "decoding"),
        dis_ms=recorded("extract-epyc", "stage flow"),
        crops_ms=recorded("extract-epyc", "stage crops"),
        network_ms=recorded("extract-epyc", "stage network") / 2,
        gpu_steps=recorded("fit-h100", "training", unit="steps/s"),
        cpu_steps=recorded("fit-xeon-2cores", "training", unit="steps/s"),
        detect_ms=parts["dense scoring"] + parts["filter, NMS, regression"],
    )
    assert vars(Measured()) == pytest.approx(vars(expected), rel=3e-3)


def test_an_hour_by_hand() -> None:
    found = values(ScaleOptions())
    assert found["videos"] == 18
    assert found["snippets"] == 18000
    assert found["features"] == 18000 * (2 * 1024 * 2 + 16)
    # 25 of 30 pairs of frames have a flow: 90,000 an hour.
    assert found["rgb + flow, tvl1_fixed: GPU-hours"] == pytest.approx(90_000 / 531.5 / 3600)
    # The measured 21 times real time.
    times = recorded("extract-h100", "end to end", "times real time")
    assert 1 / found["rgb + flow, tvl1_fixed: GPU-hours"] == pytest.approx(times, rel=1e-3)
    assert found["training: steps"] == 70 * 18 / 16


def test_all_but_shards_grows_as_the_hours() -> None:
    small, large = values(ScaleOptions(), 1000), values(ScaleOptions(), 100_000)
    assert large.pop("packed: files") == pytest.approx(100 * small.pop("packed: files"), rel=0.1)
    assert large == pytest.approx({name: 100 * value for name, value in small.items()})


def test_a_longer_stride_saves_all_but_decoding() -> None:
    often, seldom = values(ScaleOptions()), values(ScaleOptions(stride=12))
    for name in ("features", "rgb + flow, tvl1_fixed: GPU-hours", "rgb alone: GPU-hours"):
        assert seldom[name] == often[name] / 2
    assert seldom["decoding: core-hours"] == often["decoding: core-hours"]
    # Snippets that overlap share their pairs.
    dense = values(ScaleOptions(stride=1))
    assert dense["rgb + flow, tvl1_fixed: GPU-hours"] == pytest.approx(
        often["rgb + flow, tvl1_fixed: GPU-hours"] * 30 / 25
    )


def test_files_are_those_of_a_real_store(tmp_path: Path) -> None:
    options = ScaleOptions(video_seconds=20.0, fps=10.0, stride=20, widths=(4, 4))
    store = create_store(tmp_path / "s.zarr", {"made": "up"})
    times = np.arange(10.0)[:, None] * 2 + [0, 2]
    for number in range(3):
        store.write(f"v{number}", {"rgb": np.ones((10, 4)), "flow": np.ones((10, 4))}, times)
    inside = [path for video in (tmp_path / "s.zarr" / "videos").glob("v*") for path in (video, *video.rglob("*"))]
    found = values(options, 3 * 20 / 3600)
    assert sum(path.is_file() for path in inside) == pytest.approx(found["growing: files or objects"])
    assert len(inside) == pytest.approx(found["growing: inodes of a folder"])
    features = [path for path in inside if path.is_file() and path.name != "zarr.json"]
    checksums = 4 * len(features)
    assert sum(path.stat().st_size for path in features) - checksums == pytest.approx(found["features"])
    pack(store, tmp_path / "p.zarr")
    packed = sum(path.is_file() for path in (tmp_path / "p.zarr").rglob("*"))
    assert packed == found["packed: files"]


def test_text_files_are_as_large_as_real_ones(tmp_path: Path) -> None:
    many, each = 20, 15
    videos = [
        Video(
            f"video_validation_{i:07d}",
            200.0,
            "training",
            tuple(Instance(f"class{j:02d}", j * 13.31, j * 13.31 + 5.43) for j in range(each)),
        )
        for i in range(many)
    ]
    labels = tuple(f"class{j:02d}" for j in range(each))
    write_activitynet(Dataset("made up", {v.id: v for v in videos}, labels), tmp_path / "truth.json")
    found = values(ScaleOptions(), many * 200 / 3600)
    assert (tmp_path / "truth.json").stat().st_size == pytest.approx(found["annotations as JSON"], rel=0.2)
    rng = np.random.default_rng(0)
    count = many * 300
    detections = Detections(
        ids=tuple(v.id for v in videos),
        offsets=np.arange(many + 1) * 300,
        labels=labels,
        intervals=np.sort(rng.random((count, 2)) * 200, axis=1),
        classes=rng.integers(0, each, count),
        scores=rng.random(count),
    )
    detections.write(tmp_path / "found.json")
    assert (tmp_path / "found.json").stat().st_size == pytest.approx(found["detections as JSON"], rel=0.2)


def test_the_page_shows_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    print_scale(ScaleOptions())
    printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert printed in (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


def test_numbers_as_they_are_told() -> None:
    assert [told(Quantity("", "", v)) for v in (0.01234, 9.876, 126.4, 78_750, 1.26e9)] == [
        *("0.012", "9.88", "126", "78,800", "1,260,000,000"),
    ]
    assert [told(Quantity("", "", v, "bytes")) for v in (12, 4112, 7.4e13)] == ["12 B", "4.11 kB", "74 TB"]


@pytest.mark.parametrize("wrong", [{"stride": 0}, {"hours": (1.0, -1.0)}, {"widths": ()}, {"fps": float("inf")}])
def test_what_is_not_above_zero_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        ScaleOptions(**wrong)
    with pytest.raises(UserError, match="images"):
        Measured(images=0.0)
