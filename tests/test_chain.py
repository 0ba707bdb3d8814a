"""The whole chain by its commands, on a few short toy videos: what `make demo` does, small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT


def command(*arguments: object, code: int = 0) -> str:
    """Run a script of the project; its standard output (of a failure: its standard error as well)."""
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + (done.stderr if code else "")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with toy videos, features of both streams, actionness and proposals."""
    pytest.importorskip("efficientnet_lite_pytorch", reason="the demo's weights are not installed")
    work = tmp_path_factory.mktemp("chain")
    command("bench/toy.py", work / "toy", "--videos", 8, "--shortest", 6, "--longest", 9, "--jobs", 1)
    truth, network = work / "toy/annotations.json", ("--backbone", "efficientnet_lite0", "--crop", 64)
    command(
        *("train/fit.py", "backbone", "--stream", "flow", "--videos", work / "toy/videos", *network),
        *("--annotations", truth, "--steps", 3, "--batch", 4, "--workers", 1, "--out", work / "network"),
    )
    command(
        *("extract/run.py", work / "toy/videos", work / "f.zarr", "--annotations", truth, *network, "--stride", 8),
        *("--weights", f"flow={work / 'network/backbone.pt'}", "--jobs", 1),
    )
    small = ("small", "--store", work / "f.zarr", "--annotations", truth, "--epochs", 3)
    command("train/fit.py", "head", "actionness", *small, "--streams", "rgb", "flow", "--out", work / "actionness")
    command(
        *("train/propose.py", "--store", work / "f.zarr", "--actionness", work / "actionness"),
        *("--out", work / "tag.npz"),
    )
    for stream in ("rgb", "flow"):
        command(
            "train/fit.py",
            "head",
            "ssn",
            *small,
            "--streams",
            stream,
            "--proposals",
            work / "tag.npz",
            "--out",
            work / stream,
        )
    command(
        *("train/detect.py", "store", "--store", work / "f.zarr", "--proposals", work / "tag.npz"),
        *("--checkpoint", work / "rgb" / "checkpoint.pt", work / "flow", "--annotations", truth, "--subset", "testing"),
        *("--out", work / "fused.json", "--save-model", work / "model"),
    )
    return work


def test_from_videos_to_numbers_and_a_picture(work: Path) -> None:
    truth = work / "toy/annotations.json"
    said = command(
        *("bench/detections.py", work / "fused.json", "--annotations", truth, "--subset", "testing", "--per-class"),
        *("--json", work / "map.json", "--picture", work / "t.png", "--videos", "toy_0004"),
        *("--proposals", work / "tag.npz"),
    )
    assert "4 videos" in said
    measured = json.loads((work / "map.json").read_text())
    assert 0 <= measured["files"][0]["mAP"][0] <= 1
    assert (work / "t.png").read_bytes().startswith(b"\x89PNG")
    assert "tag" in command("bench/proposals.py", work / "tag.npz", "--annotations", truth, "--subset", "testing")


def test_a_page_of_it(work: Path) -> None:
    pytest.importorskip("plotly", reason="the extra `report` is not installed")
    said = command(
        *("bench/report.py", work / "fused.json", work / "tag.npz", work / "rgb", work / "actionness"),
        *("--annotations", work / "toy/annotations.json", "--subset", "testing", "--store", work / "f.zarr"),
        *("--videos", work / "toy/videos", "--out", work / "page" / "report.html"),
    )
    assert "4 videos" in said
    page = (work / "page" / "report.html").read_text(encoding="utf-8")
    assert '"source":"./../toy/videos/toy_0005.webm"' in page
    assert all(f"<h2>{title}</h2>" in page for title in ("Summary", "Errors", "Proposals", "Training", "Videos"))


def test_a_video_that_was_never_extracted(work: Path) -> None:
    video = work / "new film.webm"
    video.write_bytes((work / "toy/videos/toy_0005.webm").read_bytes())
    command("train/detect.py", "video", video, "--model", work / "model", "--out", work / "one.json")
    assert list(json.loads((work / "one.json").read_text())["results"]) == ["new film"]


def test_bad_input_is_one_clear_line(work: Path, tmp_path: Path) -> None:
    truth = work / "toy/annotations.json"
    network = ("--backbone", "efficientnet_lite0", "--crop", 64, "--jobs", 1)

    def error(*arguments: object) -> str:
        said = command(*arguments, code=2)
        assert said.startswith("error: "), said
        assert said.count("\n") == 1, said
        return said

    assert "no folder or file of videos" in error("extract/run.py", tmp_path / "none", tmp_path / "s.zarr", *network)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/film.mp4").write_bytes(b"no film" * 1000)
    said = command("extract/run.py", tmp_path / "bad", tmp_path / "s.zarr", *network, code=2)
    assert "film.mp4" in said
    assert "Traceback" not in said
    assert "stride" in error("extract/run.py", work / "toy/videos", work / "f.zarr", *network, "--stride", 9)
    content = json.loads(truth.read_text())
    del content["database"]["toy_0001"]["annotations"]
    (tmp_path / "truth.json").write_text(json.dumps(content))
    assert "toy_0001" in error(
        *("train/fit.py", "head", "actionness", "small", "--store", work / "f.zarr"),
        *("--annotations", tmp_path / "truth.json", "--out", tmp_path / "run"),
    )
    (tmp_path / "results.json").write_text(
        json.dumps(
            {
                "version": "",
                "external_data": {},
                "results": {"toy_0005": [{"label": "juggling", "score": 1.0, "segment": [0, 1]}]},
            }
        )
    )
    assert "juggling" in error("bench/detections.py", tmp_path / "results.json", "--annotations", truth)
    assert "no store" in error(
        "train/propose.py", "--store", tmp_path / "no.zarr", "--method", "sliding", "--out", tmp_path / "p.npz"
    ).replace("does not exist", "no store")
