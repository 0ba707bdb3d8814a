"""Steps on a GPU: one step is captured as a CUDA graph and then replayed.

A step on cached features consists of some hundred small kernels, and launching each takes longer than running it.
Therefore everything that differs between steps is on the GPU before the epoch begins: the plan of the epoch, its
learning rates, and the number of the current step, with which the step selects its part. The CUDA graph of gather,
dropout, losses, gradients, optimiser and averages is a single launch. The losses are read from the GPU only every
so many steps.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from ssn_feat.training.optimisation import clip_gradients, ema_decay, rate
from ssn_feat.training.task import EpochPlan, FeatureTask
from ssn_feat.training.training_state import Training

# Steps between two readings of the losses; a reading makes the processor wait for the GPU.
_READ_EVERY = 50
# Steps that run uncaptured first: libraries and the optimiser initialise themselves in the first step.
_WARM_UP_STEPS = 3


class CapturedSteps:
    """The steps of a training on a GPU; see :class:`ssn_feat.training.steps.Steps`.

    On another device, the same step runs from the same buffers without being captured.
    """

    def __init__(self, training: Training[FeatureTask]) -> None:
        self._training, task = training, training.task
        self._device, self._schedule = task.device, training.options.optimisation
        self._plan: EpochPlan | None = None
        self._cursor = torch.zeros(1, dtype=torch.int64, device=task.device)
        self._rates, self._decays = (torch.zeros(task.steps, device=task.device) for _ in range(2))
        self._terms = torch.zeros(task.steps, len(task.terms), len(training.facts), device=task.device)
        self._read = 0
        self._latest = torch.zeros(len(task.terms), len(training.facts))
        self._run = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._thread = ThreadPoolExecutor(1, "draws")
        self._next: Future[EpochPlan] | None = None
        for group in training.optimiser.param_groups:
            group["lr"] = torch.zeros((), device=task.device)

    def begin(self) -> None:
        training, steps = self._training, self._training.task.steps
        plan = self._next.result() if self._next is not None else training.task.plan(training.epoch)
        if self._plan is None:
            self._plan = plan
        else:
            for buffer, drawn in zip(_tensors(self._plan), _tensors(plan), strict=True):
                buffer.copy_(drawn)
        first = training.epoch * steps
        self._rates.copy_(torch.tensor([rate(self._schedule, first + step, steps) for step in range(steps)]))
        self._decays.copy_(torch.tensor([ema_decay(self._schedule, first + step) for step in range(steps)]))
        self._cursor.fill_(training.step)
        self._read = training.step
        # Draw the next epoch while this one is replayed; not earlier, because nothing may be allocated during capture.
        follows = training.epoch + 1 < self._schedule.epochs and self._graph is not None
        self._next = self._thread.submit(training.task.plan, training.epoch + 1) if follows else None

    def step(self) -> Tensor:
        if self._device.type != "cuda":
            self._body()
        elif self._graph is not None:
            self._graph.replay()
        elif self._run < _WARM_UP_STEPS:
            self._warm_up()
        else:
            self._capture()
        self._run += 1
        # The loop counts this step only after the return.
        if self._training.step + 1 - self._read >= _READ_EVERY:
            self._read_terms(self._training.step + 1)
        return self._latest

    def synchronise(self) -> None:
        self._read_terms(self._training.step)

    def close(self) -> None:
        self._thread.shutdown()
        self._graph = None

    def _read_terms(self, end: int) -> None:
        """Read the terms of the steps before step ``end`` from the device."""
        if end > self._read:
            values = self._terms[self._read : end].cpu()
            self._training.add(values, self._read)
            self._latest, self._read = values[-1], end

    def _warm_up(self) -> None:
        """Run the step on a side stream, which capturing requires for the steps before it."""
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            self._body()
        torch.cuda.current_stream(self._device).wait_stream(stream)

    def _capture(self) -> None:
        """Capture the step, which does not run it, then replay it."""
        optimiser = self._training.optimiser
        optimiser.zero_grad(set_to_none=True)
        for group in optimiser.param_groups:
            if "capturable" in group:
                group["capturable"] = True
        with torch.cuda.device(self._device):
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._body()
            graph.replay()
        self._graph = graph

    def _body(self) -> None:
        """The step whose number is in the cursor; nothing here waits for the device."""
        training, task, plan = self._training, self._training.task, self._plan
        assert plan is not None
        rows, *others = (buffer.index_select(0, self._cursor) for buffer in _tensors(plan))
        losses = task.losses(task.head, *task.inputs(EpochPlan(rows, tuple(others)), 0, training.generators))
        training.optimiser.zero_grad(set_to_none=True)
        losses[0].sum().backward()
        value = self._rates.index_select(0, self._cursor).squeeze(0)
        for group in training.optimiser.param_groups:
            torch.mul(value, group["lr_mult"], out=group["lr"])
        if self._schedule.clip_norm:
            clip_gradients(task.head, self._schedule.clip_norm, stacked=len(training.facts) > 1)
        training.optimiser.step()
        with torch.no_grad():
            training.move_average(self._decays.index_select(0, self._cursor).squeeze(0))
            terms = torch.stack([loss.detach() for loss in losses]).view(1, len(losses), -1)
            self._terms.index_copy_(0, self._cursor, terms)
            self._cursor += 1


def _tensors(plan: EpochPlan) -> tuple[Tensor, ...]:
    return (plan.rows, *plan.others)


__all__ = ["CapturedSteps"]
