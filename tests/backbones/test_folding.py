"""Folding changes the arithmetic, not the result, and keeps its hands off what it does not understand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ssn_feat.backbones.folding import channels_last, fold_batch_norm


def norms(module: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d) for layer in module.modules())


def trained(norm: nn.Module) -> nn.Module:
    """A batch norm with statistics and factors that are not the identity."""
    for values, low, high in ((norm.running_mean, -1, 1), (norm.running_var, 0.1, 3)):
        if values is not None:
            values.uniform_(low, high)
    if norm.affine:
        nn.init.uniform_(norm.weight, -2, 2)
        nn.init.uniform_(norm.bias, -2, 2)
    return norm


@settings(max_examples=40, deadline=None)
@given(
    dims=st.sampled_from([2, 3]),
    groups=st.sampled_from([1, 2]),
    bias=st.booleans(),
    affine=st.booleans(),
    stride=st.integers(1, 2),
    seed=st.integers(0, 1000),
)
def test_folded_equals_plain(dims: int, groups: int, bias: bool, affine: bool, stride: int, seed: int) -> None:
    torch.manual_seed(seed)
    convolution, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
    module = nn.Sequential(
        convolution(4, 6, 3, stride=stride, padding=1, groups=groups, bias=bias),
        trained(norm(6, affine=affine)),
        nn.ReLU(),
    ).eval()
    image = torch.randn(2, 4, *[7] * dims)
    channels_last(module)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    folded = fold_batch_norm(module)
    assert norms(folded) == 0
    with torch.no_grad():
        torch.testing.assert_close(folded(image), module(image), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items()), "the input is kept"


class TwoUses(nn.Module):
    """The convolution's output is also used without the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), trained(nn.BatchNorm2d(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.convolution(x)
        return self.norm(y) + y


class Shared(TwoUses):
    """One convolution called twice, once with a norm behind it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.convolution(x)).mean((2, 3)) + self.convolution(x).mean((2, 3))


class DependsOnValues(TwoUses):
    """Cannot be traced."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.convolution(x))
        return y if x.sum() > 0 else -y


class DependsOnType(TwoUses):
    """Traces to another function than it is: what is traced is not a tensor."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.convolution(x))
        return y if isinstance(x, torch.Tensor) else y * 0


class BatchStatistics(TwoUses):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.convolution(x))


@pytest.mark.parametrize("kind", [TwoUses, Shared, DependsOnValues, DependsOnType, BatchStatistics])
def test_what_cannot_be_folded_stays_as_it_is(kind: type[nn.Module]) -> None:
    module, image = kind().eval(), torch.randn(2, 3, 6, 6)
    folded = fold_batch_norm(module, example=image)
    assert norms(folded) == 1
    with torch.no_grad():
        torch.testing.assert_close(folded(image), module(image))


def test_kernels_of_both_kinds_are_laid_out_for_channels_last() -> None:
    module = channels_last(nn.ModuleList([nn.Conv2d(4, 6, 3), nn.Conv3d(4, 6, 3), nn.Linear(3, 3)]))
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert module[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
