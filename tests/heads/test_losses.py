"""The SSN losses and their gradients against the original's numbers and cases by hand."""

import pytest
import torch
from conftest import meta
from torch import Tensor

from ssn_feat.errors import UserError
from ssn_feat.heads.losses import (
    Groups,
    LossOptions,
    Scores,
    _closed_form,
    _completeness,
    _hardest,
    _regression,
    balanced_weights,
    ssn_loss,
)


def tensors(archive, case):
    return {key.split("/")[1]: torch.from_numpy(v) for key, v in archive.items() if key.startswith(case + "/")}


def ohem_hinge_loss(scores: Tensor, labels: Tensor, sign: int, ratio: float, group: int) -> Tensor:
    """Sum of the largest hinge losses ``max(0, 1 - sign * score of the own class)`` of each group.

    ``scores`` ``(N, K)``, ``labels`` int64 ``(N,)`` from 1 to K, N a multiple of ``group``: consecutive rows form a
    group, of which the ``int(group * ratio)`` highest losses count (online hard example mining).
    """
    own = (labels - 1)[:, None]
    loss, slope = _hardest(scores.detach().gather(1, own).view(-1, group), sign, ratio)
    return _closed_form(loss, (torch.zeros_like(scores).scatter_(1, own, slope.view(-1, 1)),), scores)


def completeness_loss(scores: Tensor, labels: Tensor, groups: Groups, ohem_ratio: float) -> Tensor:
    """Class-wise hinge loss with hard example mining among the incomplete proposals of each video (SSN, section 3.3).

    ``scores`` ``(V * (fg + incomplete), K)`` and ``labels`` ``(V * (fg + incomplete),)`` as
    :meth:`Groups.for_completeness` lays them out. The sum is divided by the number of complete proposals plus
    ``int(ohem_ratio * number of incomplete ones)``: the number that mining keeps, up to its rounding per video.
    """
    loss, gradient = _completeness(scores.detach(), labels, groups, ohem_ratio)
    return _closed_form(loss, (gradient,), scores)


