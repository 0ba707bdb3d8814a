"""The steps of a training on cached features, one after the other; for those on a GPU see
:mod:`ssn_feat.training.cuda_graph`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

from ssn_feat.training.cuda_graph import CapturedSteps
from ssn_feat.training.optimisation import clip_gradients, ema_decay, rate, set_rate
from ssn_feat.training.task import EpochPlan, FeatureTask
from ssn_feat.training.training_state import Training


class Steps(Protocol):
    """What the loop needs from the object that runs the steps."""

    def begin(self) -> None:
        """Draw the current epoch of the training; the next step is ``training.step``."""

    def step(self) -> Tensor:
        """Run one step. Returns the terms of this step, float32 ``(terms, heads)``, or of an earlier one where results
        are read from the device only now and then.

        Raises UserError, naming all terms, where a loss is not finite.
        """

    def synchronise(self) -> None:
        """Wait until everything that a checkpoint holds includes the last step. Raises UserError like :meth:`step`."""

    def close(self) -> None:
        """Release resources."""


def steps_of(training: Training[FeatureTask]) -> Steps:
    """Captured steps on a GPU where all steps have the same shapes and one batch each; plain steps otherwise."""
    alike = training.task.fixed_shapes and training.options.optimisation.accumulate == 1
    if training.task.device.type == "cuda" and alike:
        return CapturedSteps(training)
    return PlainSteps(training)


class PlainSteps:
    """One step after the other; with a second thread, the inputs of the next step are prepared during this one."""

    def __init__(self, training: Training[FeatureTask]) -> None:
        self._training = training
        several = training.options.threads > 1 and training.task.device.type == "cpu"
        self._prefetcher = InputPrefetcher(training.task) if several else None
        self._plan: EpochPlan | None = None

    def begin(self) -> None:
        self._plan = self._training.task.plan(self._training.epoch)

    def step(self) -> Tensor:
        assert self._plan is not None
        return train_step(self._training, self._plan, self._prefetcher)

    def synchronise(self) -> None:
        if self._prefetcher is not None:
            self._prefetcher.discard()

    def close(self) -> None:
        if self._prefetcher is not None:
            self._prefetcher.close()


class InputPrefetcher:
    """Prepares the inputs of the next step of a task in a thread.

    The thread draws the dropout of a step that may never run: :meth:`discard` restores the generators.
    """

    def __init__(self, task: FeatureTask) -> None:
        self._task = task
        self._thread = ThreadPoolExecutor(1, "inputs")
        self._next: Future[tuple[Tensor, ...]] | None = None
        self._generators: Sequence[torch.Generator] = ()
        self._before: list[Tensor] = []

    def inputs(self, plan: EpochPlan, step: int, generators: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
        """The inputs of ``step``, as those of the task; the steps of a plan must be requested in order."""
        # On a busy machine the thread may not have started: then nothing was drawn, and waiting would cost time.
        if self._next is None or self._next.cancel():
            inputs = self._task.inputs(plan, step, generators)
        else:
            inputs = self._next.result()
        self._next = self._submit(plan, step + 1, generators) if step + 1 < len(plan.rows) else None
        return inputs

    def _submit(self, plan: EpochPlan, step: int, generators: Sequence[torch.Generator]) -> Future[tuple[Tensor, ...]]:
        self._generators, self._before = generators, [generator.get_state() for generator in generators]
        return self._thread.submit(self._task.inputs, plan, step, generators)

    def discard(self) -> None:
        """Discard inputs that were prepared for a step that did not run."""
        if self._next is not None and not self._next.cancel():
            self._next.result()
            for generator, state in zip(self._generators, self._before, strict=True):
                generator.set_state(state)
        self._next = None

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown()


def train_step(training: Training[FeatureTask], plan: EpochPlan, prefetcher: InputPrefetcher | None = None) -> Tensor:
    """Run one step; the optimiser steps where this step is the last of its group.

    ``prefetcher``: prepares the inputs; None means that the task does. Returns the terms of each head, float32
    ``(terms, heads)``. Raises UserError if a loss is not finite.
    """
    task, schedule = training.task, training.options.optimisation
    set_rate(training.optimiser, rate(schedule, training.done, task.steps))
    inputs = (prefetcher or task).inputs(plan, training.step, training.generators)
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
        if schedule.clip_norm:
            clip_gradients(task.head, schedule.clip_norm, stacked=len(training.facts) > 1)
        training.optimiser.step()
        training.move_average(ema_decay(schedule, training.done))
    return values


__all__ = ["InputPrefetcher", "PlainSteps", "Steps", "steps_of", "train_step"]
