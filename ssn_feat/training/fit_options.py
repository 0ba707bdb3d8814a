"""The options of a training run. A run saves them as YAML, from which it can be repeated."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ssn_feat.annotations.joining import JoinOptions
from ssn_feat.errors import UserError
from ssn_feat.heads.losses import Groups, LossOptions
from ssn_feat.heads.ssn import SSNOptions
from ssn_feat.sampling.pools import PoolOptions


@dataclass(frozen=True)
class OptimisationOptions:
    """Optimiser and learning-rate schedule. The defaults are those of the original for THUMOS14."""

    epochs: int = 45
    """Number of epochs."""
    epoch_multiplier: int = 10
    """Passes over the videos in one epoch."""
    batch_videos: int = 16
    """Videos in a batch."""
    accumulate: int = 1
    """Number of batches whose mean gradient is used in one optimiser step; the last of an epoch may use fewer."""
    ema: float = 0.0
    """Decay of an exponential moving average of the weights, in [0, 1); the checkpoint then holds the average instead
    of the last weights. After n batches the decay is at most (1 + n) / (10 + n), which reduces the influence of the
    first batches. 0: no average."""
    optimiser: Literal["sgd", "adamw"] = "sgd"
    """Stochastic gradient descent with momentum, or Adam with decoupled weight decay."""
    lr: float = 0.001
    """Learning rate of weights."""
    schedule: Literal["step", "cosine", "cosine-after-warmup"] = "step"
    """step: multiply the rate by lr_decay at each of lr_steps. cosine: decrease it to 0 along half a cosine, which with
    cosine-after-warmup begins at the end of the warm-up."""
    lr_steps: tuple[int, ...] = (20, 40)
    """Epochs, counted from 0, at whose beginning the step schedule lowers the rate."""
    lr_decay: float = 0.1
    """Factor of the step schedule."""
    warmup_steps: int = 0
    """Number of steps in which the rate first increases linearly from 0."""
    clip_norm: float = 0.0
    """Scale the gradient down to this norm if its norm is larger; 0: no limit."""
    momentum: float = 0.9
    """Momentum of sgd."""
    weight_decay: float = 0.0005
    """Weight decay."""
    bias_lr: float = 2.0
    """Learning rate of biases as a multiple of lr."""
    bias_decay: float = 0.0
    """Weight decay of biases and of the parameters of normalisation as a multiple of weight_decay."""

    def __post_init__(self) -> None:
        for name in ("epochs", "epoch_multiplier", "batch_videos", "accumulate"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in (
            "lr",
            "lr_decay",
            "warmup_steps",
            "clip_norm",
            "momentum",
            "weight_decay",
            "bias_lr",
            "bias_decay",
        ):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} must be finite and not negative, it is {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise UserError(f"ema must lie in [0, 1), it is {self.ema}")
        if list(self.lr_steps) != sorted(set(self.lr_steps)):
            raise UserError(f"lr_steps must be increasing epochs, not {self.lr_steps}")


@dataclass(frozen=True)
class ActionnessOptions:
    """Training samples of the actionness head."""

    actionness_sampling: Literal["rows", "proposals"] = "rows"
    """rows: learn from single rows, which are positive if their centre is inside an instance. proposals: learn from
    foreground and background proposals as in the original, with the mean of several rows of each; needs --proposals."""
    actionness_segments: int = 5
    """Number of rows of a proposal that are averaged."""
    action_rows: int = 3
    """Number of rows inside an action, or of foreground proposals, to draw from each video of a batch."""
    background_rows: int = 9
    """Number of rows outside all actions, or of background proposals, to draw from each video of a batch."""

    def __post_init__(self) -> None:
        for name in ("actionness_segments", "action_rows", "background_rows"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class TrainingOptions(JoinOptions):
    """Options of every training on the features of a store."""

    store: Path
    """Feature store written by extract/run.py."""
    annotations: str
    """Annotations of the videos: a path, or DIALECT:PATH."""
    out: Path
    """Run folder to write."""
    head: str = ""
    """Name of the head."""
    streams: tuple[str, ...] = ("rgb",)
    """Streams to train on."""
    fusion: Literal["early", "late"] = "early"
    """early: concatenate the features of several streams. late: train a head for each stream in OUT/STREAM, whose
    scores train/detect.py store --checkpoint OUT fuses."""
    subset: str = "training"
    """Subset of the annotations to train on."""
    seed: int = 0
    """Seed for initial weights, sampling and dropout."""
    seeds: int = 1
    """Number of heads to train, with consecutive seeds from --seed on, each in its run folder OUT/seed-N."""
    standardise: bool = False
    """Standardise each feature to mean 0 and standard deviation 1 on the training rows."""
    missing: Literal["refuse", "skip"] = "refuse"
    """Whether to stop or to continue if the store or the proposals lack some training videos."""
    background_videos: bool = False
    """Also use videos without instances, as background. The original does not use them."""
    features: Literal["auto", "memory", "mapped"] = "auto"
    """memory: keep features in memory. mapped: map them from a temporary file in OUT. auto: memory if they need at most
    half of what is available. The results are the same."""
    device: str = "auto"
    """Device to train on: cpu, cuda, cuda:1, ...; auto uses a GPU if there is one."""
    threads: int = 2
    """Number of processor threads. The second thread prepares the features of the next step, which is faster on an idle
    machine and slightly slower on a busy one. Further threads share the matrix products, which are too small to profit
    much."""
    resume: bool = False
    """Continue the run in OUT where it was interrupted. A finished run is not repeated; a missing one is started."""
    overwrite: bool = False
    """Replace a run that is already in OUT."""
    quiet: bool = False
    """Do not print anything."""
    tensorboard: bool = False
    """Also write the log as TensorBoard events to OUT/tensorboard; requires the package tensorboard."""
    eval: str | None = None
    """Subset of the annotations to measure mAP on during training; the best head is saved as OUT/best.pt."""
    eval_every: int = 1
    """Number of epochs between two measurements; the last epoch is always measured."""
    eval_tiou: tuple[float, ...] = (0.5,)
    """tIoU thresholds to average the measured mAP over."""
    optimisation: OptimisationOptions = field(default_factory=OptimisationOptions)
    """Optimiser and learning-rate schedule."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63 or self.threads < 1:
            raise UserError(
                f"seed must be at least 0 and below 2^63, threads at least 1, they are {self.seed} and {self.threads}"
            )
        if self.seeds < 1 or self.eval_every < 1:
            raise UserError(f"seeds and eval_every must be at least 1, they are {self.seeds} and {self.eval_every}")
        if not self.eval_tiou or not all(0 < tiou <= 1 for tiou in self.eval_tiou):
            raise UserError(f"eval_tiou must be thresholds above 0 and at most 1, they are {self.eval_tiou}")
        if self.fusion == "late" and len(self.streams) < 2:
            raise UserError(f"late fusion needs several streams, not only {', '.join(self.streams)}")
        if self.resume and self.overwrite:
            raise UserError("resume and overwrite cannot be combined: choose one")


