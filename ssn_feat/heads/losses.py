"""The losses of the SSN head (SSN, sections 3.3 and 3.4), vectorised over all proposals of a batch.

Class labels are 1-based here as in proposal lists and activity logits: 0 is background. A label 0 given to the
completeness or the regression loss raises RuntimeError on the CPU (a background proposal has neither).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
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
        return self.completeness_size + self.background

    @property
    def completeness_size(self) -> int:
        """Number of foreground and incomplete proposals of one video, which lie before those of background."""
        return self.foreground + self.incomplete

    @property
    def activity_size(self) -> int:
        """Number of foreground and background proposals of one video."""
        return self.foreground + self.background

    def for_activity(self, x: Tensor, dim: int = 1) -> Tensor:
        """Foreground and background proposals of ``x`` ``(V, size, ...)``, as ``(V * (fg + bg), ...)``.

        ``dim``: which dimension is of ``size``, that of the videos before it; likewise in the other two.
        """
        foreground = x.narrow(dim, 0, self.foreground)
        background = x.narrow(dim, self.completeness_size, self.background)
        return torch.cat([foreground, background], dim=dim).flatten(dim - 1, dim)

    def for_completeness(self, x: Tensor, dim: int = 1) -> Tensor:
        """Foreground and incomplete proposals of ``x`` ``(V, size, ...)``, as ``(V * (fg + incomplete), ...)``."""
        return x.narrow(dim, 0, self.completeness_size).flatten(dim - 1, dim)

    def for_regression(self, x: Tensor, dim: int = 1) -> Tensor:
        """Foreground proposals of ``x`` ``(V, size, ...)``, as ``(V * fg, ...)``."""
        return x.narrow(dim, 0, self.foreground).flatten(dim - 1, dim)


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
        if not (0 <= self.completeness_weight < math.inf and 0 <= self.regression_weight < math.inf):
            raise UserError(f"loss weights must be finite and not negative, got {self}")
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
    """The total and its terms before weighting, each a scalar tensor; gradients go through the total alone."""

    total: Tensor
    activity: Tensor
    completeness: Tensor
    regression: Tensor


class _Known(NamedTuple):
    """A loss, one number for each head, and its gradient by the scores. Both in one go and in closed form: recorded
    operation by operation and differentiated backwards, a batch this small takes many times as long."""

    loss: Tensor
    gradient: Tensor


class _ClosedForm(torch.autograd.Function):
    """A loss whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, loss: tuple[Tensor], gradients: tuple[Tensor, ...], *scores: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return loss[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        # From the front: the loss has one number for each head, or a single one.
        gradients = (
            each * upstream.view(*upstream.shape, *[1] * (each.ndim - upstream.ndim)) for each in ctx.saved_tensors
        )
        return None, None, *gradients


def _closed_form(loss: Tensor, gradients: tuple[Tensor, ...], *scores: Tensor) -> Tensor:
    result: Tensor = _ClosedForm.apply((loss,), gradients, *scores)
    return result


def _hardest(own: Tensor, sign: int, ratio: float) -> _Known:
    """Sum of the largest hinge losses of each row of ``own`` ``(..., groups, group)``, scores of the own classes."""
    losses = functional.relu(1 - own if sign > 0 else 1 + own)
    keep = int(own.shape[-1] * ratio)
    if keep == own.shape[-1]:
        return _Known(losses.sum((-2, -1)), losses.sign() * -sign)
    values, places = losses.topk(keep, dim=-1, sorted=False)
    return _Known(values.sum((-2, -1)), torch.zeros_like(own).scatter_(-1, places, values.sign() * -sign))


def _completeness(scores: Tensor, labels: Tensor, groups: Groups, ohem_ratio: float) -> _Known:
    places = (labels - 1)[..., None]
    own = scores.gather(-1, places).view(*scores.shape[:-2], -1, groups.completeness_size)
    complete, slope = _hardest(own[..., : groups.foreground], 1, 1.0)
    incomplete, other_slope = _hardest(own[..., groups.foreground :], -1, ohem_ratio)
    videos = own.shape[-2]
    count = videos * groups.foreground + int(videos * groups.incomplete * ohem_ratio)
    slopes = torch.cat([slope, other_slope], dim=-1).div_(count).view(places.shape)
    return _Known((complete + incomplete) / count, torch.zeros_like(scores).scatter_(-1, places, slopes))


def _regression(predictions: Tensor, labels: Tensor, targets: Tensor) -> _Known:
    places = (labels - 1)[..., None, None].expand(*labels.shape, 1, 2)
    distance = predictions.gather(-2, places).squeeze(-2) - targets
    slope = distance.clamp(-1, 1)
    loss = 2 * (slope * (distance - 0.5 * slope)).mean((-2, -1))
    gradient = predictions.new_zeros(predictions.shape)
    return _Known(loss, gradient.scatter_(-2, places, (slope / (labels.shape[-1])).unsqueeze(-2)))


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float, class_weights: Tensor | None) -> _Known:
    """As torch's, of logits ``(..., A, K + 1)``; ``class_weights`` ``(..., K + 1)``."""
    spread = smoothing / logits.shape[-1]
    wanted = torch.full_like(logits, spread).scatter_(-1, labels[..., None], 1 - smoothing + spread)
    if class_weights is None:
        wanted /= labels.shape[-1]
        total = torch.full_like(wanted[..., :1], 1 / labels.shape[-1])
    else:
        wanted = wanted * class_weights[..., None, :] / class_weights.gather(-1, labels).sum(-1)[..., None, None]
        total = wanted.sum(-1, keepdim=True)
    logs = logits.log_softmax(-1)
    return _Known(-(wanted * logs).sum((-2, -1)), logs.exp() * total - wanted)


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
    Of N heads at once everything has N as a dimension before the others, and each loss is ``(N,)``.
    """
    known = [each.detach() for each in scores]
    activity = _cross_entropy(known[0], groups.for_activity(labels, -1), options.label_smoothing, class_weights)
    completeness = _completeness(known[1], groups.for_completeness(labels, -1), groups, options.ohem_ratio)
    own = groups.for_regression(labels, -1), groups.for_regression(targets, -2)
    terms = (activity, completeness, _regression(known[2], *own))
    weights = (1.0, options.completeness_weight, options.regression_weight)
    total = torch.stack([weight * term.loss for weight, term in zip(weights, terms, strict=True)]).sum(0)
    gradients = tuple(weight * term.gradient for weight, term in zip(weights, terms, strict=True))
    return Losses(_closed_form(total, gradients, *scores), *(term.loss for term in terms))
