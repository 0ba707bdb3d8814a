"""Backbones of no cost for tests, given as ``tiny:net`` and so on; some do not bear white images."""

from __future__ import annotations

import os
import signal
import time

import torch
from torch import nn

from ssn_feat.store import StoreWriteError


class Tiny(nn.Module):
    """Means of a 4x4 grid of cells, mixed by fixed weights; 6 features."""

    input_size = 32
    feature_dim = 6

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.mix = nn.Linear(channels * 16, self.feature_dim)
        with torch.no_grad():
            self.mix.weight.copy_(torch.arange(self.mix.weight.numel()).sin().reshape(self.mix.weight.shape))
            self.mix.bias.zero_()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        time.sleep(float(os.environ.get("TINY_DELAY", "0")))
        features: torch.Tensor = self.mix(self.pool(image).flatten(1))
        return self.on_white(features) if bool((image > 0.98).float().mean() > 0.9) else features

    def on_white(self, features: torch.Tensor) -> torch.Tensor:
        return features


class Overflowing(Tiny):
    def on_white(self, features: torch.Tensor) -> torch.Tensor:
        return features * 1e6


class Failing(Tiny):
    def on_white(self, features: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("white is too bright")


class Full(Tiny):
    def on_white(self, features: torch.Tensor) -> torch.Tensor:
        raise StoreWriteError("the disk is full")


class Dying(Tiny):
    def on_white(self, features: torch.Tensor) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return features


def net(channels: int = 3) -> nn.Module:
    """The backbone for a stream of ``channels`` channels."""
    return Tiny(channels)


def overflowing(channels: int = 3) -> nn.Module:
    """Gives features of white images that float16 cannot hold."""
    return Overflowing(channels)


def failing(channels: int = 3) -> nn.Module:
    """Raises an error on white images."""
    return Failing(channels)


def full(channels: int = 3) -> nn.Module:
    """Says of white images that the store cannot be written."""
    return Full(channels)


def dying(channels: int = 3) -> nn.Module:
    """Kills its process on white images."""
    return Dying(channels)


class Clips(nn.Module):
    """Means of clips of 8 frames of 16x16 pixels by colour and half of the clip; 6 features."""

    input_size = 16
    clip_length = 8

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return clip.unflatten(2, (2, 4)).mean(dim=(3, 4, 5)).flatten(1)


class Large(Tiny):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image) * 60000 * 60000


def clips() -> nn.Module:
    """A video model."""
    return Clips()


def medium(channels: int = 3) -> nn.Module:
    """Takes inputs of 64 pixels."""
    module = Tiny(channels)
    module.input_size = 64
    return module


def large(channels: int = 3) -> nn.Module:
    """Computes what float16 cannot hold."""
    return Large(channels)
