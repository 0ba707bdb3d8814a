"""BNInception and Inception v3 as in the original SSN, compatible with its published weights.

Both differ from the papers in details that change the features. All of these are kept: every convolution has a bias
in addition to its batch norm, every pooling rounds its output size up, average pooling includes the padding, the last
block uses max pooling, and the input of Inception v3 is BGR pixels minus a mean instead of [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from ssn_feat.backbones.architecture import Architecture, Normalisation, he_initialise


@dataclass(frozen=True)
class Convolution:
    """Convolution with bias, batch norm, ReLU."""

    name: str
    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padded: bool = True
    """Whether to pad so that a stride of 1 keeps the size."""


@dataclass(frozen=True)
class PoolingBlock:
    """Pooling; the output size is rounded up and averages include the padding."""

    kind: Literal["max", "avg"]
    stride: int = 1
    padding: int = 1
    kernel: int = 3


@dataclass(frozen=True)
class Fork:
    """Parallel chains with the same input; their outputs are concatenated in this order."""

    branches: tuple[Chain, ...]


Chain = tuple[Convolution | PoolingBlock | Fork, ...]


class Inception(nn.Module):
    """The network of a :class:`Chain`, followed by global average pooling.

    (N, 3, H, W) float -> (N, D). ``names`` are the name suffixes of a convolution and its batch norm.
    """

    def __init__(self, chain: Chain, names: tuple[str, str]) -> None:
        super().__init__()
        self.chain, self.names = chain, names
        self.feature_dim = self._build(chain, channels=3)

    def _build(self, chain: Chain, channels: int) -> int:
        """Register the layers in chain order, depth first, and return the number of output features."""
        for step in chain:
            if isinstance(step, Fork):
                channels = sum(self._build(branch, channels) for branch in step.branches)
            elif isinstance(step, Convolution):
                height, width = step.kernel
                padding = (height // 2, width // 2) if step.padded else (0, 0)
                layer = nn.Conv2d(channels, step.features, step.kernel, step.stride, padding)
                channels = step.features
                self.add_module(step.name + self.names[0], layer)
                self.add_module(step.name + self.names[1], nn.BatchNorm2d(channels))
        return channels

    def _run(self, chain: Chain, x: torch.Tensor) -> torch.Tensor:
        for step in chain:
            if isinstance(step, Fork):
                x = torch.cat([self._run(branch, x) for branch in step.branches], dim=1)
            elif isinstance(step, PoolingBlock):
                pool = F.max_pool2d if step.kind == "max" else F.avg_pool2d
                x = pool(x, step.kernel, step.stride, step.padding, ceil_mode=True)
            else:
                convolution, norm = (self.get_submodule(step.name + ending) for ending in self.names)
                x = F.relu(norm(convolution(x)), inplace=True)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._run(self.chain, x).mean(dim=(2, 3))


def bninception() -> Architecture:
    """1024 features of 224x224 BGR images minus (104, 117, 128); Ioffe and Szegedy, ICML 2015."""
    module = Inception(_bninception_chain(), ("", "_bn"))
    return _architecture(module, input_size=224, classifier="fc.")


def inception_v3() -> Architecture:
    """2048 features of 299x299 BGR images minus (104, 117, 128); Szegedy et al., CVPR 2016."""
    module = Inception(_inception_v3_chain(), ("_Conv2D", "_batchnorm"))
    return _architecture(module, input_size=299, classifier="top_cls_fc.")


def _architecture(module: Inception, input_size: int, classifier: str) -> Architecture:
    he_initialise(module)
    normalisation = Normalisation((104.0, 117.0, 128.0))
    return Architecture(module, module.feature_dim, input_size, normalisation, (classifier,))


# Block; 1x1; 3x3 (reduced, out); double 3x3 (reduced, out); pool; its projection. A block without 1x1 halves the size.
_BNINCEPTION_BLOCKS: tuple[tuple[str, int, tuple[int, int], tuple[int, int], Literal["max", "avg"], int], ...] = (
    ("3a", 64, (64, 64), (64, 96), "avg", 32),
    ("3b", 64, (64, 96), (64, 96), "avg", 64),
    ("3c", 0, (128, 160), (64, 96), "max", 0),
    ("4a", 224, (64, 96), (96, 128), "avg", 128),
    ("4b", 192, (96, 128), (96, 128), "avg", 128),
    ("4c", 160, (128, 160), (128, 160), "avg", 128),
    ("4d", 96, (128, 192), (160, 192), "avg", 128),
    ("4e", 0, (128, 192), (192, 256), "max", 0),
    ("5a", 352, (192, 320), (160, 224), "avg", 128),
    ("5b", 352, (192, 320), (192, 224), "max", 128),
)


def _bninception_chain() -> Chain:
    halve = PoolingBlock("max", stride=2, padding=0)
    return (
        Convolution("conv1_7x7_s2", 64, (7, 7), stride=2),
        halve,
        Convolution("conv2_3x3_reduce", 64),
        Convolution("conv2_3x3", 192, (3, 3)),
        halve,
        *(_bninception_block(*block) for block in _BNINCEPTION_BLOCKS),
    )


def _bninception_block(
    block: str,
    single: int,
    triple: tuple[int, int],
    double: tuple[int, int],
    pool: Literal["max", "avg"],
    projection: int,
) -> Fork:
    name, stride = f"inception_{block}", 1 if single else 2
    three: Chain = (
        Convolution(f"{name}_3x3_reduce", triple[0]),
        Convolution(f"{name}_3x3", triple[1], (3, 3), stride),
    )
    twice: Chain = (
        Convolution(f"{name}_double_3x3_reduce", double[0]),
        Convolution(f"{name}_double_3x3_1", double[1], (3, 3)),
        Convolution(f"{name}_double_3x3_2", double[1], (3, 3), stride),
    )
    if not single:
        return Fork((three, twice, (PoolingBlock(pool, stride=2, padding=0),)))
    pooled: Chain = (PoolingBlock(pool), Convolution(f"{name}_pool_proj", projection))
    return Fork(((Convolution(f"{name}_1x1", single),), three, twice, pooled))


def _inception_v3_chain() -> Chain:
    halve = PoolingBlock("max", stride=2, padding=0)
    return (
        Convolution("conv", 32, (3, 3), stride=2, padded=False),
        Convolution("conv_1", 32, (3, 3), padded=False),
        Convolution("conv_2", 64, (3, 3)),
        halve,
        Convolution("conv_3", 80),
        Convolution("conv_4", 192, (3, 3), padded=False),
        halve,
        _square_block("mixed", 32),
        _square_block("mixed_1", 64),
        _square_block("mixed_2", 64),
        Fork(
            (
                (_halving("mixed_3_conv", 384),),
                (*_tower("mixed_3_tower", (64, 1, 1), (96, 3, 3)), _halving("mixed_3_tower_conv_2", 96)),
                (halve,),
            )
        ),
        *(_long_block(f"mixed_{block}", inner) for block, inner in ((4, 128), (5, 160), (6, 160), (7, 192))),
        Fork(
            (
                (*_tower("mixed_8_tower", (192, 1, 1)), _halving("mixed_8_tower_conv_1", 320)),
                (
                    *_tower("mixed_8_tower_1", (192, 1, 1), (192, 7, 1), (192, 1, 7)),
                    _halving("mixed_8_tower_1_conv_3", 192),
                ),
                (halve,),
            )
        ),
        _wide_block("mixed_9", "avg"),
        _wide_block("mixed_10", "max"),
    )


def _halving(name: str, features: int) -> Convolution:
    return Convolution(name, features, (3, 3), stride=2, padded=False)


def _tower(name: str, *layers: tuple[int, int, int]) -> Chain:
    """Sequential convolutions, each given as its features, kernel height and kernel width."""
    endings = ["conv", *(f"conv_{i}" for i in range(1, len(layers)))]
    return tuple(
        Convolution(f"{name}_{ending}", features, (height, width))
        for ending, (features, height, width) in zip(endings, layers, strict=True)
    )


def _pooled(name: str, kind: Literal["max", "avg"], features: int) -> Chain:
    return (PoolingBlock(kind), Convolution(f"{name}_tower_2_conv", features))


def _square_block(name: str, projection: int) -> Fork:
    """Figure 5 of the paper, with one 5x5 kernel."""
    five = _tower(f"{name}_tower", (48, 1, 1), (64, 5, 5))
    threes = _tower(f"{name}_tower_1", (64, 1, 1), (96, 3, 3), (96, 3, 3))
    return Fork((_tower(name, (64, 1, 1)), five, threes, _pooled(name, "avg", projection)))


def _long_block(name: str, inner: int) -> Fork:
    """Figure 6: 7x7 kernels as 7x1 and 1x7."""
    short = _tower(f"{name}_tower", (inner, 1, 1), (inner, 7, 1), (192, 1, 7))
    long = _tower(f"{name}_tower_1", (inner, 1, 1), (inner, 1, 7), (inner, 7, 1), (inner, 1, 7), (192, 7, 1))
    return Fork((_tower(name, (192, 1, 1)), short, long, _pooled(name, "avg", 192)))


def _wide_block(name: str, pool: Literal["max", "avg"]) -> Fork:
    """Figure 7: each of two towers ends in a 3x1 and a 1x3 kernel side by side."""

    def cross(tower: str) -> Fork:
        down = Convolution(f"{tower}_mixed_conv", 384, (3, 1))
        across = Convolution(f"{tower}_mixed_conv_1", 384, (1, 3))
        return Fork(((down,), (across,)))

    first = (*_tower(f"{name}_tower", (384, 1, 1)), cross(f"{name}_tower"))
    second = (*_tower(f"{name}_tower_1", (448, 1, 1), (384, 3, 3)), cross(f"{name}_tower_1"))
    return Fork((_tower(name, (320, 1, 1)), first, second, _pooled(name, pool, 192)))
