"""Steps of a training whose batches are pixels: features with gradient, losses of the whole batch, one update.

The loop, run folders and checkpoints are those of training from features.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ssn_feat.backbones import Backbone
from ssn_feat.errors import UserError
from ssn_feat.finetuning.distributed import Processes
from ssn_feat.finetuning.feature_network import FeatureNetwork, TuningOptions, learning_groups
from ssn_feat.finetuning.pixels import PixelBatches, PixelSource, Request
from ssn_feat.training.optimisation import ema_decay, optimiser_of, rate, set_rate
from ssn_feat.training.ssn_task import EpochPlan
from ssn_feat.training.training_state import LoopOptions, Training

_SPEED = ("images_per_second", "memory_gb")


class Learned(nn.Module):
    """All that is learned: a head, and the backbone's module."""

    def __init__(self, head: nn.Module, backbone: FeatureNetwork) -> None:
        super().__init__()
        self.head, self.backbone = head, backbone


class PixelTask(Protocol):
    """What the steps ask of a training from pixels."""

    @property
    def head(self) -> nn.Module:
        """What is learned beside the backbone."""

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of what :meth:`losses` gives."""

    @property
    def steps(self) -> int:
        """Steps of an epoch."""

    def requests(self, epoch: int) -> Sequence[Sequence[Request]]:
        """The requests of every step of an epoch, all of one size; the same for the same seed and epoch."""

    def losses(self, features: Tensor, step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """What ``terms`` names of a step of the epoch asked for last, from features (requests, n, D) of the batch."""


@dataclass
class _LoopTask:
    """A task as the loop knows it."""

    head: nn.Module
    device: torch.device
    terms: tuple[str, ...]
    steps: int

    def plan(self, epoch: int) -> EpochPlan:
        raise NotImplementedError("the steps of this training draw their own batches")

    def inputs(self, plan: EpochPlan, step: int, generators: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
        raise NotImplementedError("the steps of this training make their own inputs")

    def losses(self, head: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError("the steps of this training make their own losses")


@dataclass
class PixelTraining(Training):
    """A training from pixels in progress. In its checkpoints the head is ``model``, as in those of any run, and the
    backbone's weights are ``backbone``."""

    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))

    def states(self) -> list[dict[str, Any]]:
        (state,) = super().states()
        for name, backbone in (("model", "backbone"), ("trained", "trained_backbone")):
            if name in state:
                state |= {name: _part(state[name], "head."), backbone: _part(state[name], "backbone.module.")}
        return [state | {"scaler": self.scaler.state_dict()}]

    def restore(self, saved: Sequence[dict[str, Any]]) -> None:
        (state,) = saved
        joined = dict(state)
        for name, backbone in (("model", "backbone"), ("trained", "trained_backbone")):
            if name in state:
                whole = {f"head.{key}": value for key, value in state[name].items()}
                joined[name] = whole | {f"backbone.module.{key}": value for key, value in state[backbone].items()}
        super().restore([joined])
        self.scaler.load_state_dict(state["scaler"])

    def weights(self) -> dict[str, Tensor]:
        """Of the backbone, as they are to be used: averaged where that was asked for."""
        return {name: value.detach().cpu().clone() for name, value in self.states()[0]["backbone"].items()}


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def begin_training(
    task: PixelTask,
    backbone: Backbone,
    options: LoopOptions,
    tuning: TuningOptions,
    facts: dict[str, Any],
    processes: Processes,
) -> PixelTraining:
    """A training of ``backbone`` (loaded with ``trainable=True``) and of the task's head from its first step on.

    Raises UserError where the backbone has no layer of the name to freeze until.
    """
    # Channels last: a third less time a step on a CPU, and what a GPU's tensor cores want.
    backbone.module.to(memory_format=torch.channels_last)
    if processes.count > 1 and processes.device.type == "cuda" and tuning.batch_norm != "frozen":
        backbone.module = nn.SyncBatchNorm.convert_sync_batchnorm(backbone.module)
    learned = Learned(task.head, FeatureNetwork(backbone, tuning)).train()
    groups = learning_groups(backbone.module, task.head, options.optimisation, tuning.backbone_lr)
    known = _LoopTask(learned, processes.device, (*task.terms, *_SPEED), task.steps)
    optimiser = optimiser_of(groups, options.optimisation)
    scaler = torch.amp.GradScaler(processes.device.type, enabled=tuning.precision == "float16")
    generators = (torch.Generator().manual_seed(options.seed),)
    training = PixelTraining(known, optimiser, generators, options, (facts,), [[]], [{}], scaler=scaler)
    if options.optimisation.ema:
        training.average = {name: value.clone() for name, value in learned.state_dict().items()}
    return training


