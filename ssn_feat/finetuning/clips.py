"""Training a backbone on trimmed instances: classification of annotated actions from a few snippets.

The networks that the original starts from were trained in this way (temporal segment networks: the class scores of
snippets from equal parts of an instance are averaged). It makes a backbone for either stream from annotations and any
weights; a backbone for flow starts from inflated RGB weights.
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

from ssn_feat.annotations import Dataset, Video
from ssn_feat.annotations.joining import JoinOptions, VideoTimes, check_times, times_of_dataset
from ssn_feat.backbones import Backbone, load_backbone
from ssn_feat.cli import to_dict
from ssn_feat.errors import UserError
from ssn_feat.extraction.video_files import VideoFiles, list_video_files
from ssn_feat.finetuning.distributed import Processes, processes
from ssn_feat.finetuning.feature_network import TuningOptions
from ssn_feat.finetuning.pixel_runs import BACKBONE, PixelFolder, train
from ssn_feat.finetuning.pixel_training import PixelSteps, PixelTraining, begin_training
from ssn_feat.finetuning.pixels import PixelOptions, PixelSource, Request, index_videos, reader_of
from ssn_feat.heads.dropout import dropout
from ssn_feat.heads.ssn import initialise
from ssn_feat.sampling.draws import epoch_generator
from ssn_feat.sampling.segments import choose_rows
from ssn_feat.training.fit_options import OptimisationOptions
from ssn_feat.training.run_inputs import annotations_input, require_same_inputs
from ssn_feat.training.training_data import digest_of
from ssn_feat.video.find_videos import IdFrom
from ssn_feat.video.random_access import IndexedVideo
from ssn_feat.video.snippet_options import ResolvedSnippets, SnippetOptions

# Number of lines in the log of a run, each for an equal number of steps.
_EPOCHS = 10


@dataclass(frozen=True)
class ClipSet:
    """Trimmed instances: instance i consists of ``count[i]`` rows of video ``video[i]``, from row ``first[i]`` on."""

    video: NDArray[np.int64]
    """Video of each instance, (I,)."""
    first: NDArray[np.int64]
    """First row of each instance in the grid of its video, (I,)."""
    count: NDArray[np.int64]
    """Number of rows of each instance, at least 1, (I,)."""
    classes: NDArray[np.int64]
    """Class of each instance, (I,)."""
    names: tuple[str, ...]
    """Name of each class; with the background class, its name is the last."""

    def __len__(self) -> int:
        return len(self.video)

    def draw(self, instances: NDArray[np.int64], segments: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw a row from each of ``segments`` equal parts of each instance: int64 (N, segments)."""
        return choose_rows(self.first[instances, None], self.count[instances, None], (segments,), rng)


def trimmed_rows(
    video: Video, dataset: Dataset, spans: NDArray[np.float64], background: bool
) -> list[tuple[int, int, int]]:
    """Row ranges ``[first, last)`` of the instances of a video: a list of (first, last, class).

    ``spans``: float64 (T, 2), seconds. A row belongs to an instance that contains its centre; an instance without such
    a row has the row nearest to its middle. With ``background``, the gaps between instances are instances of the class
    ``len(dataset.labels)``.
    """
    centres = spans.mean(axis=1)
    ranges, inside = [], np.zeros(len(spans), dtype=bool)
    for instance in video.instances:
        first, last = np.searchsorted(centres, (instance.start, instance.end))
        if first == last:
            first = int(np.abs(centres - (instance.start + instance.end) / 2).argmin())
            last = first + 1
        inside[first:last] = True
        ranges.append((int(first), int(last), dataset.label_index[instance.label]))
    if background:
        edges = np.flatnonzero(np.diff(np.concatenate([[True], inside, [True]]).astype(np.int8)))
        ranges += [(int(a), int(b), len(dataset.labels)) for a, b in edges.reshape(-1, 2)]
    return ranges


