"""Structured temporal pyramid pooling against the original's numbers, cases by hand, and bad configurations."""

import numpy as np
import pytest
import torch
from conftest import meta

from ssn_feat.errors import UserError
from ssn_feat.heads.stpp import Pyramid, SegmentPooling


def test_training_pooling_equals_the_original_forward_and_gradient(golden):
    archive = golden("stpp_train.npz")
    cases = meta(archive)
    assert len(cases) == 18
    for case in cases:
        arrays = {k.split("/")[1]: torch.from_numpy(v) for k, v in archive.items() if k.startswith(case["case"] + "/")}
        x1, x2, count = case["seg_split"]
        pyramid = Pyramid.of(case["configs"])
        assert pyramid.parts == case["feat_multiplier"]
        assert list(pyramid.stage_parts) == case["norm_num"]
        segments = arrays["ft"].view(case["n_sample"], count, -1).requires_grad_()
        scaling = arrays["scaling"].clone().requires_grad_()
        pooled = SegmentPooling(pyramid, (x1, x2 - x1, count - x2))(segments, scaling)
        activity, parts = pooled[:, 0], pooled[:, 1:].flatten(1)
        if not case["standalong_classifier"]:
            activity = parts
        torch.testing.assert_close(activity, arrays["out_act"], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(parts, arrays["out_stpp"], atol=1e-5, rtol=1e-5)
        ((activity * arrays["grad_act"]).sum() + (parts * arrays["grad_stpp"]).sum()).backward()
        torch.testing.assert_close(segments.grad.flatten(0, 1), arrays["grad_ft"], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(scaling.grad, arrays["grad_scaling"], atol=1e-5, rtol=1e-5)


def test_parts_by_hand():
    pyramid = Pyramid.of((1, (1, 2), 1))
    segments = torch.tensor([1.0, 3, 10, 20, 30, 40, 50, 5, 7])[None, :, None]
    pooled = SegmentPooling(pyramid, (2, 5, 2))(segments, torch.tensor([[0.5, 0.25]]))[0, :, 0]
    # Course: mean; start 2 * .5; course over three parts, halves of 2 and 3 segments; end 6 * .25.
    np.testing.assert_allclose(pooled, [30, 1, 10, 5, 40 / 3, 1.5], rtol=1e-6)


def test_parts_are_ordered_by_stage_then_level_then_time():
    pyramid = Pyramid.of(((1, 2), (1, 3), 2))
    assert pyramid.stage_of_part.tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert pyramid.fractions.tolist() == [[0, 1], [0, 2], [1, 2], [0, 1], [0, 3], [1, 3], [2, 3], [0, 2], [1, 2]]


def test_weights_of_a_stage_sum_to_one_on_every_level():
    pyramid = Pyramid.of(((1, 2), (1, 2, 5), (1, 3)))
    weights = pyramid.segment_weights((4, 11, 7))
    assert weights[0, 4:15].sum() == pytest.approx(1)
    sums = [weights[1:][pyramid.stage_of_part == stage].sum() for stage in range(3)]
    assert sums == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("config", [(1, 1), (1, 0, 1), (1, (), 1), (1, 1.5, 1), (1, True, 1), (1, "2", 1), (), 3, "1"])
def test_bad_pyramids_are_refused(config):
    with pytest.raises(UserError, match="a pyramid needs parts"):
        Pyramid.of(config)


def test_fewer_segments_than_parts_are_refused():
    with pytest.raises(UserError, match="the ending stage has 2 sampled segments, too few for the 3 parts"):
        SegmentPooling(Pyramid.of((1, 1, (1, 3))), (2, 5, 2))
    with pytest.raises(UserError, match="three numbers"):
        SegmentPooling(Pyramid.of((1, 1, 1)), (2, 5))
