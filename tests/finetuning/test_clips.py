"""Learning a backbone from trimmed instances."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from small_films import interrupt, same_weights
from torch import nn

from ssn_feat.annotations import Dataset, Instance, Video, write_activitynet
from ssn_feat.backbones import load_backbone
from ssn_feat.errors import UserError
from ssn_feat.finetuning.augmentation import AugmentationOptions
from ssn_feat.finetuning.clips import ClipOptions, ClipSet, FitClipsOptions, fit_clips, trimmed_rows
from ssn_feat.finetuning.feature_network import set_batch_norm
from ssn_feat.finetuning.pixels import PixelOptions
from ssn_feat.runs.checkpoints import load_run
from ssn_feat.video import SnippetOptions


def tiny(stream: str, channels: int) -> nn.Module:
    """A network of a few weights, as a user would write one."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    )


def test_rows_of_instances_and_of_gaps() -> None:
    video = Video("v", 10.0, "training", (Instance("a", 2.0, 4.0), Instance("b", 6.1, 6.2), Instance("a", 9.0, 10.0)))
    dataset = Dataset.of("d", [video])
    spans = np.stack([np.arange(10.0), np.arange(1.0, 11.0)], axis=1)
    assert trimmed_rows(video, dataset, spans, background=False) == [(2, 4, 0), (6, 7, 1), (9, 10, 0)]
    assert trimmed_rows(video, dataset, spans, background=True)[3:] == [(0, 2, 2), (4, 6, 2), (7, 9, 2)]


def test_every_part_of_an_instance_gives_one_snippet() -> None:
    clips = ClipSet(*np.array([[0, 1], [0, 7], [30, 1], [0, 1]]), ("a", "b"))
    for seed in range(20):
        drawn = clips.draw(np.array([0, 1]), 3, np.random.default_rng(seed))
        assert (drawn[0] // 10 == [0, 1, 2]).all()
        assert (drawn[1] == 7).all()


@pytest.mark.parametrize(("mode", "learning"), [("frozen", 0), ("partial", 1), ("full", 3)])
def test_batch_norm_modes(mode: str, learning: int) -> None:
    module = nn.Sequential(*(nn.BatchNorm2d(2) for _ in range(3))).train()
    set_batch_norm(module, mode)  # type: ignore[arg-type]
    assert [m.training for m in module] == [True] * learning + [False] * (3 - learning)
    assert [m.weight.requires_grad for m in module] == [True] * learning + [False] * (3 - learning)


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short videos in which a textured square moves to the right or downwards, with pauses between."""
    root = tmp_path_factory.mktemp("moving")
    rng = np.random.default_rng(0)
    videos = []
    for number in range(6):
        writer = cv2.VideoWriter(str(root / f"v{number}.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (48, 48))
        texture = rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)
        texture = cv2.GaussianBlur(texture, (5, 5), 0)
        x = y = 0
        for frame in range(60):
            x, y = (x + 2 * (10 <= frame < 25)) % 40, (y + 2 * (35 <= frame < 50)) % 40
            writer.write(np.ascontiguousarray(texture[40 - y : 88 - y, 40 - x : 88 - x]))
        writer.release()
        instances = (Instance("right", 1.0, 2.5), Instance("down", 3.5, 5.0))
        videos.append(Video(f"v{number}", 6.0, "training", instances))
    write_activitynet(Dataset.of("moving", videos), root / "truth.json")
    return root


def options(moving: Path, out: Path, **values: object) -> FitClipsOptions:
    given = {
        "videos": moving,
        "annotations": str(moving / "truth.json"),
        "out": out,
        "stream": "flow",
        "backbone": "test_clips:tiny",
        "weights": "random:0",
        "snippets": SnippetOptions(stride=3, crop=28, flow_method="dis"),
        "pixels": PixelOptions(workers=0, variation=AugmentationOptions(mirror=False)),
        "device": "cpu",
        "quiet": True,
        "threads": 1,
        "clips": ClipOptions(steps=100, batch=12, rate=0.01, drop=0),
        **values,
    }
    return FitClipsOptions(**given)  # type: ignore[arg-type]


def test_motion_is_learned_and_the_weights_are_read_back(moving: Path, tmp_path: Path) -> None:
    summary = fit_clips(options(moving, tmp_path / "run"))
    assert summary["final"]["accuracy"] > 0.75  # three classes
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "backbone.pt",
        "checkpoint.pt",
        "config.yaml",
        "environment.json",
        "hashes.json",
        "log.jsonl",
        "summary.json",
    ]
    learned = load_backbone("test_clips:tiny", "flow", tmp_path / "run" / "backbone.pt", input_size=28)
    start = load_backbone("test_clips:tiny", "flow", "random:0", input_size=28)
    pixels = torch.randint(256, (2, 10, 28, 28), dtype=torch.uint8)
    assert not torch.allclose(learned(pixels), start(pixels))
    with pytest.raises(UserError, match="already holds a run"):
        fit_clips(options(moving, tmp_path / "run"))
    assert fit_clips(options(moving, tmp_path / "run", resume=True)) == summary
    with pytest.raises(UserError, match="other options"):
        fit_clips(options(moving, tmp_path / "run", resume=True, clips=ClipOptions(steps=50)))
    with pytest.raises(UserError, match="no head for detections"):
        load_run(tmp_path / "run")


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(moving: Path, tmp_path: Path, monkeypatch) -> None:
    brief = {"clips": ClipOptions(steps=20, batch=6, rate=0.01), "stream": "rgb"}
    whole = fit_clips(options(moving, tmp_path / "whole", **brief))
    interrupt(monkeypatch, fit_clips, options(moving, tmp_path / "parts", **brief), 7)
    assert not (tmp_path / "parts" / "backbone.pt").exists()
    left = tmp_path / "parts" / "pictures"
    assert not left.exists()
    (left / "00").mkdir(parents=True)  # what kill -9 leaves
    parts = fit_clips(options(moving, tmp_path / "parts", resume=True, **brief))
    assert [parts["final"][name] for name in ("loss", "accuracy")] == [
        whole["final"][name] for name in ("loss", "accuracy")
    ]
    assert not left.exists()
    one, other = (torch.load(tmp_path / name / "backbone.pt", weights_only=True) for name in ("whole", "parts"))
    assert same_weights(one["state_dict"], other["state_dict"])


def test_what_does_not_fit_is_said(moving: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no subset"):
        fit_clips(options(moving, tmp_path / "a", subset="testing"))
    with pytest.raises(UserError, match="no folder or file of videos"):
        fit_clips(options(moving, tmp_path / "b", videos=tmp_path / "none"))
    with pytest.raises(UserError, match="steps"):
        ClipOptions(steps=0)
