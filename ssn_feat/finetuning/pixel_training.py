"""The steps of a training from pixels: features with gradients, the losses of the whole batch, one optimiser step.

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
from ssn_feat.training.training_state import LoopOptions, Training

_SPEED = ("images_per_second", "memory_gb")


class HeadAndBackbone(nn.Module):
    """The modules that are trained together."""

    def __init__(self, head: nn.Module, backbone: FeatureNetwork) -> None:
        super().__init__()
        self.head, self.backbone = head, backbone


class PixelTask(Protocol):
    """What the steps of a training from pixels need to know about what is trained."""

    @property
    def head(self) -> nn.Module:
        """The head that is trained together with the backbone."""

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the values that :meth:`losses` returns; the first is the loss."""

    @property
    def steps(self) -> int:
        """Number of steps in an epoch."""

    def requests(self, epoch: int) -> Sequence[Sequence[Request]]:
        """The requests of every step of an epoch, all of one size; the same seed and epoch give the same requests."""

    def losses(self, features: Tensor, step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """One scalar tensor for each of ``terms``, in a step of the epoch that was requested last.

        ``features``: ``(requests, n, D)`` of the whole batch; ``generator``: decides the dropout.
        """


@dataclass(frozen=True)
class PixelLoopTask:
    """A training from pixels as the loop sees it (see :class:`ssn_feat.training.task.Task`)."""

    head: HeadAndBackbone
    device: torch.device
    terms: tuple[str, ...]
    steps: int


@dataclass
class PixelTraining(Training[PixelLoopTask]):
    """A training from pixels in progress.

    In its checkpoints, ``model`` holds the weights of the head, as in every run, and ``backbone`` those of the
    backbone.
    """

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
        """The weights of the backbone to use; with the option ``ema``, their average."""
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
    """A new training of the head of ``task`` and of ``backbone``, which was loaded with ``trainable=True``.

    Raises UserError if the backbone has no module named ``tuning.freeze_until``.
    """
    # Channels last: steps take a third less time on a CPU, and it is the layout of a GPU's tensor cores.
    backbone.module.to(memory_format=torch.channels_last)
    if processes.count > 1 and processes.device.type == "cuda" and tuning.batch_norm != "frozen":
        backbone.module = nn.SyncBatchNorm.convert_sync_batchnorm(backbone.module)
    trained = HeadAndBackbone(task.head, FeatureNetwork(backbone, tuning)).train()
    groups = learning_groups(backbone.module, task.head, options.optimisation, tuning.backbone_lr)
    loop_task = PixelLoopTask(trained, processes.device, (*task.terms, *_SPEED), task.steps)
    optimiser = optimiser_of(groups, options.optimisation)
    scaler = torch.amp.GradScaler(processes.device.type, enabled=tuning.precision == "float16")
    generators = (torch.Generator().manual_seed(options.seed),)
    return PixelTraining(loop_task, optimiser, generators, options, (facts,), scaler=scaler)


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
        self._trained = training.task.head
        self._network = processes.wrap(self._trained.backbone)
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
                "or use smaller batches and --accumulate them"
            ) from None

    def _step(self) -> Tensor:
        training, task, group = self._training, self._task, self._training.group
        schedule = training.options.optimisation
        set_rate(training.optimiser, rate(schedule, training.done, task.steps))
        # Layers of the backbone that draw (dropout) must draw the same in every process and in a resumed run.
        torch.manual_seed(_seed(training.options.seed, training.done))
        generator = torch.Generator().manual_seed(_seed(training.options.seed, training.done))
        pixels, requests = next(self._pixels)
        share = self._network(pixels).unflatten(0, (requests, -1))
        features = self._processes.gather(share)
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
        self._processes.average_gradients(self._trained.head)
        if self._tuning.clip:
            training.scaler.unscale_(training.optimiser)
            nn.utils.clip_grad_norm_([p for p in self._trained.parameters() if p.grad is not None], self._tuning.clip)
        training.scaler.step(training.optimiser)
        training.scaler.update()

    def _speed(self, images: int) -> Tensor:
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        return torch.tensor([images / max(seconds, 1e-9), peak_memory(self._processes.device) / 1e9])

    def synchronise(self) -> None:
        """Nothing to do: what is prepared in advance is not part of a checkpoint."""

    def close(self) -> None:
        self._pixels = iter(())
        self._batches.close()


def _seed(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step * 7919) % 2**63


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: allocated on the GPU ``device``, or used by this process if ``device`` is the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


__all__ = ["HeadAndBackbone", "PixelSteps", "PixelTask", "PixelTraining", "begin_training", "peak_memory"]
