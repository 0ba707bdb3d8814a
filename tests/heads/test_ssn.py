"""The SSN head and the actionness head: the original's whole training step, names, initialisation, dropout."""

import pytest
import torch
from conftest import meta

from ssn_feat.cli import from_dict, to_dict
from ssn_feat.errors import UserError
from ssn_feat.heads.actionness import ActionnessHead
from ssn_feat.heads.dense import fold, score_dense
from ssn_feat.heads.group_pooling import GroupPooling, needed_segments
from ssn_feat.heads.losses import Groups, LossOptions, ssn_loss
from ssn_feat.heads.ssn import SSNHead, SSNOptions

LAYERS = ("activity_fc", "completeness_fc", "regressor_fc")


@pytest.mark.parametrize("name", ["ssn_loss_thumos.npz", "ssn_loss_anet.npz"])
def test_whole_step_equals_the_original(golden, name):
    archive = golden(name)
    facts = meta(archive)
    a = {key: torch.from_numpy(value) for key, value in archive.items()}
    options = SSNOptions(stpp=tuple(facts["stpp_cfg"]), segments=tuple(facts["seg"]), dropout=0)
    head = SSNHead(a["features"].shape[1], facts["num_class"], options)
    head.load_state_dict({f"{layer}.{kind}": a[f"{layer}.{kind}"] for layer in LAYERS for kind in ("weight", "bias")})
    groups = Groups(1, 6, 1)
    segments = a["features"].view(-1, sum(facts["seg"]), head.feature_dim).requires_grad_()
    scores = head.group_scores(segments, a["scaling"].flatten(0, 1), groups)
    for ours, theirs in zip(scores, ("act_out", "comp_out", "reg_out"), strict=True):
        torch.testing.assert_close(ours.detach(), a[theirs], atol=1e-4, rtol=1e-5)
    assert torch.equal(groups.for_activity(a["target"]), a["act_target"])
    assert torch.equal(groups.for_completeness(a["target"]), a["comp_target"])
    losses = ssn_loss(scores, a["target"], a["reg_target"], groups, LossOptions())
    for ours, theirs in zip(losses, ("loss", "act_loss", "comp_loss", "reg_loss"), strict=True):
        torch.testing.assert_close(ours.detach(), a[theirs][0], atol=0, rtol=1e-5)
    losses.total.backward()
    torch.testing.assert_close(segments.grad.flatten(0, 1), a["grad_features"], atol=1e-6, rtol=1e-4)
    for key, parameter in head.named_parameters():
        torch.testing.assert_close(parameter.grad, a[f"grad.{key}"], atol=1e-6, rtol=1e-4)


def test_forward_and_group_scores_agree():
    head = SSNHead(16, 5, SSNOptions(stpp=(1, (1, 2), 1)), torch.Generator().manual_seed(0))
    groups = Groups(2, 3, 1)
    segments, scaling = torch.randn(4 * groups.size, 9, 16), torch.rand(4 * groups.size, 2)
    # The same generator: dropout hits the same values in both.
    whole = head(segments, scaling, torch.Generator().manual_seed(1))
    some = head.group_scores(segments, scaling, groups, torch.Generator().manual_seed(1))
    whole = [x.view(4, groups.size, *x.shape[1:]) for x in whole]
    torch.testing.assert_close(some.activity, groups.for_activity(whole[0]))
    torch.testing.assert_close(some.completeness, groups.for_completeness(whole[1]))
    torch.testing.assert_close(some.regression, groups.for_regression(whole[2]))


def test_state_has_the_names_and_shapes_of_the_original(golden):
    entries = golden("state_dict_keys.json")["checkpoints"]["SSN|BNInception|RGB|thumos14|stpp(1,1,1)"]["then"]
    state = SSNHead(1024, 20, SSNOptions()).state_dict()
    assert [[f"module.{key}", list(value.shape)] for key, value in state.items()] == entries
    entries = golden("state_dict_keys.json")["checkpoints"]["BinaryClassifier|BNInception|RGB"]["then"]
    state = ActionnessHead(1024).state_dict()
    assert [[f"module.{key}", list(value.shape)] for key, value in state.items()] == entries


