"""Targets and losses of the one-stage detector (ActionFormer, sections 3.3 and 3.4).

Times are positions on the grid of the rows: row 0 of a video lies at 0, row 1 at 1. A point of level l lies at every
``2^l``-th row and is responsible for instances of a range of lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ssn_feat.errors import UserError
from ssn_feat.heads.point_network import Points
from ssn_feat.heads.sequences import Packing

# Of several instances that contain a point, those that are at most this much longer than the shortest give labels.
_SAME_LENGTH = 1e-3
# The shortest instances that the lowest level is responsible for end 4 rows away; each level doubles this.
_FIRST_RANGE = 4.0
_LARGEST = 10000.0


@dataclass(frozen=True)
class PointLossOptions:
    """Targets and losses of the one-stage detector."""

    centre_radius: float = 1.5
    """A point learns from an instance if it is at most this many steps of its level from the centre of the instance."""
    focal_alpha: float = 0.25
    """Weight of the points of a class in the focal loss, in [0, 1]; other points have one minus this weight."""
    focal_gamma: float = 2.0
    """Exponent of the focal loss."""
    regression: float = 1.0
    """Weight of the loss of distances."""
    normaliser: float = 100.0
    """Initial value of the running mean of the number of positive points, by which losses are divided."""
    normaliser_decay: float = 0.9
    """Decay of the running mean of the number of positive points, in [0, 1)."""

    def __post_init__(self) -> None:
        if not 0 <= self.focal_alpha <= 1 or not 0 <= self.normaliser_decay < 1:
            raise UserError(
                "need focal_alpha in [0, 1] and normaliser_decay in [0, 1), "
                f"got {self.focal_alpha} and {self.normaliser_decay}"
            )
        for name in ("centre_radius", "normaliser"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.focal_gamma < 0 or self.regression < 0:
            raise UserError("focal_gamma and regression must not be negative")


class Grid(NamedTuple):
    """The points of all levels of packed videos, level after level: P points.

    ``position``: float32 ``(P,)``, on the grid of rows; ``stride``: float32 ``(P,)``; ``level``, ``video``: int64
    ``(P,)``; ``valid``: bool ``(P,)``, whether the point lies in its video.
    """

    position: Tensor
    stride: Tensor
    level: Tensor
    video: Tensor
    valid: Tensor


def grid_of(packings: Sequence[Packing]) -> Grid:
    """The points of the levels of a pyramid, whose packings are given."""
    levels = [torch.full_like(packing.video, level) for level, packing in enumerate(packings)]
    level = torch.cat(levels)
    stride = torch.pow(2.0, level)
    position = torch.cat([packing.position for packing in packings]) * stride
    return Grid(
        position,
        stride,
        level,
        torch.cat([packing.video for packing in packings]),
        torch.cat([packing.valid for packing in packings]),
    )


def level_ranges(levels: int) -> list[tuple[float, float]]:
    """The distances from a point to the farther end of an instance for which each level is responsible, in rows."""
    edges = [0.0, *(_FIRST_RANGE * 2**level for level in range(levels - 1)), _LARGEST]
    return list(pairwise(edges))


def targets(
    grid: Grid, instances: Tensor, labels: Tensor, classes: int, levels: int, options: PointLossOptions
) -> tuple[Tensor, Tensor]:
    """Classes, float32 ``(P, K)`` of 0 and 1, and distances in strides, float32 ``(P, 2)``, that points learn.

    ``instances``: ``(V, G, 2)``, start and end on the grid of rows, padded with NaN; ``labels``: int64 ``(V, G)``.
    A point learns from an instance if it lies strictly inside it, near its centre, and the farther end lies in the
    range of the level. Of several such instances it learns the distances of the shortest, and the labels of all those
    that are as short. Points without an instance have zeros.
    """
    if not instances.shape[1]:
        return grid.position.new_zeros(len(grid.position), classes), grid.position.new_zeros(len(grid.position), 2)
    start, end = instances[grid.video].unbind(dim=2)
    position, stride = grid.position[:, None], grid.stride[:, None]
    distances = torch.stack([position - start, end - position], dim=2)
    centre, reach = (start + end) / 2, options.centre_radius * stride
    inside = torch.minimum(
        position - torch.maximum(start, centre - reach), torch.minimum(end, centre + reach) - position
    )
    farther = distances.amax(dim=2)
    low, high = torch.tensor(level_ranges(levels), device=start.device)[grid.level].unbind(dim=1)
    fits = (inside > 0) & (farther >= low[:, None]) & (farther <= high[:, None])
    lengths = torch.where(fits, end - start, torch.inf)
    shortest, chosen = lengths.min(dim=1)
    same = fits & (lengths <= shortest[:, None] + _SAME_LENGTH)
    one_hot = functional.one_hot(labels, classes)[grid.video]
    of_class = (same[:, :, None] & (one_hot > 0)).any(dim=1).float()
    wanted = distances[torch.arange(len(chosen), device=start.device), chosen] / stride
    return of_class, torch.where(shortest[:, None] < torch.inf, wanted, 0.0)


def focal_loss(logits: Tensor, target: Tensor, alpha: float, gamma: float) -> Tensor:
    """Sum of the focal losses (Lin et al., ICCV 2017, equation 5) of logits, with targets of the same shape."""
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = logits.sigmoid()
    missed = probability + target - 2 * probability * target
    weight = alpha * target + (1 - alpha) * (1 - target)
    return (weight * cross_entropy * missed.pow(gamma)).sum()


def distance_iou_loss(distances: Tensor, target: Tensor) -> Tensor:
    """``1 - tIoU + (distance of centres / length of hull)^2`` of intervals around the same points, ``(N,)``.

    ``distances``, ``target``: ``(N, 2)``, not negative, to start and end (Zheng et al., AAAI 2020, in one dimension).
    """
    (left, right), (left_target, right_target) = distances.unbind(dim=-1), target.unbind(dim=-1)
    # Where both are equal, the gradient is that of a prediction slightly too long, as in the published code.
    shared = torch.where(left < left_target, left, left_target) + torch.where(right < right_target, right, right_target)
    union = (left + right) + (left_target + right_target) - shared
    hull = torch.maximum(left, left_target) + torch.maximum(right, right_target)
    tiny = torch.finfo(distances.dtype).eps
    shift = 0.5 * (right - left - right_target + left_target)
    return 1 - shared / union.clamp(min=tiny) + (shift / hull.clamp(min=tiny)).square()


def point_losses(
    points: Points, of_class: Tensor, wanted: Tensor, grid: Grid, normaliser: Tensor, options: PointLossOptions
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss, its two parts (classes, distances), and the next running mean of the number of positive points.

    ``of_class``, ``wanted``: from :func:`targets`; ``normaliser``: the running mean so far. Losses are sums over points
    divided by the next running mean.
    """
    positive = (of_class.sum(dim=1) > 0) & grid.valid
    count = positive.sum().clamp(min=1)
    decay = options.normaliser_decay
    normaliser = decay * normaliser + (1 - decay) * count
    valid = grid.valid
    focal = focal_loss(points.logits[valid], of_class[valid], options.focal_alpha, options.focal_gamma) / normaliser
    distance = distance_iou_loss(points.distances[positive], wanted[positive]).sum() / normaliser
    return focal + options.regression * distance, focal, distance, normaliser


