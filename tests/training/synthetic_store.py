"""A small data set whose features tell the classes apart: a store, annotations and proposals in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ssn_feat.annotations import Dataset, Instance, Video, write_activitynet
from ssn_feat.proposals import Proposals
from ssn_feat.runs.checkpoints import read_run_checkpoint
from ssn_feat.store import create_store
from ssn_feat.training.fit_options import ActionnessOptions, FitOptions, OptimisationOptions

LABELS = ("climb", "jump", "run")
CELL = 0.25


@dataclass(frozen=True)
class Synthetic:
    """Paths of a written data set, and what is in it."""

    folder: Path
    dataset: Dataset

    @property
    def store(self) -> Path:
        return self.folder / "features.zarr"

    @property
    def annotations(self) -> str:
        return str(self.folder / "annotations.json")

    @property
    def proposals(self) -> Path:
        return self.folder / "proposals.npz"

    def options(self, out: Path, **changes) -> FitOptions:
        """Options of a run of a second or less."""
        values = {
            "store": self.store,
            "annotations": self.annotations,
            "proposals": self.proposals,
            "out": out,
            "streams": ("rgb",),
            "standardise": True,
            "quiet": True,
            "device": "cpu",
            "actionness": ActionnessOptions(action_rows=6, background_rows=6),
            "optimisation": quick(),
        }
        return FitOptions(**(values | changes))


def quick(**changes) -> OptimisationOptions:
    values = {"epochs": 4, "epoch_multiplier": 8, "batch_videos": 8, "optimiser": "adamw", "lr": 0.01}
    return OptimisationOptions(**(values | {"schedule": "cosine", "weight_decay": 0.01} | changes))


def write(folder: Path, videos: int = 18, dim: int = 24, seed: int = 0) -> Synthetic:
    """Two thirds of the videos are for training; the last training video has no instance."""
    generator = np.random.default_rng(seed)
    means = generator.normal(size=(2, len(LABELS) + 1, dim))
    store = create_store(folder / "features.zarr", {"backbone": "synthetic", "streams": ["rgb", "flow"]}, "toy")
    made, proposals = [], {}
    training = videos * 2 // 3
    for number in range(videos):
        duration = float(generator.uniform(20, 30))
        edges = np.linspace(0, duration, int(duration / CELL) + 1)
        spans = np.stack((edges[:-1], edges[1:]), axis=1)
        instances = () if number == training - 1 else _instances(duration, generator)
        rows = means[:, _classes(spans, instances)] + 0.6 * generator.normal(size=(2, len(spans), dim))
        name = f"v/{number:02d}"
        store.write(name, {"rgb": rows[0], "flow": rows[1]}, spans, {"duration": duration, "fps": 25.0})
        made.append(Video(name, duration, "training" if number < training else "testing", instances))
        proposals[name] = _proposals(made[-1], generator)
    dataset = Dataset.of("toy", made, LABELS)
    write_activitynet(dataset, folder / "annotations.json")
    scores = {name: np.zeros(len(own)) for name, own in proposals.items()}
    Proposals(proposals, scores, "synthetic").save(folder / "proposals.npz")
    return Synthetic(folder, dataset)


def _instances(duration: float, generator: np.random.Generator) -> tuple[Instance, ...]:
    found, at = [], generator.uniform(1, 4)
    while at < duration - 6:
        length = generator.uniform(2, 5)
        found.append(Instance(LABELS[generator.integers(len(LABELS))], at, at + length))
        at += length + generator.uniform(2, 5)
    return tuple(found)


def _classes(spans: np.ndarray, instances: tuple[Instance, ...]) -> np.ndarray:
    centres, classes = spans.mean(axis=1), np.zeros(len(spans), dtype=int)
    for instance in instances:
        classes[(centres >= instance.start) & (centres < instance.end)] = LABELS.index(instance.label) + 1
    return classes


def _proposals(video: Video, generator: np.random.Generator) -> np.ndarray:
    """Around each instance some that nearly fit and some that hold a quarter of it; some anywhere."""
    found = []
    for instance in video.instances:
        length = instance.end - instance.start
        shift = 0.08 * length * generator.normal(size=(6, 2))
        found.append(np.array([instance.start, instance.end]) + shift)
        starts = instance.start + generator.uniform(0, 0.7, 8) * length
        found.append(np.stack((starts, starts + 0.25 * length), axis=1))
    starts = generator.uniform(0, video.duration - 3, 20)
    found.append(np.stack((starts, starts + generator.uniform(1, 3, 20)), axis=1))
    return np.clip(np.concatenate(found), 0, video.duration)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Those that the checkpoint of a run holds."""
    return read_run_checkpoint(folder / "checkpoint.pt")["model"]


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name
