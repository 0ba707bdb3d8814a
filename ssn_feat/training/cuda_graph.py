"""Steps on a GPU: the whole step is recorded once and played again, without the processor in between.

A step on cached features is some hundred small kernels; launching each takes longer than running it. So everything
that differs from step to step lies on the GPU before the epoch begins: what the epoch draws, its learning rates, and
the number of the step, by which the step finds its own. A CUDA graph of gather, dropout, losses, gradients, optimiser
and averages is then one launch. What the losses were is read back now and then.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from ssn_feat.training.optimisation import ema_decay, rate
from ssn_feat.training.ssn_task import EpochPlan
from ssn_feat.training.training_state import Training

# Steps between two looks at the losses; reading them makes the processor wait for the GPU.
_LOOK = 50
# Steps that run as they are before one is recorded: libraries and the optimiser set themselves up in the first.
_PLAIN = 3


class CapturedSteps:
    """The steps of a training, see :class:`ssn_feat.training.steps.Steps`.

    On another device than a GPU the same step runs from the same buffers without being recorded.
    """

    def __init__(self, training: Training) -> None:
        self._training, task = training, training.task
        self._device, self._schedule = task.device, training.options.optimisation
        self._plan: EpochPlan | None = None
        self._cursor = torch.zeros(1, dtype=torch.int64, device=task.device)
        self._rates, self._decays = (torch.zeros(task.steps, device=task.device) for _ in range(2))
        self._terms = torch.zeros(task.steps, len(task.terms), len(training.facts), device=task.device)
        self._read = 0
        self._latest = torch.zeros(len(task.terms), len(training.facts))
        self._done = 0
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
        # The next epoch is drawn while this one is played; not before, since nothing may be allocated while recording.
        follows = training.epoch + 1 < self._schedule.epochs and self._graph is not None
        self._next = self._thread.submit(training.task.plan, training.epoch + 1) if follows else None

    def step(self) -> Tensor:
        if self._device.type != "cuda":
            self._body()
        elif self._graph is not None:
            self._graph.replay()
        elif self._done < _PLAIN:
            self._warm_up()
        else:
            self._record()
        self._done += 1
        # The loop counts the step once this returns.
        if self._training.step + 1 - self._read >= _LOOK:
            self._look(self._training.step + 1)
        return self._latest

    def settle(self) -> None:
        self._look(self._training.step)

    def close(self) -> None:
        self._thread.shutdown()
        self._graph = None

    def _look(self, until: int) -> None:
        """Take note of the losses of the steps before ``until``."""
        if until > self._read:
            values = self._terms[self._read : until].cpu()
            self._training.add(values, self._read)
            self._latest, self._read = values[-1], until

    def _warm_up(self) -> None:
        """Run the step on a stream of its own, as recording asks of what is run before it."""
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            self._body()
        torch.cuda.current_stream(self._device).wait_stream(stream)

    def _record(self) -> None:
        """Record the step, which does not run it, then play it."""
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
        """The step whose number the cursor holds; nothing here waits for the device."""
        training, task, plan = self._training, self._training.task, self._plan
        assert plan is not None
        rows, *others = (buffer.index_select(0, self._cursor) for buffer in _tensors(plan))
        losses = task.losses(task.head, *task.inputs(EpochPlan(rows, tuple(others)), 0, training.generators))
        training.optimiser.zero_grad(set_to_none=True)
        losses[0].sum().backward()
        value = self._rates.index_select(0, self._cursor).squeeze(0)
        for group in training.optimiser.param_groups:
            torch.mul(value, group["lr_mult"], out=group["lr"])
        training.optimiser.step()
        with torch.no_grad():
            training.move_average(self._decays.index_select(0, self._cursor).squeeze(0))
            terms = torch.stack([loss.detach() for loss in losses]).view(1, len(losses), -1)
            self._terms.index_copy_(0, self._cursor, terms)
            self._cursor += 1


def _tensors(plan: EpochPlan) -> tuple[Tensor, ...]:
    return (plan.rows, *plan.others)


__all__ = ["CapturedSteps"]
