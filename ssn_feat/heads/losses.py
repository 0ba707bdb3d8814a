"""The losses of the SSN head (SSN, sections 3.3 and 3.4), vectorised over all proposals of a batch.

Class labels are 1-based here as in proposal lists and activity logits: 0 is background. A label 0 given to the
completeness or the regression loss raises RuntimeError on the CPU (a background proposal has neither).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ssn_feat.errors import UserError


@dataclass(frozen=True)
class Groups:
    """How many proposals of each kind are drawn from a video; the layout of a training batch.

    The proposals of a video lie one after another: first foreground, then incomplete, then background. The losses
    rely on that: the activity loss takes foreground and background, the completeness loss foreground and incomplete,
    the regression loss foreground.
    """

    foreground: int = 1
    """Foreground proposals of a video: those that fit an instance; all three losses learn from them."""
    incomplete: int = 6
    """Incomplete proposals of a video: pieces of an instance, examples of what completeness must refuse."""
    background: int = 1
    """Background proposals of a video, for the activity loss."""

    def __post_init__(self) -> None:
        if self.foreground < 1 or self.incomplete < 0 or self.background < 0:
            raise UserError(f"a video needs at least one foreground proposal and no negative numbers, got {self}")

    @property
    def size(self) -> int:
        """Number of proposals of one video."""
        return self.foreground + self.incomplete + self.background

    def for_activity(self, x: Tensor) -> Tensor:
        """Foreground and background proposals of ``x`` ``(V, size, ...)``, as ``(V * (fg + bg), ...)``."""
        return torch.cat([x[:, : self.foreground], x[:, self.foreground + self.incomplete :]], dim=1).flatten(0, 1)

    def for_completeness(self, x: Tensor) -> Tensor:
        """Foreground and incomplete proposals of ``x`` ``(V, size, ...)``, as ``(V * (fg + incomplete), ...)``."""
        return x[:, : self.foreground + self.incomplete].flatten(0, 1)

    def for_regression(self, x: Tensor) -> Tensor:
        """Foreground proposals of ``x`` ``(V, size, ...)``, as ``(V * fg, ...)``."""
        return x[:, : self.foreground].flatten(0, 1)


@dataclass(frozen=True)
class LossOptions:
    """Weights of the three losses and the share of incomplete proposals that are learned from."""

    completeness_weight: float = 0.1
    """Factor of the completeness loss in the total."""
    regression_weight: float = 0.1
    """Factor of the regression loss in the total."""
    ohem_ratio: float = 0.17
    """Of the incomplete proposals of a video, the share with the highest loss that counts (rounded down)."""
    label_smoothing: float = 0.0
    """Share of the activity target that is spread evenly over all classes, in [0, 1): less sure scores."""
    class_weights: Literal["equal", "balanced"] = "equal"
    """Weight of each class and of background in the activity loss: equal, or by how rarely it is drawn, so that rare
    classes count as much as frequent ones."""

    def __post_init__(self) -> None:
        if self.completeness_weight < 0 or self.regression_weight < 0:
            raise UserError(f"loss weights must not be negative, got {self}")
        if not 0 <= self.ohem_ratio <= 1:
            raise UserError(f"ohem_ratio must lie in [0, 1], got {self.ohem_ratio}")
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}")


class Scores(NamedTuple):
    """What the head says of the proposals that each loss takes, in the order of :class:`Groups`.

    ``activity`` ``(A, K + 1)`` with background in column 0, ``completeness`` ``(C, K)``, ``regression`` ``(R, K, 2)``:
    shift of the centre in lengths of the proposal and log ratio of the lengths, both normalised.
    """

    activity: Tensor
    completeness: Tensor
    regression: Tensor


class Losses(NamedTuple):
    """The total and its terms before weighting, each a scalar tensor."""

    total: Tensor
    activity: Tensor
    completeness: Tensor
    regression: Tensor


def ohem_hinge_loss(scores: Tensor, labels: Tensor, sign: int, ratio: float, group: int) -> Tensor:
    """Sum of the largest hinge losses ``max(0, 1 - sign * score of the own class)`` of each group.

    ``scores`` ``(N, K)``, ``labels`` int64 ``(N,)`` from 1 to K, N a multiple of ``group``: consecutive rows form a
    group, of which the ``int(group * ratio)`` highest losses count (online hard example mining).
    """
    return _hardest(scores.gather(1, labels[:, None] - 1).view(-1, group), sign, ratio)


def _hardest(own: Tensor, sign: int, ratio: float) -> Tensor:
    """Sum of the largest hinge losses of each row of ``own`` ``(groups, group)``, scores of the own classes."""
    losses = functional.relu(1 - own if sign > 0 else 1 + own)
    keep = int(own.shape[1] * ratio)
    return losses.sum() if keep == own.shape[1] else losses.topk(keep, dim=1).values.sum()


def completeness_loss(scores: Tensor, labels: Tensor, groups: Groups, ohem_ratio: float) -> Tensor:
    """Class-wise hinge loss with hard example mining among the incomplete proposals of each video (SSN, section 3.3).

    ``scores`` ``(V * (fg + incomplete), K)`` and ``labels`` ``(V * (fg + incomplete),)`` as
    :meth:`Groups.for_completeness` lays them out. The sum is divided by the number of complete proposals plus
    ``int(ohem_ratio * number of incomplete ones)``: the number that mining keeps, up to its rounding per video.
    """
    own = scores.gather(1, labels[:, None] - 1).view(-1, groups.foreground + groups.incomplete)
    total = _hardest(own[:, : groups.foreground], 1, 1.0)
    if groups.incomplete:
        total = total + _hardest(own[:, groups.foreground :], -1, ohem_ratio)
    videos = len(own)
    return total / (videos * groups.foreground + int(videos * groups.incomplete * ohem_ratio))


def regression_loss(predictions: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Twice the mean smooth-L1 distance between the own class's prediction and the target (SSN, section 3.4).

    ``predictions`` ``(N, K, 2)``, ``labels`` int64 ``(N,)`` from 1 to K, ``targets`` ``(N, 2)``, all normalised.
    """
    own = predictions.gather(1, (labels - 1)[:, None, None].expand(-1, 1, 2)).squeeze(1)
    return 2 * functional.smooth_l1_loss(own, targets)