def decode(
    points: Points, grid: Grid, video: int, minimum_score: float, points_per_level: int, shortest: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Intervals of one video before suppression, from the best points of each level.

    Points with a score of at most ``minimum_score`` and intervals of at most ``shortest`` rows are left out. Returns
    start and end on the grid of rows, float64 ``(N, 2)``, scores, float64 ``(N,)``, and classes, int64 ``(N,)``.
    """
    parts = []
    for level in range(len(points.packings)):
        rows = torch.nonzero((grid.level == level) & (grid.video == video) & grid.valid).squeeze(1)
        flat = points.logits[rows].sigmoid().flatten()
        kept = torch.nonzero(flat > minimum_score).squeeze(1)
        kept = kept[flat[kept].sort(descending=True, stable=True)[1][:points_per_level]]
        at, classes = rows[kept // points.logits.shape[1]], kept % points.logits.shape[1]
        left, right = (points.distances[at] * grid.stride[at, None]).double().unbind(dim=1)
        intervals = torch.stack([grid.position[at] - left, grid.position[at] + right], dim=1)
        long = left + right > shortest
        parts.append((intervals[long], flat[kept][long].double(), classes[long]))
    intervals, scores, classes = (torch.cat(each) for each in zip(*parts, strict=True))
    return intervals, scores, classes


__all__ = [
    "Grid",
    "PointLossOptions",
    "decode",
    "distance_iou_loss",
    "focal_loss",
    "grid_of",
    "level_ranges",
    "point_losses",
    "targets",
]
