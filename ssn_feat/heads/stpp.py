"""Structured temporal pyramid pooling: one feature of fixed width for a proposal (SSN, sections 3.1-3.2).

A proposal is extended by half its length on both sides and consists of a starting, a course and an ending stage. Each
stage is cut into parts on one or several levels. The feature of a part is the mean of its snippets divided by the
number of parts of its stage; the parts of the outer stages are multiplied by the fraction of the extension that is
inside the video. The activity classifier uses the mean of the whole course, without these weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ssn_feat.errors import UserError

STAGES = ("starting", "course", "ending")


@dataclass(frozen=True)
class Pyramid:
    """Number of parts on each level of each stage: ``((1,), (1, 2), (1,))`` for the option ``(1, (1, 2), 1)``.

    Parts are in the order starting, course, ending; within a stage from coarse to fine; within a level by time.
    """

    levels: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, config: Sequence[int | Sequence[int]]) -> Pyramid:
        """The pyramid of an option like ``(1, (1, 2), 1)``: for each stage one number of parts, or one for each level.

        Raises UserError unless there are three stages with at least one level each and all numbers are integers >= 1.
        """
        given = config if isinstance(config, Sequence) else ()
        stages = tuple(tuple(stage) if isinstance(stage, Sequence) else (stage,) for stage in given)
        counts = [count for stage in stages for count in stage]
        whole = all(isinstance(count, int) and not isinstance(count, bool) and count >= 1 for count in counts)
        if len(stages) != len(STAGES) or not all(stages) or not whole:
            raise UserError(
                f"a pyramid needs parts for {', '.join(STAGES)}, whole numbers >= 1 like (1, (1, 2), 1); got {config}"
            )
        return cls(stages)

    @property
    def parts(self) -> int:
        """Number of all parts; the completeness feature has ``parts * D`` values."""
        return sum(self.stage_parts)

    @cached_property
    def stage_parts(self) -> tuple[int, ...]:
        """Number of parts of each stage, over all of its levels."""
        return tuple(sum(stage) for stage in self.levels)

    @cached_property
    def stage_of_part(self) -> NDArray[np.int64]:
        """Index of the stage that each part belongs to, int64 ``(parts,)``."""
        return np.repeat(np.arange(len(STAGES)), self.stage_parts)

    @cached_property
    def fractions(self) -> NDArray[np.int64]:
        """For each part, its index ``i`` in its level and the number ``n`` of parts of the level: int64 ``(parts, 2)``.

        In a stage of ``length`` rows, the part covers the rows ``[i * length // n, (i + 1) * length // n)``.
        """
        return np.array([(i, n) for stage in self.levels for n in stage for i in range(n)], dtype=np.int64)

    def segment_weights(self, counts: Sequence[int]) -> NDArray[np.float32]:
        """Weights for pooling sampled segments, float32 ``(1 + parts, sum(counts))``.

        ``counts``: number of segments of each stage. Row 0 is the mean over the course (activity); the other rows are
        the parts, divided by the number of parts of their stage, before scaling. Raises UserError if a stage has
        fewer segments than parts.
        """
        if len(counts) != len(STAGES):
            raise UserError(f"segments per stage must be three numbers ({', '.join(STAGES)}), got {tuple(counts)}")
        for stage, count, levels in zip(STAGES, counts, self.levels, strict=True):
            if count < max(levels):
                raise UserError(
                    f"the {stage} stage has {count} sampled segments, too few for the {max(levels)} parts of its "
                    f"finest level in the pyramid {self.levels}; sample more or use a coarser pyramid"
                )
        first = np.concatenate([[0], np.cumsum(counts)])
        weights = np.zeros((1 + self.parts, first[-1]))
        weights[0, first[1] : first[2]] = 1 / counts[1]
        for row, (stage, (i, n)) in enumerate(zip(self.stage_of_part, self.fractions, strict=True), start=1):
            begin, end = first[stage] + counts[stage] * np.array([i, i + 1]) // n
            weights[row, begin:end] = 1 / (end - begin)
        weights[1:] *= self.part_shares()[:, None]
        return weights.astype(np.float32)

    def part_rows(self, stages: Tensor) -> tuple[Tensor, Tensor]:
        """First row and end row of every part, int64 ``(N, parts)`` each, half-open.

        ``stages`` int64 ``(N, 4)``: first rows of the starting stage, the course and the ending stage, and the end row
        of the ending stage. A stage without rows uses the row at its beginning, as in the original code; a part of a
        stage with fewer rows than parts may be empty (its end equals its beginning).
        """
        left = stages[:, :3]
        length = (stages[:, 1:] - left).clamp(min=1)
        stage = torch.from_numpy(self.stage_of_part).to(stages.device)
        index, count = torch.from_numpy(self.fractions).to(stages.device).unbind(1)
        left, length = left[:, stage], length[:, stage]
        return left + length * index // count, left + length * (index + 1) // count

    def part_scaling(self, scaling: Tensor) -> Tensor:
        """Factor of each part, ``(N, parts)``: ``scaling`` ``(N, 2)`` of its stage, 1 in the course."""
        # Without an index, which would have to be copied to the device: a captured step may not do that.
        columns = (scaling[:, :1], torch.ones_like(scaling[:, :1]), scaling[:, 1:])
        return torch.cat([column.expand(-1, n) for column, n in zip(columns, self.stage_parts, strict=True)], dim=1)

    def part_shares(self) -> NDArray[np.float64]:
        """For each part, one divided by the number of parts of its stage: float64 ``(parts,)``."""
        return (1 / np.array(self.stage_parts))[self.stage_of_part]


class SegmentPooling(nn.Module):
    """Pooling of segments that were sampled from the stages of proposals; without parameters.

    ``counts``: number of segments sampled from each stage, (2, 5, 2) in the paper. Raises UserError if a stage has
    fewer segments than parts.
    """

    weights: Tensor
    scaling_column: Tensor

    def __init__(self, pyramid: Pyramid, counts: Sequence[int]):
        super().__init__()
        self.pyramid = pyramid
        self.counts = tuple(counts)
        # For each row of the weights, the index of its factor in (1, scaling of the start, scaling of the end).
        columns = np.concatenate([[0], np.array([1, 0, 2])[pyramid.stage_of_part]])
        # Both follow from the options and are not persistent: checkpoints hold learned values only.
        self.register_buffer("weights", torch.from_numpy(pyramid.segment_weights(counts)), persistent=False)
        self.register_buffer("scaling_column", torch.from_numpy(columns), persistent=False)

    def forward(self, segments: Tensor, scaling: Tensor) -> Tensor:
        """Activity and part features, ``(N, 1 + parts, D)``: row 0 is the mean of the course, the others are the parts.

        ``segments`` ``(N, S, D)``: features of the sampled segments in temporal order; ``scaling`` ``(N, 2)``: fraction
        of the starting and of the ending extension inside the video.
        """
        # One product with all weights, including the scaling, is faster than pooling each stage.
        factors = torch.cat([torch.ones_like(scaling[:, :1]), scaling], dim=1)[:, self.scaling_column, None]
        return torch.bmm((factors * self.weights).to(segments.dtype), segments)


class RowSums:
    """Means over ranges of rows of a table ``(T, ...)`` in constant time each, with prefix sums in float64.

    The sums are in float64 because a short range is the difference of two sums over up to the whole table. Raises
    UserError where the table holds a value that is not finite, which would invalidate all later sums.
    """

    def __init__(self, table: Tensor) -> None:
        sums = torch.zeros(len(table) + 1, *table.shape[1:], dtype=torch.float64, device=table.device)
        torch.cumsum(table, 0, dtype=torch.float64, out=sums[1:])
        if not bool(torch.isfinite(sums[-1]).all()):
            finite = torch.isfinite(table.flatten(1)).all(1)
            raise UserError(f"row {int((~finite).nonzero()[0])} of {len(table)} holds a value that is not finite")
        self.sums = sums

    def __len__(self) -> int:
        """Number of rows of the table."""
        return len(self.sums) - 1

    def means(self, begin: Tensor, end: Tensor) -> Tensor:
        """Mean of each range of rows, float64, with the shape of ``begin`` and ``end`` followed by that of a row.

        Ranges are half-open, int64 and >= 0; they are cut at the end of the table; an empty range has mean 0.
        """
        begin, end = begin.clamp(max=len(self)), end.clamp(max=len(self))
        shape = begin.shape + (1,) * (self.sums.ndim - 1)
        return (self.sums[end] - self.sums[begin]) / (end - begin).clamp(min=1).view(shape)


class BlockSums:
    """Means over ranges of rows like :class:`RowSums`, for tables that are too large for float64 sums.

    ``inner``: float32 ``(T + 1, D)`` to be filled with the sums of the preceding rows in the same block of 32 rows;
    :attr:`base`: float64, sums of all preceding blocks. The sum over a range is the difference of two such pairs. Its
    error is at most 31 times the float32 rounding error of a single row, however long the table is. Raises UserError
    where ``rows`` ``(T, D)`` hold a value that is not finite.
    """

    size = 32

    def __init__(self, rows: Tensor, inner: Tensor) -> None:
        blocks = -(-len(rows) // self.size)
        self.inner = inner
        self.base = torch.zeros(blocks + 1, rows.shape[1], dtype=torch.float64, device=rows.device)
        for block in range(0, blocks, self.size):
            begin, end = block * self.size, min((block + self.size) * self.size, len(rows))
            chunk = rows[begin:end].double()
            padded = functional.pad(chunk, (0, 0, 0, -len(chunk) % self.size)).view(-1, self.size, chunk.shape[1])
            sums = padded.cumsum(1)
            self.base[block + 1 : block + 1 + len(sums)] = sums[:, -1]
            inner[begin:end] = (sums - padded).flatten(0, 1)[: len(chunk)]
        inner[len(rows)] = self.base[blocks] if len(rows) % self.size else 0.0
        torch.cumsum(self.base, 0, out=self.base)
        if not bool(self.base[-1].isfinite().all()):
            raise UserError(f"the {len(rows)} rows of features hold a value that is not finite")

    def means(self, begin: Tensor, end: Tensor) -> Tensor:
        """Mean of each range of rows, float32 ``(..., D)``; ranges as in :meth:`RowSums.means`, within the table."""
        wide = self.base[end // self.size] - self.base[begin // self.size]
        total = wide.add_(self.inner[end]).sub_(self.inner[begin])
        return (total / (end - begin).clamp(min=1)[..., None]).float()


def course_rows(stages: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """First and end row of each course, int64 ``(N,)`` each, at least one row.

    ``stages``: as in :meth:`Pyramid.part_rows`; ``rows``: number of rows of the video.

    Raises UserError if ``stages`` are not integers of shape ``(N, 4)``, a row is negative, or a course
    begins at or after the end of the video.
    """
    if stages.ndim != 2 or stages.shape[1] != 4 or stages.is_floating_point():
        raise UserError(f"stages must be whole numbers of shape (N, 4), got {stages.dtype} {tuple(stages.shape)}")
    wrong = (stages < 0).any(1) | (stages[:, 1] >= rows)
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0])
        raise UserError(
            f"proposal {first} has the stage rows {stages[first].tolist()}; "
            f"they must not be negative and its course must begin inside the {rows} rows of its video"
        )
    return stages[:, 1], torch.maximum(stages[:, 1] + 1, stages[:, 2])