def balanced_weights(frequencies: Tensor) -> Tensor:
    """Weights of classes ``(K + 1,)`` by how often each is drawn, ``(K + 1,)``; classes that never are have 0.

    A weight is one over the class's share among the classes that are drawn: were all equally frequent, all were 1.
    """
    drawn = frequencies > 0
    return torch.where(drawn, frequencies.sum() / (frequencies.clamp(min=1e-12) * drawn.sum()), 0.0)


def ssn_loss(
    scores: Scores,
    labels: Tensor,
    targets: Tensor,
    groups: Groups,
    options: LossOptions,
    class_weights: Tensor | None = None,
) -> Losses:
    """The whole SSN loss: cross entropy of activity plus the weighted completeness and regression losses.

    ``scores`` as :meth:`ssn_feat.heads.ssn.SSNHead.group_scores` gives them, ``labels`` int64 ``(V, groups.size)`` with
    0 for background, ``targets`` ``(V, groups.size, 2)``, of which only those of foreground proposals are read.
    ``class_weights`` ``(K + 1,)`` weigh the activity of each class (see :func:`balanced_weights`); None: equally.
    """
    activity = functional.cross_entropy(
        scores.activity, groups.for_activity(labels), class_weights, label_smoothing=options.label_smoothing
    )
    completeness = completeness_loss(scores.completeness, groups.for_completeness(labels), groups, options.ohem_ratio)
    regression = regression_loss(scores.regression, groups.for_regression(labels), groups.for_regression(targets))
    total = activity + options.completeness_weight * completeness + options.regression_weight * regression
    return Losses(total, activity, completeness, regression)
