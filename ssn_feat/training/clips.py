"""Learning a backbone on trimmed instances: classification of annotated actions by the consensus of a few snippets.

This is how the networks that the original starts from were made (temporal segment networks: a label for the mean of
the class scores of snippets spread over an instance). It gives both streams a backbone to anyone who has annotations,
from any weights; flow starts from RGB weights by inflation.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from ssn_feat.annotations import Dataset, Video, load
from ssn_feat.backbones import Backbone, load_backbone
from ssn_feat.cli import load_yaml
from ssn_feat.errors import UserError
from ssn_feat.extraction.sources import coverage
from ssn_feat.progress import progress_bar
from ssn_feat.training.checkpoints import RunFolder, describe
from ssn_feat.training.data import device_of
from ssn_feat.video import SnippetOptions, import_cv2, snippets

BatchNormMode = Literal["frozen", "partial", "full"]

# Sides of training crops as parts of the cached square, and how far the two sides of one crop may lie apart in this
# list (the original's multi-scale cropping).
_SCALES = (1.0, 0.875, 0.75, 0.66)

BACKBONE = "backbone.pt"


@dataclass(frozen=True)
class ClipSet:
    """Snippets of trimmed instances, on disk: row ``rows[i][j]`` of ``parts[source[i]]`` is snippet j of instance i."""

    parts: list[NDArray[np.uint8]]
    """Per video, uint8 (R, C, S, S)."""
    source: NDArray[np.int64]
    """Video of each instance, (I,)."""
    rows: list[tuple[int, int]]
    """First and past-the-last row of each instance in its part."""
    classes: NDArray[np.int64]
    """Class of each instance, (I,)."""
    names: tuple[str, ...]
    """Name of each class; the last is the background's where it was asked for."""

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, instances: NDArray[np.int64], segments: int, rng: np.random.Generator) -> torch.Tensor:
        """One snippet from each of ``segments`` equal parts of each instance: uint8 (N, segments, C, S, S)."""
        position = (np.arange(segments) + rng.random((len(instances), segments))) / segments
        bounds = np.array([self.rows[i] for i in instances])
        rows = bounds[:, :1] + (position * (bounds[:, 1:] - bounds[:, :1])).astype(np.int64)
        return torch.from_numpy(
            np.stack([self.parts[self.source[i]][picked] for i, picked in zip(instances, rows, strict=True)])
        )


def trimmed_rows(
    video: Video, dataset: Dataset, spans: NDArray[np.float64], background: bool
) -> list[tuple[int, int, int]]:
    """Row ranges ``[first, last)`` of a video's instances with their class: a list of (first, last, class).

    ``spans``: float64 (T, 2), seconds. A row belongs to an instance that holds its centre; an instance shorter than a
    snippet has the row nearest to its middle. With ``background``, the gaps between instances are instances of class
    ``len(dataset.labels)``.
    """
    centres = spans.mean(axis=1)
    found, inside = [], np.zeros(len(spans), dtype=bool)
    for instance in video.instances:
        first, last = np.searchsorted(centres, (instance.start, instance.end))
        if first == last:
            first = int(np.abs(centres - (instance.start + instance.end) / 2).argmin())
            last = first + 1
        inside[first:last] = True
        found.append((int(first), int(last), dataset.label_index[instance.label]))
    if background:
        edges = np.flatnonzero(np.diff(np.concatenate([[True], inside, [True]]).astype(np.int8)))
        found += [(int(a), int(b), len(dataset.labels)) for a, b in edges.reshape(-1, 2)]
    return found


def _cache_video(path: Path, options: SnippetOptions, target: Path) -> NDArray[np.float64]:
    """Write all snippets of one stream of a video as uint8 (T, C, S, S); returns the spans of its rows."""
    torch.set_num_threads(1)
    import_cv2().setNumThreads(1)
    stream, source = options.streams[0], snippets(path, options)
    np.save(target, np.concatenate([batch.streams[stream].numpy() for batch in source]))
    return source.grid.spans


def collect(
    dataset: Dataset, paths: dict[str, Path], options: SnippetOptions, folder: Path, background: bool, jobs: int
) -> ClipSet:
    """Decode the videos once and keep the snippets of their instances in ``folder`` (one file a video).

    ``paths``: the file of each video id; ``options``: one stream, with ``crop`` the side of the squares that are kept.
    Raises UserError for a video without a file and for a data set without instances.
    """
    missing = sorted(set(dataset.videos) - set(paths))
    if missing:
        raise UserError(f"no file for {len(missing)} of {len(dataset.videos)} videos, the first is {missing[0]!r}")
    folder.mkdir(parents=True, exist_ok=True)
    videos = list(dataset.videos.values())
    files = [folder / f"{index:06d}.npy" for index in range(len(videos))]
    work = (delayed(_cache_video)(paths[v.id], options, f) for v, f in zip(videos, files, strict=True))
    found: list[tuple[int, tuple[int, int], int]] = []
    with progress_bar("snippets of videos", len(videos)) as advance:
        for index, spans in enumerate(Parallel(n_jobs=jobs, return_as="generator")(work)):
            for first, last, label in trimmed_rows(videos[index], dataset, spans, background):
                found.append((index, (first, last), label))
            advance()
    if not any(label < len(dataset.labels) for _, _, label in found):
        raise UserError(f"data set {dataset.name!r} has no instance to learn from")
    return ClipSet(
        [np.load(file, mmap_mode="r") for file in files],
        np.array([f[0] for f in found]),
        [f[1] for f in found],
        np.array([f[2] for f in found]),
        dataset.labels + (("background",) if background else ()),
    )


