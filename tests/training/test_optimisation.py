"""Rates and parameter groups: the reference's schedules, and presets that hold the reference's options."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ssn_feat.errors import UserError
from ssn_feat.heads.ssn import SSNHead, SSNOptions
from ssn_feat.training.fit_options import OptimisationOptions
from ssn_feat.training.optimisation import make_optimiser, parameter_groups, rate, set_rate
from ssn_feat.training.presets import PRESETS

# Our groups under the reference's names; its first convolution has the factors of the other weights and biases.
GROUPS = {"weights": "normal_weight", "biases": "normal_bias", "others": "BN scale/shift"}


class Everything(nn.Module):
    """A head with parameters of each kind."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.norm = nn.LayerNorm(2)


@pytest.mark.parametrize("name", ["thumos14", "activitynet1.2"])
def test_rates_and_decay_follow_the_reference_schedule(golden, name):
    reference = golden("optimizer_policies.json")
    expected = reference["lr_schedule"][name]
    options = PRESETS[name].optimisation
    assert (options.epochs, list(options.lr_steps)) == (expected["epochs"], expected["lr_steps"])
    optimiser = make_optimiser(Everything(), options)
    assert type(optimiser) is torch.optim.SGD
    for row in expected["rows"]:
        for step in (0, 124):
            set_rate(optimiser, rate(options, row["epoch"] * 125 + step, 125))
            for group in optimiser.param_groups:
                at = expected["group_order"].index(GROUPS[group["name"]])
                assert group["lr"] == pytest.approx(row["lr"][at], abs=1e-12)
                assert group["weight_decay"] == pytest.approx(row["weight_decay"][at], abs=1e-12)


@pytest.mark.parametrize("name", ["thumos14", "activitynet1.2"])
def test_presets_hold_the_numbers_of_the_reference(golden, name):
    reference = golden("optimizer_policies.json")
    preset, defaults, config = PRESETS[name], reference["option_defaults"], reference["dataset_configs"][name]
    o, s = preset.optimisation, config["sampling"]
    assert (o.batch_videos, o.lr, o.momentum, o.weight_decay, o.epoch_multiplier, preset.ssn.dropout) == tuple(
        defaults[k] for k in ("batch_size", "lr", "momentum", "weight_decay", "training_epoch_multiplier", "dropout")
    )
    assert preset.ssn.segments == (
        defaults["num_aug_segments"],
        defaults["num_body_segments"],
        defaults["num_aug_segments"],
    )
    p = preset.pools
    assert (
        p.foreground_tiou,
        p.background_tiou,
        p.incomplete_tiou,
        p.background_coverage,
        p.incomplete_overlap,
    ) == tuple(
        s[k]
        for k in (
            "fg_iou_thresh",
            "bg_iou_thresh",
            "incomplete_iou_thresh",
            "bg_coverage_thresh",
            "incomplete_overlap_thresh",
        )
    )
    assert list(preset.ssn.stpp) == config["stpp"]
    assert preset.groups.size == s["prop_per_video"]
    assert (preset.groups.foreground, preset.groups.incomplete, preset.groups.background) == (
        s["fg_ratio"],
        s["incomplete_ratio"],
        s["bg_ratio"],
    )
    assert (preset.losses.completeness_weight, preset.losses.regression_weight, preset.losses.ohem_ratio) == (
        0.1,
        0.1,
        0.17,
    )
    assert preset.augmentation == (0.5, 0.5)


@pytest.mark.parametrize("head", [Everything(), SSNHead(4, 3, SSNOptions())])
def test_every_parameter_is_in_exactly_one_group(head):
    grouped = [id(p) for group in parameter_groups(head, OptimisationOptions()) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in head.parameters())


def test_cosine_falls_to_zero_after_a_warm_up():
    options = OptimisationOptions(schedule="cosine", lr=1.0, epochs=10, warmup_steps=20)
    rates = [rate(options, step, 10) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 20)
    assert rates[:20] == sorted(rates[:20])
    assert rates[50] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.99)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"lr": -1.0}, r"lr must be finite and not negative, it is -1\.0"),
        ({"lr": math.nan}, "lr must be finite and not negative, it is nan"),
        ({"weight_decay": math.inf}, "weight_decay must be finite"),
        ({"lr_steps": (40, 20)}, "lr_steps must be increasing"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        OptimisationOptions(**values)
