"""Protocols of a training: what the loop needs, and what the steps on cached features need in addition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn


class EpochPlan(NamedTuple):
    """Everything that is drawn for one epoch; the first dimension of every tensor is the step.

    ``rows``: int64 ``(steps, R)``, rows of the feature table that each step reads, or for sequences ``(steps, B, 3)``,
    the video, the first row and the number of rows of each; ``others``: other tensors that the task needs in a step.
    """

    rows: Tensor
    others: tuple[Tensor, ...]


class Task(Protocol):
    """What the loop needs to know about a training."""

    @property
    def head(self) -> nn.Module:
        """The trained module; with several seeds, the first dimension of every parameter is the seed."""

    @property
    def device(self) -> torch.device:
        """Where the training computes."""

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the values of a step; the first is the loss."""

    @property
    def steps(self) -> int:
        """Number of steps in an epoch."""


class FeatureTask(Task, Protocol):
    """What the steps of a training on cached features need in addition."""

    @property
    def fixed_shapes(self) -> bool:
        """Whether the inputs of all steps have the same shapes, so that several seeds can share a step, and a step can
        be captured on a GPU."""

    def plan(self, epoch: int) -> EpochPlan:
        """Draw an epoch; the same seed and epoch give the same plan."""

    def inputs(self, plan: EpochPlan, step: int, generators: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
        """Arguments of :meth:`losses` for one step, without gradients and with dropout applied.

        ``generators``: one for each seed, decide the dropout.
        """

    def losses(self, head: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One scalar tensor for each of ``terms``; the first is the loss to minimise.

        With several seeds, the first dimension of parameters, inputs and results is the seed.
        """


TaskT = TypeVar("TaskT", bound=Task)


class BuiltTask(NamedTuple):
    """What the module of a head builds from the options and the data of a run.

    ``digest``: of the annotations and proposals that the run learns from; a run is not resumed with others; ``facts``:
    additional entries of the checkpoint, ``head`` and ``reg_stats`` (see :class:`ssn_feat.runs.checkpoints.Run`).
    """

    task: FeatureTask
    digest: str
    facts: dict[str, Any]


__all__ = ["BuiltTask", "EpochPlan", "FeatureTask", "Task", "TaskT"]