def augment(pixels: torch.Tensor, size: int, flow: bool, generator: torch.Generator) -> torch.Tensor:
    """Random crops, scales, aspect ratios and mirroring, the same for all snippets of an instance.

    ``pixels``: uint8 (N, segments, C, S, S) -> uint8 (N, segments, C, size, size). Mirroring inverts the x channels of
    flow. Sides are drawn as in the original's multi-scale cropping, positions uniformly.
    """
    count, segments, channels = pixels.shape[:3]
    scales = torch.tensor(_SCALES)
    width = torch.randint(len(_SCALES), (count,), generator=generator)
    height = (width + torch.randint(-1, 2, (count,), generator=generator)).clamp(0, len(_SCALES) - 1)
    sides = torch.stack([scales[width], scales[height]], dim=1)
    centres = (torch.rand((count, 2), generator=generator) * 2 - 1) * (1 - sides)
    mirrored = torch.rand(count, generator=generator) < 0.5
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = torch.where(mirrored, -sides[:, 0], sides[:, 0])
    theta[:, 1, 1] = sides[:, 1]
    theta[:, :, 2] = centres
    grid = functional.affine_grid(theta, [count, 1, size, size], align_corners=False)
    flat = pixels.reshape(count, segments * channels, *pixels.shape[3:]).float()
    cut = functional.grid_sample(flat, grid, mode="bilinear", padding_mode="border", align_corners=False)
    cut = cut.reshape(count, segments, channels, size, size)
    if flow:
        cut[mirrored, :, 0::2] = 255 - cut[mirrored, :, 0::2]
    return cut.round_().to(torch.uint8)


def set_batch_norm(module: nn.Module, mode: BatchNormMode) -> None:
    """Which batch-norm layers learn: none (``frozen``), the first (``partial``, as the original) or all (``full``)."""
    layers = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    learning = {"frozen": 0, "partial": 1, "full": len(layers)}[mode]
    for index, layer in enumerate(layers):
        layer.train(index < learning)
        layer.requires_grad_(index < learning)


