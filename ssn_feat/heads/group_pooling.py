"""From the gathered rows of a training batch to what the SSN head scores, in one pass.

The losses look at parts of a batch only, and a pooled feature is a weighted sum of some rows: only what is needed is
gathered, and all sums are made by one call, which reads each row once for each sum that it belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ssn_feat.heads.dropout import unscaled_dropout_
from ssn_feat.heads.losses import Groups
from ssn_feat.heads.ssn import SSNOptions


class GroupPooling(nn.Module):
    """Pools the segments of a batch of ``videos`` that :func:`needed_segments` names; no parameters.

    Equals :meth:`ssn_feat.heads.ssn.SSNHead.pool` where the losses look.
    """

    rows: Tensor
    first: Tensor
    weights: Tensor
    factors: Tensor

    def __init__(self, options: SSNOptions, videos: int, groups: Groups) -> None:
        super().__init__()
        self.dropout, pyramid = options.dropout, options.pyramid
        segments, course = sum(options.segments), options.segments[1]
        proposals = videos * groups.completeness_size
        own = pyramid.segment_weights(options.segments)[1:]
        part, segment = own.nonzero()
        part_rows = np.arange(proposals)[:, None] * segments + segment
        # The activity of a video: the courses of its foreground, then of its background proposals.
        places = np.arange(proposals * segments).reshape(videos, groups.completeness_size, segments)
        foreground = places[:, : groups.foreground, options.segments[0] : options.segments[0] + course]
        background = np.arange(videos * groups.background * course).reshape(videos, -1, course) + places.size
        course_rows = np.concatenate((foreground, background), axis=1)
        sizes = [*np.tile(np.bincount(part), proposals), *[course] * (videos * groups.activity_size)]
        # Each row's weight is multiplied by one of (1, scaling of the start, scaling of the end) of its proposal: the
        # first, which is 1 for all, comes before those of the proposals.
        stage = pyramid.stage_of_part[part]
        factors = np.where(stage == 1, 0, 2 * np.arange(proposals)[:, None] + np.array([1, 0, 2])[stage])
        tables = {
            "rows": np.concatenate((part_rows.ravel(), course_rows.ravel())),
            "first": np.concatenate(([0], np.cumsum(sizes)[:-1])),
            "weights": np.concatenate((np.tile(own[part, segment], proposals), np.full(course_rows.size, 1 / course))),
            "factors": np.concatenate((factors.ravel(), np.zeros(course_rows.size, dtype=np.int64))),
        }
        for name, table in tables.items():
            kind = np.float32 if name == "weights" else np.int64
            self.register_buffer(name, torch.from_numpy(table.astype(kind)), persistent=False)
        self._pooled = proposals * pyramid.parts

    @torch.no_grad()
    def forward(
        self, segments: Tensor, scaling: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """What :meth:`ssn_feat.heads.ssn.SSNHead.score_groups` takes; no gradient passes.

        ``segments`` ``(videos * len(needed_segments), D)``, which are overwritten; ``scaling`` ``(videos * (fg +
        incomplete), 2)``. ``generator`` decides the dropout of training mode.
        """
        scale = 1.0
        if self.training:
            segments, scale = unscaled_dropout_(segments, self.dropout, generator)
        factors = functional.pad(scaling.flatten(), (1, 0), value=1.0).index_select(0, self.factors)
        weights = factors.mul_(self.weights).mul_(scale)
        pooled = functional.embedding_bag(
            self.rows, segments.float(), self.first, mode="sum", per_sample_weights=weights
        )
        return pooled[self._pooled :], pooled[: self._pooled].view(len(scaling), -1)


def needed_segments(videos: int, groups: Groups, segments: Sequence[int]) -> NDArray[np.int64]:
    """Which of the ``(videos * groups.size * sum(segments))`` segments of a batch the losses look at, int64.

    All of the foreground and incomplete proposals, then of background proposals those of the course alone: background
    is an example for activity only.
    """
    size = groups.completeness_size
    places = np.arange(videos * groups.size * sum(segments)).reshape(videos, groups.size, -1)
    course = slice(segments[0], segments[0] + segments[1])
    return np.concatenate((places[:, :size].ravel(), places[:, size:, course].ravel()))


__all__ = ["GroupPooling", "needed_segments"]