class PixelSteps:
    """The steps of a training from pixels; see :class:`ssn_feat.training.steps.Steps`."""

    def __init__(
        self,
        training: PixelTraining,
        task: PixelTask,
        source: PixelSource,
        workers: int,
        tuning: TuningOptions,
        processes: Processes,
    ) -> None:
        self._training, self._task, self._tuning, self._processes = training, task, tuning, processes
        learned = training.task.head
        assert isinstance(learned, Learned)
        self._learned, self._network = learned, processes.wrap(learned.backbone)
        self._batches = PixelBatches(source, workers, processes.device)
        self._pixels: Iterator[tuple[Tensor, int]] = iter(())
        self._last = time.perf_counter()

    def begin(self) -> None:
        training, processes = self._training, self._processes
        requests = self._task.requests(training.epoch)[training.step :]
        self._pixels = self._batches.of([list(processes.share(batch)) for batch in requests])
        self._last = time.perf_counter()

    def step(self) -> Tensor:
        try:
            return self._step()
        except torch.OutOfMemoryError:
            raise UserError(
                "a step does not fit into the GPU's memory: add --checkpoint-activations 64 (or --precision bfloat16), "
                "or take smaller batches and --accumulate them"
            ) from None

    def _step(self) -> Tensor:
        training, task, group = self._training, self._task, self._training.group
        schedule = training.options.optimisation
        set_rate(training.optimiser, rate(schedule, training.done, task.steps))
        # The same in every process and in a resumed run, whatever layers of the backbone draw.
        torch.manual_seed(_seed(training.options.seed, training.done))
        generator = torch.Generator().manual_seed(_seed(training.options.seed, training.done))
        pixels, requests = next(self._pixels)
        own = self._network(pixels).unflatten(0, (requests, -1))
        features = self._processes.gather(own)
        losses = task.losses(features, training.step, generator)
        if training.step == group.start:
            training.optimiser.zero_grad(set_to_none=True)
        training.scaler.scale(losses[0] / len(group)).backward()
        speed = self._speed(features.shape[0] * features.shape[1])
        values = torch.cat([torch.stack([loss.detach().float() for loss in losses]).cpu(), speed])[:, None]
        training.add(values[None])
        if training.step + 1 == group.stop:
            self._update()
            training.move_average(ema_decay(schedule, training.done))
        return values

    def _update(self) -> None:
        training = self._training
        self._processes.average_gradients(self._learned.head)
        if self._tuning.clip:
            training.scaler.unscale_(training.optimiser)
            nn.utils.clip_grad_norm_([p for p in self._learned.parameters() if p.grad is not None], self._tuning.clip)
        training.scaler.step(training.optimiser)
        training.scaler.update()

    def _speed(self, images: int) -> Tensor:
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        return torch.tensor([images / max(seconds, 1e-9), memory(self._processes.device) / 1e9])

    def settle(self) -> None:
        """Nothing is made ahead that a checkpoint holds."""

    def close(self) -> None:
        self._pixels = iter(())
        self._batches.close()


def _seed(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step * 7919) % 2**63


def memory(device: torch.device) -> int:
    """Most bytes that were in use on a GPU, or by this process where it computes on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


__all__ = ["Learned", "PixelSteps", "PixelTask", "PixelTraining", "begin_training", "memory"]