def clips_of(dataset: Dataset, videos: Sequence[IndexedVideo], options: ResolvedSnippets, background: bool) -> ClipSet:
    """The instances of ``videos``, which are those of ``dataset`` in its order.

    Raises UserError for a data set without instances.
    """
    rows = [
        (at, first, last - first, label)
        for at, video in enumerate(videos)
        for first, last, label in trimmed_rows(dataset.videos[video.id], dataset, video.grid(options).spans, background)
    ]
    video, first, count, classes = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    if not (classes < len(dataset.labels)).any():
        raise UserError(f"data set {dataset.name!r} has no instance to learn from")
    return ClipSet(video, first, count, classes, dataset.labels + (("background",) if background else ()))


@dataclass(frozen=True)
class ClipOptions:
    """Training of a backbone on snippets of trimmed instances."""

    segments: int = 3
    """Number of snippets whose class scores are averaged, one from each equal part of an instance."""
    background: bool = True
    """Use the gaps between instances as an additional class."""
    steps: int = 300
    """Number of optimiser steps, rounded up to a multiple of 10; each tenth of them is one line of the log."""
    batch: int = 16
    """Number of instances in a step; all classes are drawn with equal probability."""
    rate: float = 0.001
    """Peak learning rate of the backbone (AdamW; warm-up in the first tenth of the steps, then half a cosine to 0)."""
    classifier_rate: float = 0.01
    """Peak learning rate of the classifier, which is newly initialised."""
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
        """Number of lines in the log."""
        return min(_EPOCHS, self.steps)


