"""Kernels of an RGB network for other inputs, against the original's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conftest import meta
from torch import nn

from ssn_feat.backbones import inflate
from ssn_feat.backbones.inflation import inflate_input
from ssn_feat.errors import UserError


def test_inflated_kernels_are_the_originals(golden: Callable[[str], Any]) -> None:
    archive = golden("cross_modality.npz")
    checked = 0
    for case in meta(archive):
        name, cin = case["case"], case["cin"]
        weight = torch.from_numpy(archive[f"{name}/weight"])
        for length in (3, 5):
            made = {
                f"flow_len{length}": inflate(weight, 2 * length),
                f"diff_len{length}": inflate(weight, 3 * length),
                f"diff_keep_rgb_len{length}": inflate(weight, cin + 3 * length, keep_rgb=True),
            }
            for kind, found in made.items():
                if f"{name}/{kind}_weight" in archive:
                    np.testing.assert_allclose(found.numpy(), archive[f"{name}/{kind}_weight"], rtol=0, atol=1e-7)
                    checked += 1
    assert checked == 22


@pytest.mark.parametrize("dims", [2, 3])
def test_the_first_convolution_is_widened_in_place(dims: int) -> None:
    kind = nn.Conv2d if dims == 2 else nn.Conv3d
    module = nn.Sequential(nn.Identity(), kind(3, 4, 3, stride=2, padding=1, dilation=2), nn.ReLU())
    bias = module[1].bias
    inflate_input(module, 10)
    inflate_input(module, 10)
    assert module[1].weight.shape == (4, 10, *[3] * dims)
    assert module[1].bias is bias
    assert module[1].dilation == (2,) * dims
    assert module(torch.randn(1, 10, *[8] * dims)).shape[1] == 4


def test_a_constant_image_gives_the_same_response_times_the_channels_over_three() -> None:
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    plain, wide = (
        nn.functional.conv2d(torch.ones(1, w.shape[1], 3, 3).double(), w) for w in (weight, inflate(weight, 10))
    )
    torch.testing.assert_close(wide, plain * 10 / 3)


def test_what_cannot_be_inflated_is_refused() -> None:
    with pytest.raises(UserError, match="no convolution"):
        inflate_input(nn.Linear(3, 4), 10)
    with pytest.raises(UserError, match="3 groups"):
        inflate_input(nn.Conv2d(3, 3, 3, groups=3), 10)
    with pytest.raises(UserError, match="cannot inflate"):
        inflate(torch.zeros(4, 3, 3, 3), 3, keep_rgb=True)
    with pytest.raises(UserError, match="4 or 5 dimensions"):
        inflate(torch.zeros(4, 3), 10)
