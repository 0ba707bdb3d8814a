"""Training of the SSN head on all snippets of each stage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssn_feat.heads.dropout import unscaled_dropout_
from ssn_feat.heads.ssn import SSNHead
from ssn_feat.heads.stpp import BlockSums
from ssn_feat.sampling.feature_table import FeatureTable
from ssn_feat.sampling.pools import CandidatePools, Candidates
from ssn_feat.training.fit_options import FitOptions
from ssn_feat.training.ssn_task import EpochPlan, SSNTask, candidate_ranges


class DenseSSNTask(SSNTask):
    """Training of the SSN head on all snippets of each stage, so that it is trained on what it will score.

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
        fit = self.groups.foreground + self.groups.incomplete
        own, steps = self._ranges[chosen], len(chosen)
        activity = np.concatenate((own[:, :, : self.groups.foreground, 0], own[:, :, fit:, 0]), axis=2)
        parts = own[:, :, :fit, 1:]
        return np.concatenate((activity.reshape(steps, -1), parts.reshape(steps, -1)), axis=1)

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


__all__ = ["DenseSSNTask"]
