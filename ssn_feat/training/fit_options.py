"""Every option of a training run; a run saves them as YAML, and they alone re-create it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ssn_feat.errors import UserError
from ssn_feat.heads.losses import Groups, LossOptions
from ssn_feat.heads.ssn import SSNOptions
from ssn_feat.sampling.pools import PoolOptions


@dataclass(frozen=True)
class OptimisationOptions:
    """How weights are learned. The defaults are the original's for THUMOS14."""

    epochs: int = 45
    """Epochs to train."""
    epoch_multiplier: int = 10
    """Passes over the videos in one epoch."""
    batch_videos: int = 16
    """Videos in a batch."""
    accumulate: int = 1
    """Batches whose mean gradient makes one step of the optimiser; the last step of an epoch takes those left."""
    ema: float = 0.0
    """Decay of an exponential moving average of the weights, in [0, 1), that is kept in place of the last weights; 0
    keeps none. Early on the decay is (1 + n) / (10 + n) after n batches, so that the start is soon forgotten."""
    optimiser: Literal["sgd", "adamw"] = "sgd"
    """Stochastic gradient descent with momentum, or Adam with decoupled weight decay."""
    lr: float = 0.001
    """Learning rate of weights; that of biases is bias_lr times this."""
    schedule: Literal["step", "cosine"] = "step"
    """Multiply the rate by lr_decay at each of lr_steps, or let it fall to 0 along a half cosine."""
    lr_steps: tuple[int, ...] = (20, 40)
    """Epochs (from 0) at whose start the step schedule lowers the rate."""
    lr_decay: float = 0.1
    """Factor of the step schedule."""
    warmup_steps: int = 0
    """Steps in which the rate first rises linearly from 0."""
    momentum: float = 0.9
    """Momentum of sgd."""
    weight_decay: float = 0.0005
    """Decay of weights; that of biases is bias_decay times this."""
    bias_lr: float = 2.0
    """Factor of the learning rate for biases."""
    bias_decay: float = 0.0
    """Factor of the weight decay for biases and the parameters of normalisation."""

    def __post_init__(self) -> None:
        for name in ("epochs", "epoch_multiplier", "batch_videos", "accumulate"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("lr", "lr_decay", "warmup_steps", "momentum", "weight_decay", "bias_lr", "bias_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} must be finite and not negative, it is {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise UserError(f"ema must lie in [0, 1), it is {self.ema}")
        if list(self.lr_steps) != sorted(set(self.lr_steps)):
            raise UserError(f"lr_steps must be rising epochs, not {self.lr_steps}")


@dataclass(frozen=True)
class ActionnessOptions:
    """What a batch of the actionness head holds."""

    actionness_sampling: Literal["rows", "proposals"] = "rows"
    """Learn from single rows, positive if their centre lies inside an instance; or, as the original, from proposals:
    foreground against background, the mean of some rows of each. It needs --proposals."""
    actionness_segments: int = 5
    """Rows of a proposal that are averaged."""
    action_rows: int = 3
    """Rows inside an action, or foreground proposals, that are drawn from each video of a batch."""
    background_rows: int = 9
    """Rows outside all actions, or background proposals, that are drawn from each video of a batch."""

    def __post_init__(self) -> None:
        for name in ("actionness_segments", "action_rows", "background_rows"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class FitOptions:
    """Learn a head from a feature store."""

    store: Path
    """Feature store that extract/run.py made."""
    annotations: str
    """Annotations of the same videos: a path, or DIALECT:PATH."""
    out: Path
    """Folder of the run, made by this command."""
    head: Literal["ssn", "actionness"] = "ssn"
    """ssn scores and refines proposals; actionness scores snippets, from which train/propose.py makes proposals."""
    proposals: Path | None = None
    """File of proposals of the training videos (train/propose.py makes one); the ssn head needs it."""
    streams: tuple[str, ...] = ("rgb",)
    """Streams to learn from."""
    fusion: Literal["early", "late"] = "early"
    """What to do with several streams: put their features side by side, or learn a head for each, in OUT/STREAM, whose
    scores train/detect.py store --checkpoint OUT fuses."""
    subset: str = "training"
    """Subset of the annotations to train on."""
    seed: int = 0
    """Decides the initial weights, what is drawn, and the dropout."""
    seeds: int = 1
    """How many heads to train at once, with the seeds from --seed on, each in a run folder OUT/seed-N of its own."""
    standardise: bool = False
    """Shift and scale each feature to mean 0 and deviation 1 on the training rows."""
    missing: Literal["refuse", "skip"] = "refuse"
    """What to do if the store or the proposals lack a training video."""
    background_videos: bool = False
    """Also use videos without any instance, for background (the original leaves them out)."""
    random_windows: int = 0
    """Windows anywhere that join the proposals of each training video. Actionness that knows its training videos by
    heart proposes nothing but actions there: without windows there is no background to learn from."""
    augmentation: tuple[float, float] = (0.5, 0.5)
    """Length of the starting and of the ending stage as parts of the proposal's length."""
    features: Literal["auto", "memory", "mapped"] = "auto"
    """Keep features in memory, or in a file in OUT that is mapped into it and gone at the end; auto takes memory where
    they need at most half of what is available. Both give the same run."""
    sampling: Literal["segments", "dense"] = "segments"
    """Pool each stage of a proposal from sampled segments as the paper, or from all of its snippets, as scoring does;
    dropout then acts on the pooled features."""
    device: str = "auto"
    """Where to train: cpu, cuda, cuda:1, ...; auto takes a GPU if there is one."""
    threads: int = 2
    """Processor threads. The second prepares the features of the next step and never waits busily: a gain on an idle
    machine, a small loss on a busy one, where 1 is better. Any further ones share the matrix products, which are too
    small to gain much from it."""
    resume: bool = False
    """Go on with the run in OUT where it was interrupted; a finished or absent one is left or started."""
    overwrite: bool = False
    """Replace a run that OUT already holds."""
    quiet: bool = False
    """Print nothing."""
    tensorboard: bool = False
    """Also write the lines of the log as TensorBoard events to OUT/tensorboard; needs the package tensorboard."""
    eval: str | None = None
    """Subset of the annotations on which mAP is measured while training; the best head is kept as OUT/best.pt."""
    eval_every: int = 1
    """Epochs between two measurements; the last epoch is always measured."""
    eval_tiou: tuple[float, ...] = (0.5,)
    """tIoU thresholds that the measured mAP is the mean of."""
    eval_proposals: Path | None = None
    """Proposals of the videos to measure on; none means those of --proposals."""
    pools: PoolOptions = field(default_factory=PoolOptions)
    """Which proposals are used for what."""
    groups: Groups = field(default_factory=Groups)
    """How many of each are drawn from a video."""
    ssn: SSNOptions = field(default_factory=SSNOptions)
    """Shape of the head."""
    losses: LossOptions = field(default_factory=LossOptions)
    """Weights of the losses."""
    actionness: ActionnessOptions = field(default_factory=ActionnessOptions)
    """What the actionness head draws."""
    optimisation: OptimisationOptions = field(default_factory=OptimisationOptions)
    """How weights are learned."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63 or self.threads < 1:
            raise UserError(
                f"seed must be at least 0 and below 2^63, threads at least 1, they are {self.seed} and {self.threads}"
            )
        if self.seeds < 1 or self.eval_every < 1:
            raise UserError(f"seeds and eval_every must be at least 1, they are {self.seeds} and {self.eval_every}")
        if self.eval is not None and self.head != "ssn":
            raise UserError(
                "--eval measures detections, which the ssn head makes: leave it out for the actionness head"
            )
        if not self.eval_tiou or not all(0 < tiou <= 1 for tiou in self.eval_tiou):
            raise UserError(f"eval_tiou must be thresholds above 0 and at most 1, they are {self.eval_tiou}")
        if self.fusion == "late" and len(self.streams) < 2:
            raise UserError(f"late fusion needs several streams, not {', '.join(self.streams)} alone")
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
        if self.resume and self.overwrite:
            raise UserError("resume and overwrite exclude each other: choose one")


__all__ = ["ActionnessOptions", "FitOptions", "OptimisationOptions"]
