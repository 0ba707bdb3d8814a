"""The one-stage detector: classes and boundaries at every point of a temporal pyramid, without proposals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ssn_feat.errors import UserError
from ssn_feat.heads.point_network import PointNetwork, Points
from ssn_feat.heads.point_options import PointNetworkOptions
from ssn_feat.heads.points import PointLossOptions, decode, grid_of, point_losses, targets
from ssn_feat.heads.sequence_head import Gives, RowIntervals, SequenceHead, Truth
from ssn_feat.heads.sequences import Packing


@dataclass(frozen=True)
class OneStageOptions:
    """The one-stage detector. The defaults are those of ActionFormer for THUMOS14."""

    network: PointNetworkOptions = field(default_factory=PointNetworkOptions)
    """Shape of the network."""
    point_losses: PointLossOptions = field(default_factory=PointLossOptions)
    """Targets and losses."""
    minimum_score: float = 0.001
    """Points with a lower score give no detection."""
    points_per_level: int = 2000
    """Number of points at each level that give detections, those with the highest scores."""
    shortest: float = 0.05
    """Detections that are shorter than this many rows are dropped."""

    def __post_init__(self) -> None:
        if not 0 <= self.minimum_score < 1 or self.points_per_level < 1 or self.shortest < 0:
            raise UserError("need minimum_score in [0, 1), points_per_level >= 1 and shortest >= 0")


class OneStageHead(PointNetwork, SequenceHead):
    """ActionFormer or TemporalMaxer on cached features; see :class:`PointNetwork`."""

    Options = OneStageOptions
    kind: ClassVar[str] = "one-stage"
    options: OneStageOptions
    normaliser: Tensor
    terms = ("loss", "classes", "boundaries")

    def __init__(
        self,
        feature_dim: int,
        classes: int,
        options: OneStageOptions | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        chosen = options or OneStageOptions()
        super().__init__(feature_dim, classes, chosen.network, generator)
        self.options = chosen
        self.extent = chosen.network.stride
        self.register_buffer("normaliser", torch.tensor(chosen.point_losses.normaliser))

    @property
    def gives(self) -> Gives:
        """Detections, or proposals if the head is class-agnostic."""
        return "proposals" if self.options.network.class_agnostic else "detections"

    def losses(self, rows: Tensor, packing: Packing, truth: Truth, generator: torch.Generator) -> tuple[Tensor, ...]:
        points: Points = self(rows, packing, self._keep(len(packing.lengths), generator, rows.device))
        grid, options = grid_of(points.packings), self.options.point_losses
        agnostic = self.options.network.class_agnostic
        labels = torch.zeros_like(truth.labels) if agnostic else truth.labels
        of_class, wanted = targets(grid, truth.instances, labels, points.logits.shape[1], len(points.packings), options)
        loss, focal, distance, normaliser = point_losses(points, of_class, wanted, grid, self.normaliser, options)
        self.normaliser.copy_(normaliser)
        return loss, focal.detach(), distance.detach()

    def _keep(self, videos: int, generator: torch.Generator, device: torch.device) -> Tensor | None:
        """Factors of the branches of each block for each video, ``(blocks, 2, V)``."""
        probability = self.options.network.drop_path
        if not probability or not self.training or self.options.network.pyramid != "attention":
            return None
        drawn = torch.rand(self.blocks, 2, videos, generator=generator)
        return ((drawn >= probability).float() / (1 - probability)).to(device)

    def results(self, rows: Tensor, packing: Packing) -> Sequence[RowIntervals]:
        points: Points = self(rows, packing)
        grid = grid_of(points.packings)
        found = []
        for video in range(len(packing.lengths)):
            parts = decode(
                points, grid, video, self.options.minimum_score, self.options.points_per_level, self.options.shortest
            )
            found.append(RowIntervals(*(part.cpu().numpy() for part in parts)))
        return found


__all__ = ["OneStageHead", "OneStageOptions"]
