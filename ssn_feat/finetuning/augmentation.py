"""Data augmentation for training from pixels as in the original: crops of several sizes and positions, mirroring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.video.network_inputs import resize

SCALES: dict[str, tuple[float, ...]] = {"rgb": (1.0, 0.875, 0.75, 0.66), "flow": (1.0, 0.875, 0.75)}
"""Sides of crops as fractions of the shorter side of the image, for each stream."""

# A side that differs by less than this many pixels from the input size is set to the input size.
_SNAP = 3
# Positions (x, y) of crops in quarters of the slack: corners and centre, middles of the edges, centres of quadrants.
_PLACES = (
    *((0, 0), (4, 0), (0, 4), (4, 4), (2, 2)),
    *((0, 2), (4, 2), (2, 4), (2, 0)),
    *((1, 1), (3, 1), (1, 3), (3, 3)),
)


@dataclass(frozen=True)
class AugmentationOptions:
    """Data augmentation; all images of a proposal are augmented in the same way."""

    vary: Literal["scales", "places", "none"] = "scales"
    """scales: crops of several sizes and positions, resized to the input of the network, as in the original. places:
    crops of the input size at several positions. none: the centre, as in extraction."""
    mirror: bool = True
    """Mirror half of the proposals at random; horizontal flow is inverted accordingly."""


@dataclass(frozen=True)
class Variation:
    """Augmentation of the images of a proposal.

    A crop of ``width`` x ``height`` pixels at (``x``, ``y``), resized to the input of the network, mirrored or not.
    """

    x: int
    y: int
    width: int
    height: int
    mirrored: bool


def crop_sizes(width: int, height: int, size: int, scales: Sequence[float]) -> list[tuple[int, int]]:
    """(width, height) of the possible crops of an image for inputs of ``size``; sides differ by at most one scale."""
    sides = [int(min(width, height) * scale) for scale in scales]
    sides = [size if abs(side - size) < _SNAP else side for side in sides]
    return [(w, h) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]


def crop_places(width: int, height: int, crop: tuple[int, int]) -> list[tuple[int, int]]:
    """The 13 positions (x, y) of a crop (width, height) in an image."""
    step_x, step_y = (width - crop[0]) // 4, (height - crop[1]) // 4
    return [(i * step_x, j * step_y) for i, j in _PLACES]


def draw_variation(
    width: int, height: int, size: int, stream: str, options: AugmentationOptions, generator: np.random.Generator
) -> Variation:
    """Draw an augmentation of images of ``width`` x ``height`` for inputs of ``size``.

    Raises UserError if the images are smaller than the input.
    """
    if min(width, height) < size:
        raise UserError(f"images of {width}x{height} are smaller than the network's input of {size}: raise short_side")
    crop, position = (size, size), (round((width - size) / 2), round((height - size) / 2))
    if options.vary == "scales":
        sizes = crop_sizes(width, height, size, SCALES[stream])
        crop = sizes[generator.integers(len(sizes))]
    if options.vary != "none":
        positions = crop_places(width, height, crop)
        position = positions[generator.integers(len(positions))]
    return Variation(*position, *crop, bool(options.mirror and generator.random() < 0.5))


def vary(image: NDArray[np.uint8], variation: Variation, size: int, flow: bool) -> NDArray[np.uint8]:
    """An image uint8 (H, W, C) as an input of the network: uint8 (C, size, size).

    Images are resized as in Pillow. Mirroring inverts the x channels (the even ones) of ``flow``.
    """
    cut = image[variation.y : variation.y + variation.height, variation.x : variation.x + variation.width]
    cut = resize(cut.copy(), (size, size), "smooth")
    if variation.mirrored:
        cut = cut[:, ::-1]
        if flow:
            cut = np.where(np.arange(cut.shape[2]) % 2 == 0, 255 - cut, cut)
    return np.ascontiguousarray(cut.transpose(2, 0, 1), dtype=np.uint8)


__all__ = ["SCALES", "AugmentationOptions", "Variation", "crop_places", "crop_sizes", "draw_variation", "vary"]