def test_initialisation():
    first, second = (SSNHead(256, 20, SSNOptions(), torch.Generator().manual_seed(7)) for _ in range(2))
    for layer in LAYERS:
        weight, bias = getattr(first, layer).weight, getattr(first, layer).bias
        assert weight.std().item() == pytest.approx(0.001, rel=0.05)
        assert abs(weight.mean().item()) < 1e-4
        assert not bias.any()
        assert torch.equal(weight, getattr(second, layer).weight)


def test_dropout_only_in_training():
    head = SSNHead(32, 3, SSNOptions())
    segments, scaling = torch.randn(6, 9, 32), torch.ones(6, 2)
    assert not torch.equal(head(segments, scaling)[1], head(segments, scaling)[1])
    head.eval()
    assert torch.equal(head(segments, scaling)[1], head(segments, scaling)[1])


def test_actionness_head():
    head = ActionnessHead(8, generator=torch.Generator().manual_seed(0)).eval()
    features = torch.randn(11, 8) * 1000
    assert head(features).shape == (11, 2)
    assert torch.equal(head(features), head(features))
    head.train()
    assert not torch.equal(head(features), head(features))


def test_options_survive_a_round_trip():
    options = SSNOptions(stpp=((1, 2), (1, 2, 4), 1), segments=(3, 9, 3), dropout=0.5)
    assert from_dict(SSNOptions, to_dict(options), "test") == options


@pytest.mark.parametrize(
    "make",
    [
        lambda: SSNOptions(dropout=1),
        lambda: SSNOptions(stpp=(1, 1)),
        lambda: SSNOptions(segments=(1, 5, 2), stpp=(2, 1, 1)),
        lambda: SSNHead(0, 3, SSNOptions()),
        lambda: ActionnessHead(4, dropout=-0.1),
        lambda: SSNHead(4, 3, SSNOptions())(torch.zeros(2, 8, 4), torch.ones(2, 2)),
        lambda: SSNHead(4, 3, SSNOptions()).group_scores(torch.zeros(9, 9, 4), torch.ones(9, 2), Groups()),
    ],
)
def test_what_does_not_fit_is_refused(make):
    with pytest.raises(UserError):
        make()


@pytest.mark.parametrize("original_scoring", [False, True])
def test_a_class_agnostic_head_regresses_alike_for_all_classes(original_scoring):
    head = SSNHead(4, 3, SSNOptions(class_agnostic=True, dropout=0), torch.Generator().manual_seed(0)).eval()
    twin = SSNHead(4, 3, SSNOptions(dropout=0)).eval()
    weight, bias = head.regression_layer()
    state = {**head.state_dict(), "regressor_fc.weight": weight, "regressor_fc.bias": bias}
    twin.load_state_dict(state)
    segments, scaling = torch.randn(6, 9, 4), torch.rand(6, 2)
    for one, other in zip(head(segments, scaling), twin(segments, scaling), strict=True):
        torch.testing.assert_close(one, other)
    assert head(segments, scaling)[2].shape == (6, 3, 2)
    assert head(segments[:0], scaling[:0])[2].shape == (0, 3, 2)
    features, stages = torch.randn(20, 4), torch.tensor([[0, 2, 8, 10], [5, 8, 17, 20]])
    dense = [score_dense(fold(h, original_scoring), features, stages, torch.ones(2, 2)) for h in (head, twin)]
    for one, other in zip(*dense, strict=True):
        torch.testing.assert_close(one, other)


def test_pooling_only_what_the_losses_need_equals_pooling_everything():
    head = SSNHead(16, 5, SSNOptions(stpp=(1, (1, 2), 1), dropout=0), torch.Generator().manual_seed(0))
    groups, videos = Groups(2, 3, 2), 4
    segments, scaling = torch.randn(videos * groups.size, 9, 16), torch.rand(videos * groups.size, 2)
    expected = head.group_scores(segments, scaling, groups)
    rows = segments.flatten(0, 1)[torch.from_numpy(needed_segments(videos, groups, (2, 5, 2)))]
    own = groups.for_completeness(scaling.view(videos, groups.size, 2))
    found = head.score_groups(*GroupPooling(head.options, videos, groups)(rows, own), groups)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
