"""Training of heads that read whole videos: windows of rows, packed end to end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssn_feat.errors import UserError
from ssn_feat.heads.kinds import sequence_head
from ssn_feat.heads.row_grid import RowGrid
from ssn_feat.heads.sequence_head import SequenceHead, Truth
from ssn_feat.heads.sequences import Packing
from ssn_feat.runs.checkpoints import describe_head
from ssn_feat.sampling.draws import epoch_generator, epoch_videos, steps_per_epoch
from ssn_feat.sampling.feature_table import FeatureTable
from ssn_feat.sampling.windows import draw_window, kept_instances
from ssn_feat.training.sequence_options import SequenceOptions
from ssn_feat.training.task import BuiltTask, EpochPlan
from ssn_feat.training.training_data import TrainingData, digest_of


@dataclass(frozen=True)
class RowInstances:
    """The instances of one video.

    ``intervals``: float64 ``(G, 2)``, on the grid of its rows; ``labels``: int64 ``(G,)``.
    """

    intervals: NDArray[np.float64]
    labels: NDArray[np.int64]


class SequenceTask:
    """Training of a head on windows of the rows of videos.

    ``instances``: of each video of ``table``.
    """

    fixed_shapes = False

    def __init__(
        self, head: SequenceHead, table: FeatureTable, instances: Sequence[RowInstances], options: SequenceOptions
    ) -> None:
        self.head, self.table, self.instances, self.options = head, table, instances, options
        self.device, self.terms = table.rows.device, head.terms
        schedule = options.optimisation
        self.batch_videos, self.multiplier = schedule.batch_videos, schedule.epoch_multiplier
        self.steps = steps_per_epoch(len(table.ids), self.multiplier, self.batch_videos)

    def plan(self, epoch: int) -> EpochPlan:
        generator = epoch_generator(self.options.seed, epoch)
        videos = epoch_videos(len(self.table.ids), self.multiplier, self.batch_videos, generator)
        sizes, options = np.diff(self.table.offsets), self.options
        windows = [
            (
                video,
                *draw_window(
                    int(sizes[video]),
                    self.instances[video].intervals,
                    options.longest,
                    options.crop,
                    options.kept_share,
                    generator,
                ),
            )
            for video in videos.reshape(-1).tolist()
        ]
        return EpochPlan(torch.tensor(windows).view(*videos.shape, 3), ())

    def inputs(self, plan: EpochPlan, step: int, generators: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
        windows = plan.rows[step].tolist()
        parts = []
        for video, first, size in windows:
            start = int(self.table.offsets[video]) + first
            parts.append(self.table.rows[start : start + size].float())
        packing = Packing.of([size for _, _, size in windows], self.head.extent)
        seed = torch.randint(2**62, (1,), generator=generators[0])
        packed = packing.to(self.device)
        truth = self._truth(windows)
        return packed.pack(parts), packed.offsets, packed.lengths, *(each.to(self.device) for each in truth), seed

    def _truth(self, windows: Sequence[tuple[int, int, int]]) -> Truth:
        """The instances in the windows, clipped to them, on the grid of their rows."""
        kept = []
        for video, first, size in windows:
            instances = self.instances[video]
            inside = kept_instances(instances.intervals, first, size, self.options.kept_share)
            kept.append((np.clip(instances.intervals[inside] - first, 0, size), instances.labels[inside]))
        # One at least, since reductions over no instances are errors in torch.
        most = max(1, *(len(labels) for _, labels in kept))
        intervals = torch.full((len(kept), most, 2), torch.nan)
        classes = torch.zeros(len(kept), most, dtype=torch.int64)
        for at, (clipped, labels) in enumerate(kept):
            intervals[at, : len(labels)] = torch.from_numpy(clipped)
            classes[at, : len(labels)] = torch.from_numpy(labels)
        return Truth(intervals, classes)

    def losses(self, head: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(head, SequenceHead)
        rows, offsets, lengths, instances, labels, seed = inputs
        generator = torch.Generator().manual_seed(int(seed))
        return head.losses(rows, Packing(offsets, lengths), Truth(instances, labels), generator)


def proposals_of(options: SequenceOptions) -> Path | None:
    """Heads that read whole videos learn from no proposals."""
    return None


def extra_bytes(options: SequenceOptions) -> int:
    """The training needs the features only."""
    return 0


def build_task(options: SequenceOptions, data: TrainingData, generator: torch.Generator) -> BuiltTask:
    """A new head with its training. Raises UserError if the options do not fit the head."""
    table = data.table
    head = sequence_head(options.head)(table.feature_dim, len(data.labels), options.of_head, generator).to(
        table.rows.device
    )
    instances = [_on_rows(data, at) for at in range(len(table.ids))]
    if not any(len(each.labels) for each in instances):
        raise UserError("no training video has an instance")
    if options.eval and head.gives != "detections":
        raise UserError(f"--eval measures detections, but this {head.kind} head gives {head.gives}: leave out --eval")
    _check_windows(instances, np.diff(data.table.offsets), options)
    digest = digest_of(*(part for each in instances for part in (each.intervals, each.labels)))
    facts = {"head": describe_head(head), "reg_stats": None}
    return BuiltTask(SequenceTask(head, table, instances, options), digest, facts)


def _check_windows(instances: Sequence[RowInstances], rows: NDArray[np.int64], options: SequenceOptions) -> None:
    """Raise UserError if no window of any video holds enough of an instance; print how many are never learned.

    ``rows``: number of rows of each video, ``(V,)``.
    """
    kept, total = 0, sum(len(each.labels) for each in instances)
    for each, size in zip(instances, rows.tolist(), strict=True):
        inside = np.clip(each.intervals, 0, size)
        longest = min(options.longest, size)
        # The part of each instance in the best window, which contains its start.
        first = np.clip(inside[:, 0], 0, size - longest)
        shared = np.minimum(inside[:, 1], first + longest) - inside[:, 0]
        kept += int((shared >= options.kept_share * np.diff(each.intervals, axis=1)[:, 0]).sum())
    reason = (
        f"less than {options.kept_share:g} of each (--kept-share) fits into a window of --longest {options.longest} "
        "rows or lies in its video"
    )
    if not kept:
        raise UserError(f"none of the {total} training instances can be learned: {reason}")
    if kept < total and not options.quiet:
        print(f"note: {total - kept} of {total} training instances are never learned: {reason}", file=sys.stderr)


def _on_rows(data: TrainingData, at: int) -> RowInstances:
    """The instances of a video on the grid of its rows."""
    video = data.dataset.videos[data.table.ids[at]]
    grid = RowGrid.of(data.table.spans[data.table.rows_of(at)])
    seconds = np.array([(each.start, each.end) for each in video.instances]).reshape(-1, 2)
    index = {label: number for number, label in enumerate(data.labels)}
    return RowInstances(grid.positions(seconds), np.array([index[i.label] for i in video.instances], dtype=np.int64))


__all__ = ["RowInstances", "SequenceTask", "build_task", "extra_bytes", "proposals_of"]