@dataclass(frozen=True)
class FitOptions(TrainingOptions):
    """Learn a head from a feature store."""

    head: Literal["ssn", "actionness"] = "ssn"
    """ssn scores and refines proposals; actionness scores snippets, from which train/propose.py makes proposals."""
    proposals: Path | None = None
    """File of proposals of the training videos, written by train/propose.py; required for the ssn head."""
    random_windows: int = 0
    """Number of random windows to add to the proposals of each training video. Actionness that overfits its training
    videos proposes little background in them, which these windows then provide."""
    augmentation: tuple[float, float] = (0.5, 0.5)
    """Lengths of the starting and the ending stage as fractions of the length of the proposal."""
    sampling: Literal["segments", "dense"] = "segments"
    """segments: pool each stage of a proposal from sampled segments, as in the paper. dense: pool it from all of its
    snippets, as in scoring; dropout is then applied to the pooled features."""
    eval_proposals: Path | None = None
    """File of proposals of the videos to measure on; default: that of --proposals."""
    pools: PoolOptions = field(default_factory=PoolOptions)
    """Thresholds for the use of proposals."""
    groups: Groups = field(default_factory=Groups)
    """Number of proposals of each kind in a batch."""
    ssn: SSNOptions = field(default_factory=SSNOptions)
    """Shape of the head."""
    losses: LossOptions = field(default_factory=LossOptions)
    """Weights of the losses."""
    actionness: ActionnessOptions = field(default_factory=ActionnessOptions)
    """Training samples of the actionness head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eval is not None and self.head != "ssn":
            raise UserError("--eval measures detections, which need the ssn head: leave it out for the actionness head")
        if self.random_windows < 0:
            raise UserError(f"random_windows must not be negative, it is {self.random_windows}")
        if not all(0 <= part < math.inf for part in self.augmentation):
            raise UserError(f"augmentation must be finite and not negative, it is {self.augmentation}")
        incomplete, ratio = self.groups.incomplete, self.losses.ohem_ratio
        if 0 < ratio * incomplete < 1:
            raise UserError(
                f"ohem_ratio {ratio:g} of {incomplete} incomplete proposals of a video is less than one, so none would "
                f"count: raise it to {math.ceil(1e3 / incomplete) / 1e3:g} or more"
            )


__all__ = ["ActionnessOptions", "FitOptions", "OptimisationOptions", "TrainingOptions"]
