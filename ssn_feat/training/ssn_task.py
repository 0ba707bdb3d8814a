"""What one training step does for each head: which rows it reads and what its losses are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssn_feat.heads.group_pooling import GroupPooling, needed_segments
from ssn_feat.heads.losses import balanced_weights, ssn_loss
from ssn_feat.heads.ssn import SSNHead
from ssn_feat.heads.stages import Stages, row_ranges, stage_rows, stages
from ssn_feat.sampling.draws import epoch_candidates, epoch_generator, steps_per_epoch
from ssn_feat.sampling.feature_table import FeatureTable
from ssn_feat.sampling.pools import CandidatePool, CandidatePools, Candidates
from ssn_feat.sampling.segments import choose_rows
from ssn_feat.training.fit_options import FitOptions


class EpochPlan(NamedTuple):
    """Everything drawn for one epoch, each tensor with the steps as its first dimension.

    ``rows``: int64 ``(steps, R)``, rows of the feature table; the others as the task needs them.
    """

    rows: Tensor
    others: tuple[Tensor, ...]


class Task(Protocol):
    """What the loop asks of a head's training."""

    @property
    def head(self) -> nn.Module:
        """What is learned; with several seeds every parameter has them as its first dimension."""

    @property
    def device(self) -> torch.device:
        """Where the features lie."""

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of what :meth:`losses` gives."""

    @property
    def steps(self) -> int:
        """Steps of an epoch."""

    def plan(self, epoch: int) -> EpochPlan:
        """Draw an epoch; the same for the same seed and epoch."""

    def inputs(self, plan: EpochPlan, step: int, generators: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
        """What :meth:`losses` needs of a step, dropout done (``generators``, one per seed, decide it); no gradients."""

    def losses(self, head: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What ``terms`` names, scalar tensors, first the loss to minimise.

        Of several seeds all of this has them as its first dimension: parameters, inputs and terms.
        """


@dataclass(frozen=True)
class StageRows:
    """Rows of the feature table that belong to the stages of N candidates.

    ``first``, ``count``: int64 ``(N, 3)``; ``scaling``: float32 ``(N, 2)``.
    """

    first: NDArray[np.int64]
    count: NDArray[np.int64]
    scaling: NDArray[np.float32]

    @classmethod
    def of(cls, candidates: Candidates, table: FeatureTable, augmentation: tuple[float, float]) -> StageRows:
        """Of candidates whose ``ids`` are the table's."""
        ranges, scaling = candidate_ranges(candidates, table, augmentation)
        begin, end = table.offsets[candidates.video], table.offsets[candidates.video + 1]
        first, count = stage_rows(ranges, (end - begin)[:, None])
        return cls(first + begin[:, None], count, scaling)


def candidate_ranges(
    candidates: Candidates, table: FeatureTable, augmentation: tuple[float, float]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows of the stages of candidates whose ``ids`` are the table's, int64 ``(N, 4)`` as
    :func:`ssn_feat.heads.stages.row_ranges` gives them, and their scaling, float32 ``(N, 2)``."""
    made = stages(candidates.intervals, table.durations[candidates.video], augmentation)
    ranges = np.empty((len(candidates), 4), dtype=np.int64)
    edges = np.searchsorted(candidates.video, np.arange(len(table.ids) + 1))
    for video, (begin, end) in enumerate(pairwise(edges)):
        own = Stages(made.boundaries[begin:end], made.scaling[begin:end])
        ranges[begin:end] = row_ranges(table.spans[table.rows_of(video)], own)
    return ranges, made.scaling.astype(np.float32)


class SSNTask:
    """Training of the SSN head: proposals of three kinds from each video, 2 + 5 + 2 segments from each proposal.

    ``candidates``: of the videos of ``table``; ``pools``: made of them. The shape is that of ``head``, all else is as
    ``options`` say.
    """

    terms = ("loss", "activity", "completeness", "regression", "accuracy")

    def __init__(
        self, head: SSNHead, table: FeatureTable, candidates: Candidates, pools: CandidatePools, options: FitOptions
    ) -> None:
        self.head, self.table, self.pools, self.seed = head, table, pools, options.seed
        self.groups, self.loss_options = options.groups, options.losses
        self.batch_videos, self.multiplier = options.optimisation.batch_videos, options.optimisation.epoch_multiplier
        self.device = table.rows.device
        self.steps = steps_per_epoch(len(table.ids), self.multiplier, self.batch_videos)
        self.needed = needed_segments(self.batch_videos, self.groups, head.options.segments)
        self.pooling = GroupPooling(head.options, self.batch_videos, self.groups).to(self.device)
        self.stage_rows = StageRows.of(candidates, table, options.augmentation)
        mean, deviation = pools.target_stats
        self.targets = ((candidates.targets - mean) / deviation).astype(np.float32)
        self.labels = candidates.labels + 1
        self.class_weights: tuple[Tensor, ...] = ()
        if options.losses.class_weights == "balanced":
            shares = self.groups.foreground * class_frequencies(pools.foreground, candidates.labels, head.classes)
            drawn = torch.from_numpy(np.concatenate(([self.groups.background], shares)))
            self.class_weights = (balanced_weights(drawn).float().to(self.device),)

    def plan(self, epoch: int) -> EpochPlan:
        generator = epoch_generator(self.seed, epoch)
        chosen = epoch_candidates(
            self.pools, len(self.table.ids), self.multiplier, self.batch_videos, self.groups, generator
        )
        labels = self.labels[chosen]
        # A background proposal may touch an instance by a hair; to the losses it is background all the same.
        labels[..., self.groups.foreground + self.groups.incomplete :] = 0
        complete = self.groups.foreground + self.groups.incomplete
        scaling = self.stage_rows.scaling[chosen[..., :complete]].reshape(len(chosen), -1, 2)
        drawn = (self._rows(chosen, generator), scaling, labels, self.targets[chosen])
        first, *others = (torch.from_numpy(array).to(self.device) for array in drawn)
        return EpochPlan(first, tuple(others))

    def _rows(self, chosen: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        """Rows that the steps gather for the candidates ``chosen`` ``(steps, V, groups.size)``."""
        own = self.stage_rows
        rows = choose_rows(own.first[chosen], own.count[chosen], self.head.options.segments, generator)
        return rows.reshape(len(rows), -1)[:, self.needed]

    def inputs(self, plan: EpochPlan, step: int, generators: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
        scaling, labels, targets = (tensor[step] for tensor in plan.others)
        features = self.table.rows.index_select(0, plan.rows[step])
        return *self.pooling(features, scaling, generators[0]), labels, targets, *self.class_weights

    def losses(self, head: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(head, SSNHead)
        activity, parts, labels, targets, *class_weights = inputs
        scores = head.score_groups(activity, parts, self.groups)
        result = ssn_loss(scores, labels, targets, self.groups, self.loss_options, *class_weights)
        right = scores.activity.detach().argmax(dim=-1) == self.groups.for_activity(labels, -1)
        return (*result, right.float().mean(dim=-1))


def class_frequencies(pool: CandidatePool, labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """How often each class is drawn when one member of ``pool`` is drawn from every video in turn: float64 ``(K,)``.

    ``labels``: int64, class index from 0 of every candidate. Videos that have no member take one of the whole pool.
    """
    sizes = np.diff(pool.offsets)
    chances = np.repeat(1 / np.maximum(sizes, 1), sizes) + (sizes == 0).sum() / len(pool)
    return np.bincount(labels[pool.members], chances, minlength=classes) / len(sizes)


__all__ = ["EpochPlan", "SSNTask", "StageRows", "Task", "candidate_ranges", "class_frequencies"]
