"""The network of the one-stage detector against reference numbers, and packed videos against single ones."""

import numpy as np
import pytest
import torch
from one_stage_cases import CASES, LEVELS, PADDED, close, max_network, network_of, padded, part_of, videos_of

from ssn_feat.errors import UserError
from ssn_feat.heads.point_network import PointNetwork
from ssn_feat.heads.point_options import PointNetworkOptions
from ssn_feat.heads.sequences import Packing


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_those_of_actionformer(golden, case):
    archive = golden("one_stage/attention.npz")
    points = network_of(archive, case)(*padded(videos_of(archive, case)))
    sizes = [3 * (PADDED >> level) for level in range(LEVELS)]
    levels = zip(points.logits.split(sizes), points.distances.split(sizes), points.packings, strict=True)
    for level, (logits, distances, packing) in enumerate(levels):
        valid = torch.from_numpy(archive[f"{case}/level{level}/mask"])
        assert torch.equal(packing.valid, valid.flatten())
        close(logits.view(3, -1, 5)[valid], archive[f"{case}/level{level}/logits"][valid.numpy()])
        close(distances.view(3, -1, 2)[valid], archive[f"{case}/level{level}/offsets"][valid.numpy()])


def test_outputs_are_those_of_temporalmaxer(golden):
    archive = golden("one_stage/max.npz")
    points = max_network(archive)(*padded([archive["x0"], archive["x1"]]))
    start = 0
    for level, packing in enumerate(points.packings):
        size = PADDED >> level
        valid = archive[f"train/arg0.{level}"]
        rows = slice(2 * start, 2 * (start + size))
        for ours, name in ((points.logits, "train/arg1"), (points.distances, "train/arg2")):
            close(ours[rows][packing.valid], archive[name][:, start : start + size][valid])
        start += size


def shapes():
    yield PointNetworkOptions(width=16, levels=4, window=5, drop_path=0)
    yield PointNetworkOptions(width=16, levels=4, window=0, drop_path=0)
    yield PointNetworkOptions(width=16, levels=3, window=41, drop_path=0, top_down=True)
    yield PointNetworkOptions(width=16, levels=4, pyramid="max")
    yield PointNetworkOptions(width=16, levels=4, pyramid="conv", top_down=True)


@pytest.mark.parametrize("shape", list(shapes()), ids=str)
def test_a_video_gives_the_same_alone_and_in_any_batch(shape):
    torch.manual_seed(0)
    network = PointNetwork(7, 3, shape).eval()
    for parameter in network.parameters():  # so that no bias hides what the rows beside a video contribute
        parameter.data += 0.1 * torch.randn_like(parameter)
    videos = [torch.randn(rows, 7) for rows in (1, 8, 37, 64, 20)]

    def results(batch):
        packing = Packing.of([len(video) for video in batch], shape.stride)
        points = network(packing.pack(batch), packing)
        valid, video = (torch.cat([getattr(each, name) for each in points.packings]) for name in ("valid", "video"))
        joined = torch.cat([points.logits, points.distances], dim=1)
        return [joined[valid & (video == at)] for at in range(len(batch))]

    for alone, together, reversed_ in zip(
        (results([video])[0] for video in videos), results(videos), results(videos[::-1])[::-1], strict=True
    ):
        torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(reversed_, alone, atol=2e-5, rtol=1e-4)


def test_names_of_parameters_are_those_of_the_published_code(golden):
    archive = golden("one_stage/attention.npz")
    shape = PointNetworkOptions(width=16, levels=4, window=5)
    scales = {name for name in PointNetwork(20, 5, shape).state_dict() if ".scale" in name and "drop_path" in name}
    assert len(scales) == 2 * (2 + 3)
    names = PointNetwork(20, 5, shape).state_dict().keys() - scales
    assert names == part_of(archive, "local/state/").keys()


def test_a_branch_that_is_left_out_changes_nothing():
    network = PointNetwork(5, 2, PointNetworkOptions(width=8, levels=3, attention_heads=2)).eval()
    packing = Packing.of([20, 30], 4)
    rows = packing.pack([torch.randn(20, 5), torch.randn(30, 5)])
    keep = torch.ones(network.blocks, 2, 2)
    torch.testing.assert_close(network(rows, packing, keep), network(rows, packing))
    for block in (*network.backbone.stem, *network.backbone.branch):
        torch.nn.init.ones_(block.drop_path_attn.scale)
    keep[0, 0, 1] = 0
    valid_of_first = packing.valid & (packing.video == 0)
    without, everything = network(rows, packing, keep), network(rows, packing)
    first = valid_of_first.nonzero().squeeze(1)
    torch.testing.assert_close(without.logits[first], everything.logits[first])
    other = (packing.valid & (packing.video == 1)).nonzero().squeeze(1)
    assert not np.allclose(without.logits[other].detach(), everything.logits[other].detach())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"width": 10}, "multiple of attention_heads"),
        ({"window": 4}, "odd number of rows"),
        ({"window": 1}, "odd number of rows from 3 on"),
        ({"levels": 0}, "levels must be at least 1"),
        ({"drop_path": 1.0}, "drop_path in"),
    ],
)
def test_shapes_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(UserError, match=said):
        PointNetworkOptions(**wrong)
