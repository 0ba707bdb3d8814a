"""Training of the actionness head: from single rows, or from proposals as in the original code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.errors import UserError
from ssn_feat.heads.actionness import ActionnessHead
from ssn_feat.heads.dropout import unscaled_dropout_
from ssn_feat.heads.losses import Groups
from ssn_feat.heads.ssn import linear
from ssn_feat.runs.checkpoints import describe_head
from ssn_feat.sampling.draws import draw, epoch_generator, epoch_videos, steps_per_epoch
from ssn_feat.sampling.feature_table import FeatureTable
from ssn_feat.sampling.pools import CandidatePool, CandidatePools, Candidates, make_pools
from ssn_feat.sampling.segments import choose_rows
from ssn_feat.training.fit_options import FitOptions
from ssn_feat.training.ssn_task import StageRows
from ssn_feat.training.task import BuiltTask, EpochPlan
from ssn_feat.training.training_data import TrainingData, digest_of, require_proposals


class ActionnessTask:
    """Training of the actionness head: rows inside and outside actions from each video.

    ``pools``: the pool of action and the pool of background, of rows (of proposals in
    :class:`ActionnessProposalsTask`).
    """

    fixed_shapes = True
    terms = ("loss", "accuracy", "recall")

    def __init__(
        self,
        head: ActionnessHead,
        table: FeatureTable,
        pools: tuple[CandidatePool, CandidatePool],
        options: FitOptions,
    ) -> None:
        self.head, self.table, self.device, self.seed = head, table, table.rows.device, options.seed
        self.batch_videos, self.multiplier = options.optimisation.batch_videos, options.optimisation.epoch_multiplier
        self.steps = steps_per_epoch(len(table.ids), self.multiplier, self.batch_videos)
        counts = options.actionness.action_rows, options.actionness.background_rows
        self.pools = tuple(zip(pools, counts, strict=True))
        classes = torch.tensor([1, 0]).repeat_interleave(torch.tensor(counts))
        self.labels = classes.repeat(self.batch_videos).to(self.device)
        self.actions = self.labels.nonzero().squeeze(1)

    def plan(self, epoch: int) -> EpochPlan:
        generator = epoch_generator(self.seed, epoch)
        videos = epoch_videos(len(self.table.ids), self.multiplier, self.batch_videos, generator)
        members = [draw(pool, videos.reshape(-1), count, generator) for pool, count in self.pools]
        rows = self._rows(np.concatenate(members, axis=1), generator)
        return EpochPlan(torch.from_numpy(rows.reshape(len(videos), -1)).to(self.device), ())

    def _rows(self, members: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        """Rows to read for drawn members of the pools."""
        return members

    def inputs(self, plan: EpochPlan, step: int, generators: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
        rows = self.table.rows.index_select(0, plan.rows[step])
        features, scale = unscaled_dropout_(rows, self.head.dropout, generators[0])
        return (features.view(len(self.labels), -1, features.shape[1]).float().mean(dim=1) * scale,)

    def losses(self, head: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(head, ActionnessHead)
        logits = linear(head.classifier_fc, *inputs)
        labels = self.labels.expand(logits.shape[:-1])
        loss = functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none").view(labels.shape)
        predicted = logits.detach().argmax(dim=-1)
        right, recalled = (predicted == labels).float(), predicted[..., self.actions].float()
        return loss.mean(dim=-1), right.mean(dim=-1), recalled.mean(dim=-1)


class ActionnessProposalsTask(ActionnessTask):
    """Training of the actionness head as in the original: foreground against background proposals.

    The feature of a proposal is the mean of several rows of its course: the course is cut into equal parts, and one row
    is drawn from each.
    """

    def __init__(
        self,
        head: ActionnessHead,
        table: FeatureTable,
        candidates: Candidates,
        pools: CandidatePools,
        options: FitOptions,
    ) -> None:
        super().__init__(head, table, (pools.foreground, pools.background), options)
        self._segments = (options.actionness.actionness_segments,)
        self._stages = StageRows.of(candidates, table, (0.0, 0.0))

    def _rows(self, members: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        first, count = self._stages.first[members, 1:2], self._stages.count[members, 1:2]
        return choose_rows(first, count, self._segments, generator)


def row_pool(name: str, mask: NDArray[np.bool_], offsets: NDArray[np.int64]) -> CandidatePool:
    """The rows of a table where ``mask`` ``(R,)`` is true, as a pool; ``offsets`` are those of the table.

    Raises UserError if ``mask`` is never true.
    """
    if not mask.any():
        raise UserError(
            f"no {name} row: of {len(mask)} rows of {len(offsets) - 1} videos the centres of "
            f"{'none' if name == 'action' else 'all'} lie inside an annotated instance"
        )
    members = np.flatnonzero(mask)
    return CandidatePool(name, members, np.searchsorted(members, offsets))


def rows_inside(dataset: Dataset, table: FeatureTable) -> NDArray[np.bool_]:
    """Which rows have their centre inside an annotated instance of their video: bool ``(R,)``."""
    inside = np.zeros(len(table.rows), dtype=bool)
    for video, name in enumerate(table.ids):
        rows = table.rows_of(video)
        centres = table.spans[rows].mean(axis=1)[:, None]
        intervals = dataset.videos[name].intervals()
        inside[rows] = ((centres >= intervals[:, 0]) & (centres < intervals[:, 1])).any(axis=1)
    return inside


def proposals_of(options: FitOptions) -> Path | None:
    """The file of proposals that a run with these options learns from; None if it learns from single rows.

    Raises UserError if it learns from proposals and there is no file.
    """
    if options.actionness.actionness_sampling == "rows":
        return None
    return require_proposals(options.head, options.proposals)


def extra_bytes(options: FitOptions) -> int:
    """The training needs the features only."""
    return 0


def build_task(options: FitOptions, data: TrainingData, generator: torch.Generator) -> BuiltTask:
    """A new actionness head with its training. Raises UserError if there is only action or only background."""
    table = data.table
    head = ActionnessHead(table.feature_dim, options.ssn.dropout, generator).to(table.rows.device)
    facts = {"head": describe_head(head), "reg_stats": None, "augmentation": list(options.augmentation)}
    if data.proposals is None:
        inside = rows_inside(data.dataset, table)
        rows = (row_pool("action", inside, table.offsets), row_pool("background", ~inside, table.offsets))
        return BuiltTask(ActionnessTask(head, table, rows, options), digest_of(inside), facts)
    candidates = data.candidates(options.random_windows, options.seed)
    # As in the original: every proposal that hardly overlaps an instance is background, however short it is.
    thresholds = replace(options.pools, incomplete_overlap=1.0, background_coverage=0.0)
    pools = make_pools(candidates, thresholds, Groups(1, 0, 1))
    task = ActionnessProposalsTask(head, table, candidates, pools, options)
    return BuiltTask(task, digest_of(candidates.intervals, candidates.labels), facts)


__all__ = [
    "ActionnessProposalsTask",
    "ActionnessTask",
    "build_task",
    "extra_bytes",
    "proposals_of",
    "row_pool",
    "rows_inside",
]
