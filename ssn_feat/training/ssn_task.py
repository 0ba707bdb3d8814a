"""Training of the SSN head: which rows a step reads, and its losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssn_feat.heads.dropout import unscaled_dropout_
from ssn_feat.heads.group_pooling import GroupPooling, needed_segments
from ssn_feat.heads.losses import balanced_weights, ssn_loss
from ssn_feat.heads.ssn import SSNHead
from ssn_feat.heads.stages import Stages, row_ranges, stage_rows, stages
from ssn_feat.heads.stpp import BlockSums
from ssn_feat.runs.checkpoints import describe_head
from ssn_feat.sampling.draws import epoch_candidates, epoch_generator, steps_per_epoch
from ssn_feat.sampling.feature_table import FeatureTable
from ssn_feat.sampling.pools import CandidatePool, CandidatePools, Candidates, make_pools
from ssn_feat.sampling.segments import choose_rows
from ssn_feat.training.fit_options import FitOptions
from ssn_feat.training.task import BuiltTask, EpochPlan
from ssn_feat.training.training_data import TrainingData, digest_of, require_proposals


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
        """Rows of candidates whose ``ids`` are those of the table."""
        ranges, scaling = candidate_ranges(candidates, table, augmentation)
        begin, end = table.offsets[candidates.video], table.offsets[candidates.video + 1]
        first, count = stage_rows(ranges, (end - begin)[:, None])
        return cls(first + begin[:, None], count, scaling)


def candidate_ranges(
    candidates: Candidates, table: FeatureTable, augmentation: tuple[float, float]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows within their videos of the stages of candidates whose ``ids`` are those of the table, and their scaling.

    Returns int64 ``(N, 4)`` as :func:`ssn_feat.heads.stages.row_ranges`, and float32 ``(N, 2)``.
    """
    placed = stages(candidates.intervals, table.durations[candidates.video], augmentation)
    ranges = np.empty((len(candidates), 4), dtype=np.int64)
    edges = np.searchsorted(candidates.video, np.arange(len(table.ids) + 1))
    for video, (begin, end) in enumerate(pairwise(edges)):
        of_video = Stages(placed.boundaries[begin:end], placed.scaling[begin:end])
        ranges[begin:end] = row_ranges(table.spans[table.rows_of(video)], of_video)
    return ranges, placed.scaling.astype(np.float32)


class SSNTask:
    """Training of the SSN head: proposals of three kinds from each video, 2 + 5 + 2 segments from each proposal.

    ``candidates``: of the videos of ``table``; ``pools``: made from the candidates.
    """

    fixed_shapes = True
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
        # A background proposal may overlap an instance slightly and then has its label: the losses need background.
        labels[..., self.groups.completeness_size :] = 0
        scaling = self.stage_rows.scaling[chosen[..., : self.groups.completeness_size]].reshape(len(chosen), -1, 2)
        arrays = (self._rows(chosen, generator), scaling, labels, self.targets[chosen])
        rows, *others = (torch.from_numpy(array).to(self.device) for array in arrays)
        return EpochPlan(rows, tuple(others))

    def _rows(self, chosen: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        """Rows that the steps read for the candidates ``chosen`` ``(steps, V, groups.size)``: int64 ``(steps, R)``."""
        first, count = self.stage_rows.first[chosen], self.stage_rows.count[chosen]
        rows = choose_rows(first, count, self.head.options.segments, generator)
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


class DenseSSNTask(SSNTask):
    """Training of the SSN head on all snippets of each stage, as in scoring.

    ``sums``: of the rows of the table; the other arguments are those of :class:`SSNTask`.
    """

    def __init__(
        self,
        head: SSNHead,
        table: FeatureTable,
        candidates: Candidates,
        pools: CandidatePools,
        options: FitOptions,
        sums: BlockSums,
    ) -> None:
        super().__init__(head, table, candidates, pools, options)
        self.sums, pyramid = sums, head.options.pyramid
        ranges, _ = candidate_ranges(candidates, table, options.augmentation)
        begin, end = table.offsets[candidates.video], table.offsets[candidates.video + 1]
        course = np.stack((ranges[:, 1], np.maximum(ranges[:, 1] + 1, ranges[:, 2])), axis=1)[:, None]
        parts = torch.stack(pyramid.part_rows(torch.from_numpy(ranges)), dim=2).numpy()
        # First and end row of the course, then of each part, in the table: int64 (N, 1 + parts, 2).
        self._ranges = np.minimum(np.concatenate((course, parts), axis=1) + begin[:, None, None], end[:, None, None])
        self._shares = torch.from_numpy(pyramid.part_shares()).float().to(self.device)

    def _rows(self, chosen: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        ranges = torch.from_numpy(self._ranges[chosen])
        activity = self.groups.for_activity(ranges[..., 0, :], 2)
        parts = self.groups.for_completeness(ranges[..., 1:, :], 2)
        return torch.cat((activity.flatten(1), parts.flatten(1)), dim=1).numpy()

    def inputs(self, plan: EpochPlan, step: int, generators: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
        scaling, labels, targets = (tensor[step] for tensor in plan.others)
        begin, end = plan.rows[step].view(-1, 2).unbind(1)
        pooled = self.sums.means(begin, end)
        if self.head.training:
            pooled, scale = unscaled_dropout_(pooled, self.head.options.dropout, generators[0])
            pooled = pooled.mul_(scale)
        weights = self.head.options.pyramid.part_scaling(scaling) * self._shares
        parts = pooled[-weights.numel() :].view(*weights.shape, -1) * weights[:, :, None]
        return pooled[: -weights.numel()], parts.flatten(1), labels, targets, *self.class_weights


def class_frequencies(pool: CandidatePool, labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """How often each class is drawn when one member of ``pool`` is drawn from every video in turn: float64 ``(K,)``.

    ``labels``: int64, the class index (from 0) of every candidate. A video without members takes one from the whole
    pool.
    """
    sizes = np.diff(pool.offsets)
    chances = np.repeat(1 / np.maximum(sizes, 1), sizes) + (sizes == 0).sum() / len(pool)
    return np.bincount(labels[pool.members], chances, minlength=classes) / len(sizes)


def proposals_of(options: FitOptions) -> Path:
    """The file of proposals that a run with these options learns from. Raises UserError if there is none."""
    return require_proposals(options.head, options.proposals)


def extra_bytes(options: FitOptions) -> int:
    """Dense sampling keeps the sums of the values, in float32."""
    return 4 if options.sampling == "dense" else 0


def build_task(options: FitOptions, data: TrainingData, generator: torch.Generator) -> BuiltTask:
    """A new SSN head with its training. Raises UserError if a pool of proposals is empty."""
    table = data.table
    candidates = data.candidates(options.random_windows, options.seed)
    pools = make_pools(candidates, options.pools, options.groups)
    head = SSNHead(table.feature_dim, len(data.labels), options.ssn, generator).to(table.rows.device)
    given = (head, table, candidates, pools, options)
    task = DenseSSNTask(*given, data.sums) if options.sampling == "dense" else SSNTask(*given)
    facts = {"head": describe_head(head), "reg_stats": torch.from_numpy(pools.target_stats)}
    facts["augmentation"] = list(options.augmentation)
    return BuiltTask(task, digest_of(candidates.intervals, candidates.labels), facts)


__all__ = [
    "DenseSSNTask",
    "SSNTask",
    "StageRows",
    "build_task",
    "candidate_ranges",
    "class_frequencies",
    "extra_bytes",
    "proposals_of",
]
