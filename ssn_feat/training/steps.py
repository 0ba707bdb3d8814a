"""Single steps of a training, one after another; on a GPU see :mod:`ssn_feat.training.cuda_graph`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

from ssn_feat.training.cuda_graph import CapturedSteps
from ssn_feat.training.optimisation import ema_decay, rate, set_rate
from ssn_feat.training.ssn_task import EpochPlan, Task
from ssn_feat.training.training_state import Training


class Steps(Protocol):
    """What the loop asks for the steps of its training."""

    def begin(self) -> None:
        """Draw the epoch that the training stands in; its next step is ``training.step``."""

    def step(self) -> Tensor:
        """One batch: float32 ``(terms, heads)`` of this or, where the device works ahead, of an earlier step.

        Raises UserError, naming each term, where a loss is not finite.
        """

    def settle(self) -> None:
        """Wait until the training stands after its last step in all that a checkpoint holds. Raises as :meth:`step`."""

    def close(self) -> None:
        """Give back what the steps held."""


def steps_of(training: Training) -> Steps:
    """Captured steps on a GPU, unless gradients are gathered over several batches; else plain ones."""
    if training.task.device.type == "cuda" and training.options.optimisation.accumulate == 1:
        return CapturedSteps(training)
    return PlainSteps(training)


class PlainSteps:
    """Step by step; with a second thread the inputs of the next step are made while this one is learned from."""

    def __init__(self, training: Training) -> None:
        self._training = training
        several = training.options.threads > 1 and training.task.device.type == "cpu"
        self._ahead = InputPrefetcher(training.task) if several else None
        self._plan: EpochPlan | None = None

    def begin(self) -> None:
        self._plan = self._training.task.plan(self._training.epoch)

    def step(self) -> Tensor:
        assert self._plan is not None
        return train_step(self._training, self._plan, self._ahead)

    def settle(self) -> None:
        if self._ahead is not None:
            self._ahead.forget()

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()


class InputPrefetcher:
    """Inputs of a task's steps, made one step ahead by a thread.

    The thread draws dropout before its step is due: :meth:`forget` takes that back, as if it had never been drawn.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._thread = ThreadPoolExecutor(1, "inputs")
        self._made: Future[tuple[Tensor, ...]] | None = None
        self._generators: Sequence[torch.Generator] = ()
        self._before: list[Tensor] = []

    def inputs(self, plan: EpochPlan, step: int, generators: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
        """What the task's own ``inputs`` gives; steps of a plan must be asked for in order."""
        made = self._made
        # On a busy machine the thread may not have begun: then nothing was drawn, and there is no need to wait for it.
        if made is None or made.cancel():
            inputs = self._task.inputs(plan, step, generators)
        else:
            inputs = made.result()
        self._made = self._begin(plan, step + 1, generators) if step + 1 < len(plan.rows) else None
        return inputs

    def _begin(self, plan: EpochPlan, step: int, generators: Sequence[torch.Generator]) -> Future[tuple[Tensor, ...]]:
        self._generators, self._before = generators, [generator.get_state() for generator in generators]
        return self._thread.submit(self._task.inputs, plan, step, generators)

    def forget(self) -> None:
        """Drop what was made for a step that has not come."""
        if self._made is not None and not self._made.cancel():
            self._made.result()
            for generator, state in zip(self._generators, self._before, strict=True):
                generator.set_state(state)
        self._made = None

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()


def train_step(training: Training, plan: EpochPlan, ahead: InputPrefetcher | None = None) -> Tensor:
    """One batch, and a step of gradient descent where it is the last of its group: the task's terms of each head,
    float32 ``(terms, heads)``. ``ahead``: where the inputs come from, if not from the task itself.

    Raises UserError on a loss that is not finite.
    """
    task, schedule = training.task, training.options.optimisation
    set_rate(training.optimiser, rate(schedule, training.done, task.steps))
    inputs = (ahead or task).inputs(plan, training.step, training.generators)
    losses = task.losses(task.head, *inputs)
    group = training.group
    if training.step == group.start:
        for parameters in training.optimiser.param_groups:
            for parameter in parameters["params"]:
                parameter.grad = None
    losses[0].backward(torch.full_like(losses[0], 1 / len(group)))
    values = torch.stack([loss.detach() for loss in losses]).cpu().view(len(losses), -1)
    training.add(values[None])
    if training.step + 1 == group.stop:
        training.optimiser.step()
        training.move_average(ema_decay(schedule, training.done))
    return values


__all__ = ["InputPrefetcher", "PlainSteps", "Steps", "steps_of", "train_step"]