@dataclass(frozen=True)
class ClipOptions:
    """How a backbone is learned from the snippets of trimmed instances."""

    segments: int = 3
    """Snippets whose class scores are averaged, one from each equal part of an instance."""
    background: bool = True
    """Whether the gaps between instances are a class of their own."""
    steps: int = 300
    """Optimiser steps."""
    batch: int = 16
    """Instances a step; classes are drawn with equal probability."""
    rate: float = 0.001
    """Peak learning rate of the backbone (AdamW, warm-up of a tenth of the steps, then a cosine to 0)."""
    classifier_rate: float = 0.01
    """Peak learning rate of the classifier, which starts from nothing."""
    decay: float = 0.05
    """Weight decay."""
    drop: float = 0.5
    """Dropout before the classifier."""
    batch_norm: BatchNormMode = "full"
    """Which batch-norm layers learn: frozen, partial (the first) or full."""

    def __post_init__(self) -> None:
        for name in ("segments", "steps", "batch"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.drop < 1:
            raise UserError(f"drop must lie in [0, 1), not {self.drop}")


def learn(
    backbone: Backbone,
    clips: ClipSet,
    options: ClipOptions,
    seed: int,
    report: Callable[[dict[str, float]], None] = lambda _: None,
) -> dict[str, float]:
    """Train ``backbone`` (loaded with ``trainable=True``) in place; returns mean loss and accuracy of the last tenth.

    Raises UserError when the loss is not finite.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    # Channels last: a third less time a step on a CPU, and what a GPU's tensor cores want.
    module = backbone.module.to(memory_format=torch.channels_last)
    classifier = nn.Linear(backbone.feature_dim, len(clips.names)).to(backbone.device)
    nn.init.normal_(classifier.weight, std=0.001)
    nn.init.zeros_(classifier.bias)
    module.train()
    set_batch_norm(module, options.batch_norm)
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for p in module.parameters() if p.requires_grad], "lr": options.rate},
            {"params": list(classifier.parameters()), "lr": options.classifier_rate},
        ],
        weight_decay=options.decay,
    )
    warm = max(options.steps // 10, 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min((step + 1) / warm, 0.5 * (1 + np.cos(np.pi * step / options.steps))),
    )
    by_class = [np.flatnonzero(clips.classes == label) for label in np.unique(clips.classes)]
    history: list[tuple[float, float]] = []
    for step in range(options.steps):
        instances = np.array([rng.choice(by_class[c]) for c in rng.integers(len(by_class), size=options.batch)])
        pixels = augment(
            clips.draw(instances, options.segments, rng), backbone.input_size, backbone.stream == "flow", generator
        )
        features = module(backbone.preprocess(pixels.flatten(0, 1)))
        features = functional.dropout(features, options.drop)
        scores = classifier(features).unflatten(0, (len(instances), options.segments)).mean(dim=1)
        target = torch.from_numpy(clips.classes[instances]).to(scores.device)
        loss = functional.cross_entropy(scores, target)
        if not torch.isfinite(loss):
            raise UserError(f"the loss is {loss.item()} at step {step}: lower rate (now {options.rate})")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        history.append((loss.item(), (scores.argmax(1) == target).float().mean().item()))
        report({"loss": history[-1][0], "accuracy": history[-1][1]})
    module.eval().requires_grad_(True)
    tail = np.array(history[-max(options.steps // 10, 1) :]).mean(axis=0)
    return {"loss": float(tail[0]), "accuracy": float(tail[1])}


@dataclass(frozen=True)
class FitClipsOptions:
    """Learn a backbone from trimmed instances; extract/run.py --weights STREAM=OUT/backbone.pt then uses it."""

    videos: Path
    """Folder of the videos, as for extract/run.py."""
    annotations: str
    """Annotations of the same videos: a path, or DIALECT:PATH."""
    out: Path
    """Folder of the run, made by this command."""
    stream: Literal["rgb", "flow"]
    """Stream whose backbone is learned."""
    head: Literal["clips"] = "clips"
    """clips: this command."""
    backbone: str = "bninception"
    """Network to start from, as for extract/run.py."""
    weights: str | None = None
    """Weights to start from; default: the network's own. Those of an RGB network are inflated for flow."""
    crop: int | None = None
    """Side of the network's input, pixels; default: its own. Extract with the same."""
    subset: str = "training"
    """Subset of the annotations to train on."""
    prefix: str = ""
    """What file names have before the video's id."""
    stride: int = 8
    """Frames from one snippet of an instance to the next."""
    flow_method: Literal["dis", "farneback"] = "dis"
    """Optical flow algorithm; extract with the same."""
    jobs: int = 2
    """Processes that decode videos."""
    seed: int = 0
    """Decides what is drawn and the classifier's initial weights."""
    device: str = "auto"
    """Where to train: cpu, cuda, cuda:1, ...; auto takes a GPU if there is one."""
    resume: bool = False
    """Leave a finished run in OUT as it is; an interrupted one is started anew (it takes minutes)."""
    overwrite: bool = False
    """Replace a run that OUT already holds."""
    clips: ClipOptions = ClipOptions()
    """How it is learned."""

    def __post_init__(self) -> None:
        if self.jobs < 1 or self.seed < 0:
            raise UserError(f"jobs must be at least 1 and seed at least 0, they are {self.jobs} and {self.seed}")


def fit_clips(options: FitClipsOptions) -> dict[str, Any]:
    """Learn a backbone from trimmed instances; the run folder OUT then holds its weights as backbone.pt."""
    folder = RunFolder(options.out)
    if (options.out / BACKBONE).exists() and not options.overwrite:
        if not options.resume:
            raise UserError(f"{options.out} holds a run already: add --resume or --overwrite, or another --out")
        held = load_yaml(FitClipsOptions, options.out / "config.yaml")
        if replace(options, out=held.out, jobs=held.jobs, resume=False) != held:
            raise UserError(f"{options.out} holds a run with other options (see its config.yaml): choose another --out")
        return folder.finished(quiet=False)
    device = str(device_of(options.device))
    backbone = load_backbone(
        options.backbone, options.stream, options.weights, device, trainable=True, input_size=options.crop
    )
    found = coverage(options.videos, options.annotations, (options.subset,), options.prefix)
    dataset = load(options.annotations).subset(options.subset)
    # A square of the short side: the crops of training move within it.
    side = round(backbone.input_size * 256 / 224)
    cut = SnippetOptions(
        stride=options.stride,
        streams=(options.stream,),
        flow_method=options.flow_method,
        short_side=side,
        crop=side,
    )
    folder.begin(options)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=options.out, prefix="snippets-") as cache:
        clips = collect(dataset, found.videos, cut, Path(cache), options.clips.background, options.jobs)
        with progress_bar(f"training {options.backbone} on {len(clips)} clips", options.clips.steps) as advance:
            final = learn(backbone, clips, options.clips, options.seed, lambda terms: advance(1, describe(terms)))
    backbone.save(options.out / BACKBONE)
    summary = {
        "head": "clips",
        "videos": len(dataset.videos),
        "steps": options.clips.steps,
        "seconds": round(time.perf_counter() - started, 3),
        "final": final,
    }
    folder.summarise(summary)
    return folder.finished(quiet=False)