def regression_loss(predictions: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Twice the mean smooth-L1 distance between the own class's prediction and the target (SSN, section 3.4).

    ``predictions`` ``(N, K, 2)``, ``labels`` int64 ``(N,)`` from 1 to K, ``targets`` ``(N, 2)``, all normalised.
    """
    loss, gradient = _regression(predictions.detach(), labels, targets)
    return _closed_form(loss, (gradient,), predictions)


def test_ohem_hinge_equals_the_original(golden):
    archive = golden("ohem_hinge.npz")
    for case in meta(archive):
        a = tensors(archive, case["case"])
        scores = a["pred"].requires_grad_()
        loss = ohem_hinge_loss(scores, a["labels"], case["is_positive"], case["ohem_ratio"], case["group_size"])
        torch.testing.assert_close(loss.detach(), a["loss"][0], rtol=1e-5, atol=1e-5)
        (loss * a["upstream"][0]).backward()
        assert torch.equal(scores.grad != 0, a["grad_pred"] != 0)
        torch.testing.assert_close(scores.grad, a["grad_pred"], rtol=0, atol=1e-6)


def test_completeness_loss_equals_the_original_with_its_denominator(golden):
    archive = golden("completeness_loss.npz")
    cases = meta(archive)
    assert any(case["neg_cnt_denominator"] != case["neg_kept"] for case in cases)
    for case in cases:
        a = tensors(archive, case["case"])
        groups = Groups(case["sample_split"], case["sample_group_size"] - case["sample_split"], 1)
        scores = a["pred"].requires_grad_()
        loss = completeness_loss(scores, a["labels"], groups, case["ohem_ratio"])
        torch.testing.assert_close(loss.detach(), a["loss"][0], rtol=1e-5, atol=1e-6)
        loss.backward()
        torch.testing.assert_close(scores.grad, a["grad_pred"], rtol=1e-5, atol=1e-6)


def test_regression_loss_equals_the_original(golden):
    archive = golden("regression_loss.npz")
    for case in meta(archive):
        a = tensors(archive, case["case"])
        predictions = a["pred"].requires_grad_()
        loss = regression_loss(predictions, a["labels"], a["targets"])
        torch.testing.assert_close(loss.detach(), a["loss"][0], rtol=1e-5, atol=1e-6)
        loss.backward()
        torch.testing.assert_close(predictions.grad, a["grad_pred"], rtol=1e-5, atol=1e-6)


def test_hinge_by_hand():
    scores = torch.tensor([[0.5, 9.0], [9.0, -2.0], [1.0, 9.0], [9.0, 0.25]], requires_grad=True)
    labels = torch.tensor([1, 2, 1, 2])
    # Losses of the own class for sign 1: .5, 3, 0 and .75; groups of two keep the larger.
    loss = ohem_hinge_loss(scores, labels, 1, 0.5, 2)
    assert loss.item() == 3.75
    loss.backward()
    assert scores.grad.tolist() == [[0, 0], [0, -1], [0, 0], [0, -1]]


def test_hinge_of_exactly_one_has_no_slope():
    scores = torch.tensor([[1.0]], requires_grad=True)
    ohem_hinge_loss(scores, torch.tensor([1]), 1, 1.0, 1).backward()
    assert scores.grad.item() == 0


def test_background_label_is_refused():
    with pytest.raises(RuntimeError):
        ohem_hinge_loss(torch.zeros(2, 3), torch.tensor([1, 0]), 1, 1.0, 1)
    with pytest.raises(RuntimeError):
        regression_loss(torch.zeros(2, 3, 2), torch.tensor([1, 0]), torch.zeros(2, 2))


def test_groups_without_incomplete_or_background():
    groups = Groups(2, 0, 0)
    x = torch.arange(6).view(3, 2)
    assert groups.for_activity(x).tolist() == groups.for_completeness(x).tolist() == [0, 1, 2, 3, 4, 5]
    scores = torch.zeros(6, 4)
    assert completeness_loss(scores, torch.ones(6, dtype=torch.int64), groups, 0.17).item() == 1


def test_groups_select_the_kinds_in_order():
    groups = Groups(1, 2, 2)
    x = torch.arange(10).view(2, 5)
    assert groups.for_activity(x).tolist() == [0, 3, 4, 5, 8, 9]
    assert groups.for_completeness(x).tolist() == [0, 1, 2, 5, 6, 7]
    assert groups.for_regression(x).tolist() == [0, 5]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Groups(0, 1, 1),
        lambda: Groups(1, -1, 1),
        lambda: LossOptions(completeness_weight=-1),
        lambda: LossOptions(ohem_ratio=1.5),
    ],
)
def test_impossible_options_are_refused(make):
    with pytest.raises(UserError):
        make()


def test_label_smoothing_and_class_weights_act_on_activity_alone():
    generator = torch.Generator().manual_seed(0)
    groups, classes = Groups(1, 2, 1), 3
    labels = torch.randint(1, classes + 1, (4, groups.size), generator=generator)
    labels[:, -1] = 0
    targets = torch.randn(4, groups.size, 2, generator=generator)
    shapes = ((8, classes + 1), (12, classes), (4, classes, 2))
    scores = Scores(*(torch.randn(shape, generator=generator) for shape in shapes))
    weights = torch.tensor([0.5, 1.0, 2.0, 3.0])
    plain = ssn_loss(scores, labels, targets, groups, LossOptions())
    other = ssn_loss(scores, labels, targets, groups, LossOptions(label_smoothing=0.2), weights)
    assert torch.equal(plain.completeness, other.completeness)
    assert torch.equal(plain.regression, other.regression)
    # By hand: 0.8 of the target on the own class, 0.2 spread over all four; each term times its class's weight.
    logs = scores.activity.log_softmax(dim=1)
    own = groups.for_activity(labels)
    spread = -(logs * weights).sum(dim=1) * 0.2 / 4
    expected = (0.8 * -logs[torch.arange(8), own] * weights[own] + spread).sum() / weights[own].sum()
    torch.testing.assert_close(other.activity, expected)
    with pytest.raises(UserError, match="label_smoothing must lie"):
        LossOptions(label_smoothing=1.0)


def test_balanced_weights_even_out_frequencies():
    weights = balanced_weights(torch.tensor([4.0, 1.0, 0.0, 3.0]))
    torch.testing.assert_close(weights, torch.tensor([8 / 12, 8 / 3, 0.0, 8 / 9]))
    torch.testing.assert_close(balanced_weights(torch.full((5,), 0.3)), torch.ones(5))
