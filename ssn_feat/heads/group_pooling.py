"""Pooling of a training batch of sampled segments in one pass.

Each loss uses some of the proposals only, and a pooled feature is a weighted sum of rows. Therefore only the needed
rows are gathered, and one call computes all sums, reading each row once for each sum that it belongs to.
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
    """Pooling of the segments in :func:`needed_segments` of a batch of ``videos``; without parameters.

    Equals :meth:`ssn_feat.heads.ssn.SSNHead.pool` for everything that a loss uses.
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
        part_weights = pyramid.segment_weights(options.segments)[1:]
        part, segment = part_weights.nonzero()
        weights = part_weights[part, segment]
        part_rows = np.arange(proposals)[:, None] * segments + segment
        # Activity uses the courses of the foreground proposals of a video, then those of its background proposals.
        places = np.arange(proposals * segments).reshape(videos, groups.completeness_size, segments)
        foreground = places[:, : groups.foreground, options.segments[0] : options.segments[0] + course]
        background = np.arange(videos * groups.background * course).reshape(videos, -1, course) + places.size
        course_rows = np.concatenate((foreground, background), axis=1)
        sizes = [*np.tile(np.bincount(part), proposals), *[course] * (videos * groups.activity_size)]
        # The weight of each row is multiplied by 1 or by the scaling of the start or the end of its proposal. These
        # factors are in one array: a single 1, then the two scalings of every proposal.
        stage = pyramid.stage_of_part[part]
        factors = np.where(stage == 1, 0, 2 * np.arange(proposals)[:, None] + np.array([1, 0, 2])[stage])
        tables = {
            "rows": np.concatenate((part_rows.ravel(), course_rows.ravel())),
            "first": np.concatenate(([0], np.cumsum(sizes)[:-1])),
            "weights": np.concatenate((np.tile(weights, proposals), np.full(course_rows.size, 1 / course))),
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
        """The arguments of :meth:`ssn_feat.heads.ssn.SSNHead.score_groups`, without gradient.

        ``segments`` ``(len(needed_segments), D)``, which are overwritten; ``scaling``
        ``(videos * (fg + incomplete), 2)``; ``generator`` decides the dropout in training mode.
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
    """Indices, int64, of those of the ``videos * groups.size * sum(segments)`` segments of a batch that losses use.

    First all segments of the foreground and incomplete proposals, then the course segments of the background
    proposals, which are examples for activity only.
    """
    size = groups.completeness_size
    places = np.arange(videos * groups.size * sum(segments)).reshape(videos, groups.size, -1)
    course = slice(segments[0], segments[0] + segments[1])
    return np.concatenate((places[:, :size].ravel(), places[:, size:, course].ravel()))


__all__ = ["GroupPooling", "needed_segments"]
