"""A small data set of films with its store, its proposals and a network of a few weights: all that training from pixels
needs, in a second."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from ssn_feat.annotations import Dataset, Instance, Video, write_activitynet
from ssn_feat.extraction import ExtractOptions, extract
from ssn_feat.finetuning.end_to_end import EndToEndOptions
from ssn_feat.finetuning.pixel_training import PixelSteps
from ssn_feat.finetuning.pixels import PixelOptions
from ssn_feat.proposals import Proposals
from ssn_feat.training.fit_options import FitOptions, OptimisationOptions
from ssn_feat.video import SnippetOptions

BACKBONE = "small_films:tiny"


def tiny(channels: int) -> nn.Module:
    """A network of a few weights, as a user would write one.

    With FILMS_DIE_AFTER in the environment, process 1 of several is killed after so many steps.
    """
    module = nn.Sequential(
        nn.Conv2d(channels, 6, 5, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    )
    if os.environ.get("RANK") == "1":
        left = [int(os.environ.get("FILMS_DIE_AFTER", "-1"))]

        def count(own: nn.Module, *_: Any) -> None:
            left[0] -= own.training
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        module.register_forward_hook(count)
    return module


def smooth(channels: int) -> nn.Module:
    """A differentiable network for comparison with finite differences."""
    return nn.Sequential(nn.Conv2d(channels, 3, 3, stride=2), nn.Softplus(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@dataclass(frozen=True)
class Films:
    """Paths of a written data set."""

    folder: Path

    @property
    def annotations(self) -> str:
        return str(self.folder / "truth.json")

    @property
    def videos(self) -> Path:
        return self.folder / "videos"

    @property
    def store(self) -> Path:
        return self.folder / "features.zarr"

    def fit(self, out: Path, **changes) -> FitOptions:
        values = {
            "store": self.store,
            "annotations": self.annotations,
            "proposals": self.folder / "proposals.npz",
            "out": out,
            "device": "cpu",
            "quiet": True,
            "threads": 1,
            "optimisation": brief(),
        }
        return FitOptions(**(values | changes))

    def options(self, out: Path, fit: dict | None = None, **changes) -> EndToEndOptions:
        values = {"videos": self.videos, "weights": "random:0", "pixels": PixelOptions(workers=0)}
        values["trust_modules"] = (BACKBONE,)
        return EndToEndOptions(fit=self.fit(out, **(fit or {})), **(values | changes))


def brief(**changes) -> OptimisationOptions:
    """Four videos, four to a batch: a step an epoch."""
    return OptimisationOptions(**({"epochs": 3, "epoch_multiplier": 1, "batch_videos": 4, "lr": 0.05} | changes))


def write_films(folder: Path, streams: tuple[str, ...] = ("rgb", "flow"), backbone: str = BACKBONE) -> Films:
    """Four films in which a texture moves to the right or downwards for a while."""
    films = Films(folder)
    films.videos.mkdir()
    rng, videos, proposals = np.random.default_rng(0), [], {}
    for number in range(4):
        name = f"v{number}"
        writer = cv2.VideoWriter(str(films.videos / f"{name}.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (48, 40))
        texture = cv2.GaussianBlur(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8), (5, 5), 0)
        x = y = 0
        for frame in range(60):
            x, y = (x + 2 * (10 <= frame < 25)) % 40, (y + 2 * (35 <= frame < 50)) % 40
            writer.write(np.ascontiguousarray(texture[40 - y : 80 - y, 40 - x : 88 - x]))
        writer.release()
        truth = np.array([[1.0, 2.5], [3.5, 5.0]])
        instances = (Instance("right", *truth[0]), Instance("down", *truth[1]))
        videos.append(Video(name, 6.0, "training", instances))
        near = truth[rng.integers(2, size=8)] + rng.normal(0, 0.08, (8, 2))
        parts = truth[rng.integers(2, size=8), :1] + rng.uniform(0, 1.0, (8, 1)) + [[0.0, 0.4]]
        proposals[name] = np.concatenate([near, parts, [[2.5, 3.5], [5.0, 6.0], [0.0, 1.0]]])
    write_activitynet(Dataset.of("films", videos), folder / "truth.json")
    Proposals(proposals, {name: np.zeros(len(own)) for name, own in proposals.items()}, "made").save(
        folder / "proposals.npz"
    )
    extract(
        ExtractOptions(
            films.videos,
            films.store,
            backbone=(backbone,),
            weights=("random:0",),
            snippets=SnippetOptions(stride=3, streams=streams, crop=28, flow_method="dis"),
            jobs=1,
            device=("cpu",),
        )
    )
    return films


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def interrupt(monkeypatch: pytest.MonkeyPatch, function: Callable[[Any], Any], options: Any, at: int) -> None:
    """Call ``function(options)``, press Ctrl-C in step ``at`` (from 1), see it end."""
    taken, whole = [], PixelSteps.step

    def pressed(self: PixelSteps) -> torch.Tensor:
        taken.append(1)
        if len(taken) == at:
            os.kill(os.getpid(), signal.SIGINT)
        return whole(self)

    with monkeypatch.context() as patch:
        patch.setattr(PixelSteps, "step", pressed)
        with pytest.raises(KeyboardInterrupt):
            function(options)
    assert len(taken) == at
