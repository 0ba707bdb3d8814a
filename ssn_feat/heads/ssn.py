"""The SSN head: activity, completeness and boundary regression from the features of a proposal's stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssn_feat.errors import UserError
from ssn_feat.heads.dropout import dropout
from ssn_feat.heads.losses import Groups, Scores
from ssn_feat.heads.stpp import Pyramid, SegmentPooling

INITIAL_STD = 0.001


@dataclass(frozen=True)
class SSNOptions:
    """Shape and dropout of the SSN head. The defaults are those of the paper."""

    stpp: tuple[int | tuple[int, ...], ...] = (1, 1, 1)
    """Number of parts of the starting, course and ending stage. A tuple gives several levels of a stage:
    (1, (1, 2), 1)."""
    segments: tuple[int, int, int] = (2, 5, 2)
    """Segments sampled from the starting, course and ending stage in training."""
    dropout: float = 0.8
    """Probability with which a feature value is set to zero in training, in [0, 1)."""
    class_agnostic: bool = False
    """One boundary regression for all classes instead of one for each, for classes with few examples."""

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout must lie in [0, 1), got {self.dropout}")
        self.pyramid.segment_weights(self.segments)

    @property
    def pyramid(self) -> Pyramid:
        """The structured temporal pyramid."""
        return Pyramid.of(self.stpp)


class SSNHead(nn.Module):
    """Scores proposals from the features of their sampled segments (SSN, sections 3.3 and 3.4).

    ``feature_dim`` is D, ``classes`` K (without background). The three linear layers have the names of the original
    code, so its checkpoints load. Weights start at N(0, 0.001), drawn from ``generator``, biases at 0.
    """

    kind: ClassVar[str] = "ssn"

    def __init__(
        self, feature_dim: int, classes: int, options: SSNOptions, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if feature_dim < 1 or classes < 1:
            raise UserError(f"a head needs at least one feature and one class, got {feature_dim} and {classes}")
        self.feature_dim, self.classes, self.options = feature_dim, classes, options
        self.pooling = SegmentPooling(options.pyramid, options.segments)
        width = options.pyramid.parts * feature_dim
        self.activity_fc = nn.Linear(feature_dim, classes + 1)
        self.completeness_fc = nn.Linear(width, classes)
        self.regressor_fc = nn.Linear(width, 2 if options.class_agnostic else 2 * classes)
        for layer in (self.activity_fc, self.completeness_fc, self.regressor_fc):
            initialise(layer, generator)

    def pool(self, segments: Tensor, scaling: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Pooled features ``(N, 1 + parts, D)``: the mean of the course, then the parts; dropout in training mode.

        ``segments`` ``(N, S, D)``, ``scaling`` ``(N, 2)``; dropout acts on single segments, before pooling.
        """
        if segments.ndim != 3 or segments.shape[1] != sum(self.options.segments):
            raise UserError(
                f"segments must be of shape (N, {sum(self.options.segments)}, {self.feature_dim}), "
                f"got {tuple(segments.shape)}"
            )
        if self.training:
            segments = dropout(segments, self.options.dropout, generator)
        pooled: Tensor = self.pooling(segments, scaling)
        return pooled

    def forward(
        self, segments: Tensor, scaling: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Activity ``(N, K + 1)``, completeness ``(N, K)`` and regression ``(N, K, 2)`` of each proposal.

        ``segments`` ``(N, S, D)`` are the features of the segments sampled from each proposal in order of time,
        ``scaling`` ``(N, 2)`` the fraction of its starting and ending extension inside the video. Activity holds
        logits with background in column 0; regression is the normalised shift of the centre and log ratio of the
        lengths. ``generator`` decides the dropout of training mode.
        """
        return self.score(self.pool(segments, scaling, generator))

    def score(self, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The result of :meth:`forward` from pooled features ``(N, 1 + parts, D)``, with dropout already applied."""
        activity, parts = pooled[:, 0], pooled[:, 1:].flatten(1)
        return self.activity_fc(activity), self.completeness_fc(parts), self._regression(parts)

    def group_scores(
        self, segments: Tensor, scaling: Tensor, groups: Groups, generator: torch.Generator | None = None
    ) -> Scores:
        """Apply each layer to the proposals that its loss uses: the scores for :func:`ssn_feat.heads.losses.ssn_loss`.

        ``segments`` ``(V * groups.size, S, D)`` and ``scaling`` ``(V * groups.size, 2)``: video after video, in the
        order of ``groups``. Equals the corresponding rows of :meth:`forward` at a third of its cost.
        """
        return self.score_groups(*group_features(self.pool(segments, scaling, generator), groups), groups)

    def score_groups(self, activity: Tensor, parts: Tensor, groups: Groups) -> Scores:
        """The result of :meth:`group_scores` from pooled features, with dropout already applied.

        ``activity`` ``(V * (fg + bg), D)``: course means of the proposals of the activity loss; ``parts``
        ``(V * (fg + incomplete), parts * D)``: parts of the proposals of the completeness loss. If the module holds N
        heads (see :mod:`ssn_feat.training.seeds`), everything has N as an additional first dimension.
        """
        grouped = parts.view(*parts.shape[:-2], -1, groups.completeness_size, parts.shape[-1])
        return Scores(
            linear(self.activity_fc, activity),
            linear(self.completeness_fc, parts),
            self._regression(groups.for_regression(grouped, -2)),
        )

    def _regression(self, parts: Tensor) -> Tensor:
        scores = linear(self.regressor_fc, parts)
        pairs: Tensor = scores.unflatten(-1, (-1, 2))
        return pairs.expand(*scores.shape[:-1], self.classes, 2)

    def regression_layer(self) -> tuple[Tensor, Tensor]:
        """Weight ``(2K, parts * D)`` and bias ``(2K,)`` of the regression: rows (shift, log ratio) for each class.

        A class-agnostic head has equal rows for all classes.
        """
        weight, bias = self.regressor_fc.weight, self.regressor_fc.bias
        copies = 2 * self.classes // len(weight)
        return weight.repeat(copies, 1), bias.repeat(copies)


def group_features(pooled: Tensor, groups: Groups) -> tuple[Tensor, Tensor]:
    """Activity and part features of the proposals that the losses use; see :meth:`SSNHead.score_groups`.

    ``pooled``: ``(V * groups.size, 1 + parts, D)``. Raises UserError if it cannot be divided into videos.
    """
    if len(pooled) % groups.size:
        raise UserError(f"{len(pooled)} proposals cannot be divided into videos of {groups.size} ({groups})")
    pooled = pooled.view(-1, groups.size, *pooled.shape[1:])
    return groups.for_activity(pooled[:, :, 0]), groups.for_completeness(pooled[:, :, 1:].flatten(2))


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """``layer(x)``; if the parameters are those of N layers, each is applied to its part of ``x`` ``(N, ..., D)``."""
    if layer.weight.ndim == 2:
        return functional.linear(x, layer.weight, layer.bias)
    # Weights as the first factor: their gradient then has their memory layout and need not be copied.
    return torch.baddbmm(layer.bias[:, :, None], layer.weight, x.transpose(1, 2)).transpose(1, 2)


def initialise(layer: nn.Linear, generator: torch.Generator | None = None) -> None:
    """Draw weights from N(0, 0.001) and set biases to 0, as in the original code."""
    nn.init.normal_(layer.weight, 0, INITIAL_STD, generator=generator)
    nn.init.zeros_(layer.bias)
