"""Resizing and cropping of decoded images to network inputs, from uint8 to uint8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn.functional import interpolate

from ssn_feat.errors import UserError
from ssn_feat.video.opencv import import_cv2

Crops = Literal["center", "three", "ten"]
Resize = Literal["plain", "smooth"]


@dataclass(frozen=True)
class Box:
    """One crop of an image."""

    x: int
    """Left edge, pixels."""
    y: int
    """Upper edge, pixels."""
    mirrored: bool
    """Whether the crop is flipped left to right (and the x components of flow change sign)."""


def scaled_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Return (width, height) with shorter side ``short_side``; the longer is rounded down. 0 keeps the size."""
    if short_side == 0 or min(width, height) == short_side:
        return width, height
    if width < height:
        return short_side, int(short_side * height / width)
    return int(short_side * width / height), short_side


def resize(image: np.ndarray, size: tuple[int, int], how: Resize = "plain") -> np.ndarray:
    """Resize ``image`` uint8 (H, W[, 3]) to ``size`` (width, height) with bilinear interpolation.

    ``plain`` reads the four nearest pixels, as frame extractors do. ``smooth`` widens the filter when shrinking, as in
    Pillow and therefore in the original's image transforms: it avoids aliasing but is slower.
    """
    if image.shape[1::-1] == size:
        return image
    if how == "smooth":
        planes = torch.from_numpy(image).view(*image.shape[:2], -1).permute(2, 0, 1)[None]
        scaled = interpolate(planes, size=size[::-1], mode="bilinear", antialias=True, align_corners=False)
        return scaled[0].permute(1, 2, 0).reshape(*size[::-1], *image.shape[2:]).numpy()
    cv2 = import_cv2()
    resized: np.ndarray = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return resized


def resize_images(images: torch.Tensor, size: tuple[int, int], how: Resize = "plain") -> torch.Tensor:
    """Apply :func:`resize` to a batch on its device: uint8 (N, C, H, W) to ``size`` (width, height).

    OpenCV and Pillow use integer arithmetic, so single pixels differ from theirs by one gray level.
    """
    if images.shape[:1:-1] == size:
        return images
    scaled = interpolate(
        images.to(torch.float32), size=size[::-1], mode="bilinear", antialias=how == "smooth", align_corners=False
    )
    return scaled.add_(0.5).clamp_(0, 255).to(torch.uint8)


def gray_images(images: torch.Tensor) -> torch.Tensor:
    """Convert BGR uint8 (N, 3, H, W) to gray uint8 (N, H, W) on its device; equals :func:`ssn_feat.video.to_gray`."""
    blue, green, red = images.to(torch.int32).unbind(1)
    return ((blue * 3735 + green * 19235 + red * 9798 + (1 << 14)) >> 15).to(torch.uint8)


def crop_boxes(width: int, height: int, crop: int, crops: Crops) -> list[Box]:
    """Return the crops of side ``crop`` of an image, in order.

    ``center``: one. ``three``: at the start, the middle and the end of the longer side. ``ten``: upper left, upper
    right, lower left, lower right, centre, each plain and then mirrored, as in the original's over-sampling. The
    corners are multiples of a quarter of the slack (rounded down), so the right and lower crops may miss the edge by
    up to 3 pixels. Raises UserError if the image is smaller than the crop.
    """
    if width < crop or height < crop:
        raise UserError(
            f"a crop of {crop} pixels does not fit into images of {width}x{height}: lower crop or raise short_side"
        )
    middle_x, middle_y = round((width - crop) / 2), round((height - crop) / 2)
    if crops == "center":
        return [Box(middle_x, middle_y, False)]
    if crops == "three" and width >= height:
        return [Box(x, middle_y, False) for x in (0, middle_x, width - crop)]
    if crops == "three":
        return [Box(middle_x, y, False) for y in (0, middle_y, height - crop)]
    step_x, step_y = (width - crop) // 4, (height - crop) // 4
    corners = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2)]
    return [Box(i * step_x, j * step_y, mirrored) for i, j in corners for mirrored in (False, True)]


def crop_images(images: torch.Tensor, boxes: list[Box], crop: int) -> torch.Tensor:
    """Crop BGR or gray images or flow planes: (N, C, H, W) -> (N, len(boxes), C, crop, crop)."""
    parts = []
    for box in boxes:
        part = images[:, :, box.y : box.y + crop, box.x : box.x + crop]
        parts.append(part.flip(3) if box.mirrored else part)
    return torch.stack(parts, dim=1)


def crop_flow(fields: torch.Tensor, boxes: list[Box], crop: int) -> torch.Tensor:
    """Crop flow on the 8-bit scale, channels x0 y0 x1 y1 ...: (N, 2L, H, W) -> (N, len(boxes), 2L, crop, crop).

    Mirroring turns motion to the right into motion to the left, so x channels are inverted (255 - value).
    """
    cropped = crop_images(fields, boxes, crop)
    mirrored = [i for i, box in enumerate(boxes) if box.mirrored]
    if mirrored:
        cropped[:, mirrored, 0::2] = 255 - cropped[:, mirrored, 0::2]
    return cropped
