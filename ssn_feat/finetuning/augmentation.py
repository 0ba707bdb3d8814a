"""How training pictures are varied: crops of several sizes at fixed places, and mirroring, as the original does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.video.network_inputs import resize

SCALES: dict[str, tuple[float, ...]] = {"rgb": (1.0, 0.875, 0.75, 0.66), "flow": (1.0, 0.875, 0.75)}
"""Sides of crops as parts of the shorter side of the picture, by stream."""

# A crop whose side differs by less than this many pixels from the network's input takes the input's side.
_SNAP = 3
# Places of crops in quarters of the slack, (x, y): corners and centre, edges' middles, middles of the quarters.
_PLACES = (
    *((0, 0), (4, 0), (0, 4), (4, 4), (2, 2)),
    *((0, 2), (4, 2), (2, 4), (2, 0)),
    *((1, 1), (3, 1), (1, 3), (3, 3)),
)


@dataclass(frozen=True)
class AugmentationOptions:
    """How the pictures of a proposal are varied; all of one proposal alike."""

    vary: Literal["scales", "places", "none"] = "scales"
    """scales: crops of several sizes and places, scaled to the network's input (the original's); places: crops of the
    input's size; none: the centre, as extraction."""
    mirror: bool = True
    """Mirror every second proposal; motion to the right then becomes motion to the left."""


@dataclass(frozen=True)
class Variation:
    """What is done to the pictures of a proposal: a crop of ``width`` x ``height`` pixels at (``x``, ``y``), scaled to
    the network's input, mirrored or not."""

    x: int
    y: int
    width: int
    height: int
    mirrored: bool


def crop_sizes(width: int, height: int, size: int, scales: Sequence[float]) -> list[tuple[int, int]]:
    """(width, height) of the crops of a picture for inputs of ``size``; sides are at most one scale apart."""
    sides = [int(min(width, height) * scale) for scale in scales]
    sides = [size if abs(side - size) < _SNAP else side for side in sides]
    return [(w, h) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]


def crop_places(width: int, height: int, crop: tuple[int, int]) -> list[tuple[int, int]]:
    """The 13 places (x, y) of a crop (width, height) in a picture."""
    step_x, step_y = (width - crop[0]) // 4, (height - crop[1]) // 4
    return [(i * step_x, j * step_y) for i, j in _PLACES]


def draw_variation(
    width: int, height: int, size: int, stream: str, options: AugmentationOptions, generator: np.random.Generator
) -> Variation:
    """A variation of pictures of ``width`` x ``height`` for inputs of ``size``.

    Raises UserError where the pictures are smaller than the input.
    """
    if min(width, height) < size:
        raise UserError(
            f"pictures of {width}x{height} are smaller than the network's input of {size}: raise short_side"
        )
    crop, place = (size, size), (round((width - size) / 2), round((height - size) / 2))
    if options.vary == "scales":
        sizes = crop_sizes(width, height, size, SCALES[stream])
        crop = sizes[generator.integers(len(sizes))]
    if options.vary != "none":
        places = crop_places(width, height, crop)
        place = places[generator.integers(len(places))]
    return Variation(*place, *crop, bool(options.mirror and generator.random() < 0.5))


def vary(picture: NDArray[np.uint8], variation: Variation, size: int, flow: bool) -> NDArray[np.uint8]:
    """A picture uint8 (H, W, C) as an input of the network: uint8 (C, size, size).

    Scaled as Pillow does. Mirroring inverts the x channels (the even ones) of ``flow``.
    """
    own = variation
    cut = picture[own.y : own.y + own.height, own.x : own.x + own.width]
    cut = resize(cut.copy(), (size, size), "smooth")
    if own.mirrored:
        cut = cut[:, ::-1]
        if flow:
            cut = np.where(np.arange(cut.shape[2]) % 2 == 0, 255 - cut, cut)
    return np.ascontiguousarray(cut.transpose(2, 0, 1), dtype=np.uint8)


__all__ = ["SCALES", "AugmentationOptions", "Variation", "crop_places", "crop_sizes", "draw_variation", "vary"]
