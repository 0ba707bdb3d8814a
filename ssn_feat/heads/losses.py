"""The losses of the SSN head (SSN, sections 3.3 and 3.4), vectorised over all proposals of a batch.

Class labels are 1-based here, as in proposal lists and activity logits: 0 is background. The completeness and
regression losses raise RuntimeError on the CPU for the label 0, since a background proposal has neither.
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
    """Number of proposals of each kind that are drawn from a video: the layout of a training batch.

    The proposals of a video are in the order foreground, incomplete, background. The activity loss uses foreground and
    background, the completeness loss foreground and incomplete, the regression loss foreground.
    """

    foreground: int = 1
    """Foreground proposals of a video, which fit an instance, for all three losses."""
    incomplete: int = 6
    """Incomplete proposals of a video, which cover part of an instance, as negatives of the completeness loss."""
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

        ``dim``: the dimension of length ``size``; the videos are the dimension before it. The same holds for the other
        two methods.
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
    """Weights of the three losses, and details of each."""

    completeness_weight: float = 0.1
    """Factor of the completeness loss in the total."""
    regression_weight: float = 0.1
    """Factor of the regression loss in the total."""
    ohem_ratio: float = 0.17
    """Fraction of the incomplete proposals of a video that count, those with the highest loss (rounded down)."""
    label_smoothing: float = 0.0
    """Fraction of the activity target that is spread evenly over all classes, in [0, 1): less confident scores."""
    class_weights: Literal["equal", "balanced"] = "equal"
    """Weights of the classes and of background in the activity loss: equal, or inversely proportional to how often each
    is drawn, so that rare classes count as much as frequent ones."""

    def __post_init__(self) -> None:
        if not (0 <= self.completeness_weight < math.inf and 0 <= self.regression_weight < math.inf):
            raise UserError(f"loss weights must be finite and not negative, got {self}")
        if not 0 <= self.ohem_ratio <= 1:
            raise UserError(f"ohem_ratio must lie in [0, 1], got {self.ohem_ratio}")
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}")


class Scores(NamedTuple):
    """Scores of the proposals that each loss uses, in the order of :class:`Groups`.

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
    """A loss, one number for each head, and its gradient with respect to the scores.

    Both are computed in closed form: automatic differentiation takes many times as long for batches this small.
    """

    loss: Tensor
    gradient: Tensor


class _ClosedForm(torch.autograd.Function):
    """A loss whose gradients were computed beforehand."""

    @staticmethod
    def forward(ctx: Any, loss: tuple[Tensor], gradients: tuple[Tensor, ...], *scores: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return loss[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        # Aligned at the first dimension: the loss has one number for each head, or a single one.
        gradients = (
            each * upstream.view(*upstream.shape, *[1] * (each.ndim - upstream.ndim)) for each in ctx.saved_tensors
        )
        return None, None, *gradients


def _closed_form(loss: Tensor, gradients: tuple[Tensor, ...], *scores: Tensor) -> Tensor:
    result: Tensor = _ClosedForm.apply((loss,), gradients, *scores)
    return result


def _hardest(scores: Tensor, sign: int, ratio: float) -> _Known:
    """Sum of the largest hinge losses of each row of ``scores`` ``(..., groups, group)``, those of the labelled class.

    Of each row, the ``int(group * ratio)`` highest losses ``max(0, 1 - sign * score)`` count (online hard example
    mining).
    """
    losses = functional.relu(1 - scores if sign > 0 else 1 + scores)
    keep = int(scores.shape[-1] * ratio)
    if keep == scores.shape[-1]:
        return _Known(losses.sum((-2, -1)), losses.sign() * -sign)
    values, positions = losses.topk(keep, dim=-1, sorted=False)
    return _Known(values.sum((-2, -1)), torch.zeros_like(scores).scatter_(-1, positions, values.sign() * -sign))


def _completeness(scores: Tensor, labels: Tensor, groups: Groups, ohem_ratio: float) -> _Known:
    """Class-wise hinge loss with hard example mining among the incomplete proposals of each video (SSN, section 3.3).

    The sum is divided by the number of complete proposals plus ``int(ohem_ratio * number of incomplete ones)``, which
    is the number that mining keeps up to its rounding in each video.
    """
    places = (labels - 1)[..., None]
    labelled = scores.gather(-1, places).view(*scores.shape[:-2], -1, groups.completeness_size)
    complete, slope = _hardest(labelled[..., : groups.foreground], 1, 1.0)
    incomplete, other_slope = _hardest(labelled[..., groups.foreground :], -1, ohem_ratio)
    videos = labelled.shape[-2]
    count = videos * groups.foreground + int(videos * groups.incomplete * ohem_ratio)
    slopes = torch.cat([slope, other_slope], dim=-1).div_(count).view(places.shape)
    return _Known((complete + incomplete) / count, torch.zeros_like(scores).scatter_(-1, places, slopes))


def _regression(predictions: Tensor, labels: Tensor, targets: Tensor) -> _Known:
    """Twice the mean smooth-L1 distance of the prediction for the labelled class to the target (SSN, section 3.4)."""
    places = (labels - 1)[..., None, None].expand(*labels.shape, 1, 2)
    distance = predictions.gather(-2, places).squeeze(-2) - targets
    slope = distance.clamp(-1, 1)
    loss = 2 * (slope * (distance - 0.5 * slope)).mean((-2, -1))
    gradient = predictions.new_zeros(predictions.shape)
    return _Known(loss, gradient.scatter_(-2, places, (slope / (labels.shape[-1])).unsqueeze(-2)))


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float, class_weights: Tensor | None) -> _Known:
    """Cross entropy as in torch, of logits ``(..., A, K + 1)``; ``class_weights`` ``(..., K + 1)``."""
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
    """Class weights ``(K + 1,)`` from the frequencies ``(K + 1,)`` with which classes are drawn.

    The weight of a class is the mean frequency of all drawn classes divided by its own: 1 for all if they are equally
    frequent. Classes that are never drawn have weight 0.
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
    """The SSN loss: cross entropy of activity plus the weighted completeness and regression losses.

    ``scores`` as :meth:`ssn_feat.heads.ssn.SSNHead.group_scores` gives them, ``labels`` int64 ``(V, groups.size)`` with
    0 for background, ``targets`` ``(V, groups.size, 2)``, of which only those of foreground proposals are used.
    ``class_weights`` ``(K + 1,)``: weights of the classes in the activity loss (see :func:`balanced_weights`); None
    means equal weights. For N heads, every argument and each loss has N as an additional first dimension.
    """
    known = [each.detach() for each in scores]
    activity = _cross_entropy(known[0], groups.for_activity(labels, -1), options.label_smoothing, class_weights)
    completeness = _completeness(known[1], groups.for_completeness(labels, -1), groups, options.ohem_ratio)
    regression = _regression(known[2], groups.for_regression(labels, -1), groups.for_regression(targets, -2))
    terms = (activity, completeness, regression)
    weights = (1.0, options.completeness_weight, options.regression_weight)
    total = torch.stack([weight * term.loss for weight, term in zip(weights, terms, strict=True)]).sum(0)
    gradients = tuple(weight * term.gradient for weight, term in zip(weights, terms, strict=True))
    return Losses(_closed_form(total, gradients, *scores), *(term.loss for term in terms))
