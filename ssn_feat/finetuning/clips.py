"""Learning a backbone on trimmed instances: classification of annotated actions by the consensus of a few snippets.

This is how the networks that the original starts from were made (temporal segment networks: a label for the mean of
the class scores of snippets spread over an instance). It gives both streams a backbone to anyone who has annotations,
from any weights; flow starts from RGB weights by inflation.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ssn_feat.annotations import Dataset, Video, read_annotations
from ssn_feat.backbones import Backbone, load_backbone
from ssn_feat.backbones.weights import save_state
from ssn_feat.cli import to_dict
from ssn_feat.errors import UserError
from ssn_feat.extraction.video_files import list_video_files
from ssn_feat.finetuning.distributed import Processes, processes
from ssn_feat.finetuning.feature_network import TuningOptions
from ssn_feat.finetuning.pixel_runs import BACKBONE, PixelFolder, train
from ssn_feat.finetuning.pixel_training import PixelSteps, PixelTraining, begin_training
from ssn_feat.finetuning.pixels import PixelOptions, PixelSource, Request, index_videos, reader_of
from ssn_feat.heads.dropout import dropout
from ssn_feat.heads.ssn import initialise
from ssn_feat.sampling.draws import epoch_generator
from ssn_feat.training.fit_options import OptimisationOptions
from ssn_feat.training.training_data import digest_of
from ssn_feat.video.random_access import IndexedVideo
from ssn_feat.video.snippet_options import ResolvedSnippets, SnippetOptions

# Lines of the log of a run, each over an equal part of the steps.
_EPOCHS = 10


@dataclass(frozen=True)
class ClipSet:
    """Trimmed instances: instance i is rows ``first[i]`` .. ``first[i] + count[i] - 1`` of video ``video[i]``."""

    video: NDArray[np.int64]
    """Video of each instance, (I,)."""
    first: NDArray[np.int64]
    """Its first row in the video's grid, (I,)."""
    count: NDArray[np.int64]
    """Its number of rows, at least 1, (I,)."""
    classes: NDArray[np.int64]
    """Its class, (I,)."""
    names: tuple[str, ...]
    """Name of each class; the last is the background's where it was asked for."""

    def __len__(self) -> int:
        return len(self.video)

    def draw(self, instances: NDArray[np.int64], segments: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """A row from each of ``segments`` equal parts of each instance: int64 (N, segments)."""
        position = (np.arange(segments) + rng.random((len(instances), segments))) / segments
        rows: NDArray[np.int64] = self.first[instances, None] + (position * self.count[instances, None]).astype(int)
        return rows


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


def clips_of(dataset: Dataset, videos: Sequence[IndexedVideo], options: ResolvedSnippets, background: bool) -> ClipSet:
    """The instances of ``videos``, which are those of ``dataset`` in its order.

    Raises UserError for a data set without instances.
    """
    found = [
        (at, first, last - first, label)
        for at, video in enumerate(videos)
        for first, last, label in trimmed_rows(dataset.videos[video.id], dataset, video.grid(options).spans, background)
    ]
    video, first, count, classes = np.array(found, dtype=np.int64).reshape(-1, 4).T
    if not (classes < len(dataset.labels)).any():
        raise UserError(f"data set {dataset.name!r} has no instance to learn from")
    return ClipSet(video, first, count, classes, dataset.labels + (("background",) if background else ()))


@dataclass(frozen=True)
class ClipOptions:
    """How a backbone is learned from the snippets of trimmed instances."""

    segments: int = 3
    """Snippets whose class scores are averaged, one from each equal part of an instance."""
    background: bool = True
    """Whether the gaps between instances are a class of their own."""
    steps: int = 300
    """Optimiser steps; rounded up to a multiple of ten, of which each tenth is a line of the log."""
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

    def __post_init__(self) -> None:
        for name in ("segments", "steps", "batch"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.drop < 1:
            raise UserError(f"drop must lie in [0, 1), not {self.drop}")
        if not (self.rate >= 0 and self.classifier_rate > 0):
            raise UserError(f"rates must be positive, they are {self.rate} and {self.classifier_rate}")

    @property
    def epochs(self) -> int:
        """Lines of the log."""
        return min(_EPOCHS, self.steps)


class ClipsTask:
    """Training of a linear classifier of instances and of the backbone before it."""

    terms = ("loss", "accuracy")

    def __init__(self, clips: ClipSet, options: ClipOptions, feature_dim: int, seed: int, device: torch.device) -> None:
        self.head = nn.Linear(feature_dim, len(clips.names))
        initialise(self.head, torch.Generator().manual_seed(seed))
        self.head.to(device)
        self.steps = -(-options.steps // options.epochs)
        self._clips, self._options, self._seed = clips, options, seed
        self._by_class = [np.flatnonzero(clips.classes == label) for label in np.unique(clips.classes)]
        self._targets = torch.zeros(0)

    def requests(self, epoch: int) -> Sequence[Sequence[Request]]:
        rng, options = epoch_generator(self._seed, epoch), self._options
        drawn = rng.integers(len(self._by_class), size=(self.steps, options.batch))
        instances = np.array([[rng.choice(self._by_class[c]) for c in batch] for batch in drawn])
        rows = self._clips.draw(instances.ravel(), options.segments, rng).reshape(*instances.shape, -1)
        self._targets = torch.from_numpy(self._clips.classes[instances]).to(self.head.weight.device)
        alike = np.zeros(options.segments, dtype=np.int64)
        return [
            [
                Request(alike + self._clips.video[i], own, alike, (self._seed, epoch, step, at))
                for at, (i, own) in enumerate(zip(instances[step], rows[step], strict=True))
            ]
            for step in range(self.steps)
        ]

    def losses(self, features: Tensor, step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        scores = self.head(dropout(features, self._options.drop, generator)).mean(dim=1)
        target = self._targets[step]
        accuracy = (scores.detach().argmax(dim=1) == target).float().mean()
        return functional.cross_entropy(scores, target), accuracy


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
    subset: str = "training"
    """Subset of the annotations to train on."""
    prefix: str = ""
    """What file names have before the video's id."""
    seed: int = 0
    """Decides what is drawn and the classifier's initial weights."""
    device: str = "auto"
    """Where to train: cpu, cuda, cuda:1, ...; auto takes a GPU if there is one."""
    threads: int = 2
    """Processor threads of a step."""
    resume: bool = False
    """Go on with the run in OUT where it was interrupted; a finished one is left as it is."""
    overwrite: bool = False
    """Replace a run that OUT already holds."""
    quiet: bool = False
    """Print nothing."""
    save_every: float = 300.0
    """Seconds between two checkpoints of the running training."""
    snippets: SnippetOptions = field(default_factory=lambda: SnippetOptions(stride=8))
    """What is cut out of a video; extract with the same."""
    clips: ClipOptions = field(default_factory=ClipOptions)
    """How it is learned."""
    pixels: PixelOptions = field(default_factory=PixelOptions)
    """Where pixels come from. Without a cache, one in OUT is kept while the training runs."""
    tuning: TuningOptions = field(default_factory=lambda: TuningOptions(batch_norm="full"))
    """Which layers learn."""

    def __post_init__(self) -> None:
        if self.threads < 1 or self.seed < 0:
            raise UserError(f"threads must be at least 1 and seed at least 0, they are {self.threads} and {self.seed}")

    @property
    def eval_every(self) -> int:
        """Nothing is measured while training."""
        return 1

    @property
    def optimisation(self) -> OptimisationOptions:
        """The schedule as the loop knows it: the rate is the classifier's, the backbone's a part of it."""
        return OptimisationOptions(
            epochs=self.clips.epochs,
            batch_videos=self.clips.batch,
            optimiser="adamw",
            lr=self.clips.classifier_rate,
            schedule="cosine",
            warmup_steps=max(self.clips.steps // 10, 1),
            weight_decay=self.clips.decay,
            bias_lr=1.0,
        )


def fit_clips(options: FitClipsOptions) -> dict[str, Any]:
    """Learn a backbone from trimmed instances; the run folder OUT then holds its weights as backbone.pt."""
    with processes(options.device) as group, ExitStack() as stack:
        folder = PixelFolder(options.out, group.first)
        saved = folder.checkpoint_to_resume(options)
        if saved is not None and saved["finished"]:
            return folder.read_summary(options.quiet or not group.first)
        own = replace(options, quiet=options.quiet or not group.first)
        if options.pixels.cache is None:
            # Pictures are drawn again and again: decoding each once is most of what can be saved.
            # A name of its own: a run that goes on after kill -9 uses, and removes, what the killed one left.
            pictures = options.out / "pictures"
            if group.first:
                stack.callback(shutil.rmtree, pictures, ignore_errors=True)
            own = replace(own, pixels=replace(own.pixels, cache=pictures))
        training, backbone, source, task = _prepare(own, group)
        if saved is not None:
            training.restore([saved])
        else:
            folder.create(options)
        steps = PixelSteps(training, task, source, own.pixels.workers, _tuning(own), group)
        summary = train(training, folder, group, steps, options.save_every)
        if group.first:
            about = {"backbone": backbone.name, "stream": backbone.stream}
            save_state(options.out / BACKBONE, training.weights(), about)
            folder.summarise(summary)
            return folder.read_summary(options.quiet)
        return summary


def _tuning(options: FitClipsOptions) -> TuningOptions:
    factor = options.clips.rate / options.clips.classifier_rate
    return replace(options.tuning, backbone_lr=options.tuning.backbone_lr * factor)


def _prepare(options: FitClipsOptions, group: Processes) -> tuple[PixelTraining, Backbone, PixelSource, ClipsTask]:
    group.require_shares(options.clips.batch, "--batch")
    stream, size = options.stream, options.snippets.crop
    backbone = load_backbone(
        options.backbone, stream, options.weights, str(group.device), trainable=True, input_size=size or None
    )
    cut = replace(options.snippets, streams=(stream,)).resolved({stream: backbone.input_size}, device=group.device.type)
    if stream == "flow" and not options.quiet:
        print(f"flow by {cut.flow_method}: extract with --flow-method {cut.flow_method}")
    files = list_video_files(options.videos, options.annotations, (options.subset,), options.prefix)
    dataset = read_annotations(options.annotations).subset(options.subset)
    videos = index_videos(files.videos, tuple(dataset.videos), options.pixels, group, options.quiet)
    clips = clips_of(dataset, videos, cut, options.clips.background)
    task = ClipsTask(clips, options.clips, backbone.feature_dim, options.seed, group.device)
    reader = reader_of(options.pixels, cut, stream, group)
    source = PixelSource(videos, reader, backbone.input_size, options.pixels.variation)
    facts: Mapping[str, Any] = {
        "head": {"kind": "clips", "classes": list(clips.names)},
        "store": None,
        "options": to_dict(options),
        "videos": len(videos),
        "data": digest_of(clips.video, clips.first, clips.count, clips.classes),
    }
    return begin_training(task, backbone, options, _tuning(options), dict(facts), group), backbone, source, task


__all__ = [
    "BACKBONE",
    "ClipOptions",
    "ClipSet",
    "ClipsTask",
    "FitClipsOptions",
    "clips_of",
    "fit_clips",
    "trimmed_rows",
]
