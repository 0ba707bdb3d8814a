"""Targets, losses and gradients of the one-stage detector against reference numbers and cases by hand."""

import pytest
import torch
from one_stage_cases import (
    CASES,
    LEVELS,
    by_level,
    close,
    instances_of,
    max_network,
    network_of,
    padded,
    part_of,
    truth_of,
    videos_of,
)

from ssn_feat.heads.points import (
    PointLossOptions,
    distance_iou_loss,
    focal_loss,
    grid_of,
    level_ranges,
    point_losses,
    targets,
)
from ssn_feat.heads.sequences import Packing

OPTIONS = PointLossOptions()


@pytest.mark.parametrize("case", CASES)
def test_targets_losses_and_gradients_are_those_of_actionformer(golden, case):
    archive = golden("one_stage/attention.npz")
    network, truth = network_of(archive, case), instances_of(archive, case)
    rows, packing = padded(videos_of(archive, case))
    rows.requires_grad_()
    points = network(rows, packing)
    grid = grid_of(points.packings)
    of_class, wanted = targets(grid, *truth, 5, LEVELS, OPTIONS)
    expected = by_level([archive[f"{case}/video{at}/target_classes"] for at in range(3)])
    assert torch.equal(of_class[grid.valid], expected[grid.valid])
    positive = (expected.sum(dim=1) > 0) & grid.valid
    assert positive.any()
    close(wanted[positive], by_level([archive[f"{case}/video{at}/target_offsets"] for at in range(3)])[positive])
    normaliser = torch.tensor(OPTIONS.normaliser)
    for call in range(2):
        loss, focal, distance, normaliser = point_losses(points, of_class, wanted, grid, normaliser, OPTIONS)
        for ours, name in ((loss, "final"), (focal, "cls"), (distance, "reg")):
            close(ours, archive[f"{case}/loss{call}/{name}"])
        assert float(normaliser) == pytest.approx(float(archive[f"{case}/loss{call}/normaliser"]), rel=1e-5)
        if call == 0:
            loss.backward(retain_graph=True)
    assert rows.grad is not None
    close(rows.grad.view(3, -1, 20).transpose(1, 2), archive[f"{case}/grad/input"])
    gradients = part_of(archive, f"{case}/grad/")
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        close(parameter.grad, gradients[name])


def test_losses_and_gradients_are_those_of_temporalmaxer(golden):
    archive = golden("one_stage/max.npz")
    network = max_network(archive)
    points = network(*padded([archive["x0"], archive["x1"]]))
    grid = grid_of(points.packings)
    truth = truth_of([(archive[f"seg{at}"], archive[f"lab{at}"]) for at in range(2)])
    of_class, wanted = targets(grid, *truth, 5, LEVELS, OPTIONS)
    assert torch.equal(of_class[grid.valid], by_level([archive[f"train/arg3.{at}"] for at in range(2)])[grid.valid])
    # Where several instances contain a point, its assignment may choose another one than the shortest.
    theirs = by_level([archive[f"train/arg4.{at}"] for at in range(2)])
    positive = (of_class.sum(dim=1) > 0) & grid.valid
    assert ((wanted - theirs)[positive].abs().amax(dim=1) > 1e-4).sum() <= 1
    loss, focal, distance, normaliser = point_losses(points, of_class, theirs, grid, torch.tensor(100.0), OPTIONS)
    for ours, name in ((loss, "final_loss"), (focal, "cls_loss"), (distance, "reg_loss")):
        assert float(ours.detach()) == pytest.approx(float(archive[f"loss/{name}"]), rel=1e-4, abs=1e-5)
    assert float(normaliser) == pytest.approx(float(archive["loss_normalizer"]))
    loss.backward()
    gradients = part_of(archive, "g/")
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        close(parameter.grad, gradients[name])


def test_focal_and_distance_losses_are_those_of_actionformer(golden):
    archive = golden("one_stage/attention.npz")
    logits = torch.from_numpy(archive["focal/logits"]).requires_grad_()
    loss = focal_loss(logits, torch.from_numpy(archive["focal/target"]), 0.25, 2.0)
    loss.backward()
    close(loss, archive["focal/loss"])
    close(logits.grad, archive["focal/grad"])
    distances = torch.from_numpy(archive["diou/offsets"]).requires_grad_()
    losses = distance_iou_loss(distances, torch.from_numpy(archive["diou/target"]))
    losses.sum().backward()
    close(losses, archive["diou/loss"])
    close(distances.grad, archive["diou/grad"])


def test_a_point_learns_from_the_shortest_instance_around_it():
    grid = grid_of([Packing.of([16], 1, [16])])
    instances = torch.tensor([[[2.0, 5.0], [1.0, 8.0], [2.0, 5.0005], [torch.nan, torch.nan]]])
    labels = torch.tensor([[0, 1, 2, 0]])
    of_class, wanted = targets(grid, instances, labels, 3, 1, PointLossOptions(centre_radius=100))
    # Instances of nearly the same length give both labels; a point on a boundary is outside.
    assert of_class[:10].tolist() == [
        [0, 0, 0],
        [0, 0, 0],
        [0, 1, 0],
        [1, 0, 1],
        [1, 0, 1],
        [0, 0, 1],
        [0, 1, 0],
        [0, 1, 0],
        [0, 0, 0],
        [0, 0, 0],
    ]
    close(wanted[[2, 3, 6]], torch.tensor([[1.0, 6.0], [1.0, 2.0], [5.0, 2.0]]))
    assert not wanted[of_class.sum(dim=1) == 0].any()


def test_levels_share_the_lengths():
    assert level_ranges(6) == [(0, 4), (4, 8), (8, 16), (16, 32), (32, 64), (64, 10000)]


def test_videos_without_instances_have_no_targets():
    grid = grid_of([Packing.of([5, 3], 2)])
    of_class, wanted = targets(grid, torch.zeros(2, 0, 2), torch.zeros(2, 0, dtype=torch.int64), 4, 1, OPTIONS)
    assert not of_class.any()
    assert not wanted.any()