class ClipsTask:
    """Training of a backbone with a linear classifier of instances."""

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
                Request(alike + self._clips.video[i], drawn_rows, alike, (self._seed, epoch, step, at))
                for at, (i, drawn_rows) in enumerate(zip(instances[step], rows[step], strict=True))
            ]
            for step in range(self.steps)
        ]

    def losses(self, features: Tensor, step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        scores = self.head(dropout(features, self._options.drop, generator)).mean(dim=1)
        target = self._targets[step]
        accuracy = (scores.detach().argmax(dim=1) == target).float().mean()
        return functional.cross_entropy(scores, target), accuracy


@dataclass(frozen=True)
class FitClipsOptions(JoinOptions):
    """Learn a backbone from trimmed instances, for extract/run.py --weights STREAM=OUT/backbone.pt."""

    videos: Path
    """Folder of the videos, as for extract/run.py."""
    annotations: str
    """Annotations of the videos: a path, or DIALECT:PATH."""
    out: Path
    """Run folder to write."""
    stream: Literal["rgb", "flow"]
    """Stream of the backbone to train."""
    head: Literal["clips"] = "clips"
    """Marks the configuration of this command."""
    backbone: str = "bninception"
    """Network to start from, as for extract/run.py."""
    weights: str | None = None
    """Weights to start from; default: those of the network. Weights of an RGB network are inflated for flow."""
    subset: str = "training"
    """Subset of the annotations to train on."""
    ids: IdFrom = "stem"
    """Ids of the videos, as for extract/run.py."""
    prefix: str = ""
    """Prefix of file names before the video id."""
    seed: int = 0
    """Seed for sampling and the initial weights of the classifier."""
    device: str = "auto"
    """Device to train on: cpu, cuda, cuda:1, ...; auto uses a GPU if there is one."""
    threads: int = 2
    """Number of processor threads of a step."""
    resume: bool = False
    """Continue the run in OUT where it was interrupted. A finished run is not repeated; a missing one is started."""
    overwrite: bool = False
    """Replace a run that is already in OUT."""
    quiet: bool = False
    """Do not print anything."""
    save_every: float = 300.0
    """Seconds between two checkpoints during training."""
    snippets: SnippetOptions = field(default_factory=lambda: SnippetOptions(stride=8))
    """How snippets are cut out of videos; use the same options for extraction."""
    clips: ClipOptions = field(default_factory=ClipOptions)
    """Samples, learning rates and number of steps."""
    pixels: PixelOptions = field(default_factory=PixelOptions)
    """Decoding and data augmentation. Without a cache, a temporary one is created in OUT."""
    tuning: TuningOptions = field(default_factory=lambda: TuningOptions(batch_norm="full"))
    """Trainable layers, precision and memory."""

    def __post_init__(self) -> None:
        if self.threads < 1 or self.seed < 0:
            raise UserError(f"threads must be at least 1 and seed at least 0, they are {self.threads} and {self.seed}")

    @property
    def eval_every(self) -> int:
        """Unused: nothing is measured during training."""
        return 1

    @property
    def optimisation(self) -> OptimisationOptions:
        """Optimiser options for the loop; the rate is that of the classifier."""
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
    """Learn a backbone from trimmed instances; write its weights to OUT/backbone.pt.

    Returns the summary of the run. Raises UserError for input that is missing or does not fit together.
    """
    with processes(options.device) as group, ExitStack() as stack:
        folder = PixelFolder(options.out, group.first)
        saved = folder.checkpoint_to_resume(options)
        if saved is not None and saved["finished"]:
            if "inputs" in saved:
                require_same_inputs(options.out, saved["inputs"], _inputs(options, _listed(options)))
            return folder.read_summary(options.quiet or not group.first)
        local = replace(options, quiet=options.quiet or not group.first)
        if options.pixels.cache is None:
            # Images are drawn repeatedly, so that decoding each once saves most of the time. The name is fixed: a run
            # that is resumed after kill -9 uses, and later removes, the images of the killed one.
            cache = options.out / "pictures"
            if group.first:
                stack.callback(shutil.rmtree, cache, ignore_errors=True)
            local = replace(local, pixels=replace(local.pixels, cache=cache))
        training, backbone, source, task = _prepare(local, group)
        if saved is not None:
            training.restore([saved])
        else:
            folder.create(options)
        steps = PixelSteps(training, task, source, local.pixels.workers, _tuning(local), group)
        summary = train(training, folder, group, steps, options.save_every)
        if group.first:
            folder.save_backbone(training.weights(), backbone)
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
    files = _listed(options)
    assert files.dataset is not None
    dataset = files.dataset.subset(options.subset)
    videos = index_videos(files.videos, tuple(dataset.videos), options.pixels, cut, group, options.quiet)
    decoded = VideoTimes(f"the videos in {options.videos}", {video.id: video.index.duration for video in videos})
    check_times(times_of_dataset(dataset, options.annotations), decoded, options, options.quiet)
    clips = clips_of(dataset, videos, cut, options.clips.background)
    task = ClipsTask(clips, options.clips, backbone.feature_dim, options.seed, group.device)
    reader = reader_of(options.pixels, cut, stream, group)
    source = PixelSource(videos, reader, backbone.input_size, options.pixels.variation)
    facts: Mapping[str, Any] = {
        "head": {"kind": "clips", "classes": list(clips.names)},
        "store": None,
        "options": to_dict(options),
        "videos": len(videos),
        "inputs": _inputs(options, files),
        "data": digest_of(clips.video, clips.first, clips.count, clips.classes),
    }
    return begin_training(task, backbone, options, _tuning(options), dict(facts), group), backbone, source, task


def _listed(options: FitClipsOptions) -> VideoFiles:
    subsets, names = (options.subset,), options.pixels.names
    given = (options.videos, options.annotations, subsets, options.prefix)
    return list_video_files(*given, ids=options.ids, names=names, quiet=options.quiet)


def _inputs(options: FitClipsOptions, files: VideoFiles) -> dict[str, Any]:
    assert files.dataset is not None
    dataset = files.dataset
    return {"annotations": annotations_input(dataset.subset(options.subset), dataset.labels, options.annotations)}


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
