"""The plain way of the field to features: every step writes files that the next one reads.

Frames to JPEG files, flow to JPEG files, then snippet by snippet the files of its images, their crops and one forward
pass of a network as it was trained.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ssn_feat.backbones import Backbone
from ssn_feat.video import import_cv2

_PIXELS = (340, 256)
_BOUND = 20.0


def frames_to_files(video: Path, folder: Path) -> int:
    """img_00001.jpg, ... at 340x256; their number."""
    cv2 = import_cv2()
    capture, count = cv2.VideoCapture(str(video)), 0
    while True:
        ok, image = capture.read()
        if not ok:
            return count
        count += 1
        cv2.imwrite(str(folder / f"img_{count:05d}.jpg"), cv2.resize(image, _PIXELS))


def flow_to_files(folder: Path, count: int) -> None:
    """flow_x_00001.jpg, flow_y_00001.jpg, ... by dense inverse search of all pairs of frames."""
    cv2 = import_cv2()
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    last = cv2.imread(str(folder / "img_00001.jpg"), cv2.IMREAD_GRAYSCALE)
    for number in range(1, count):
        gray = cv2.imread(str(folder / f"img_{number + 1:05d}.jpg"), cv2.IMREAD_GRAYSCALE)
        field = search.calc(last, gray, None)
        scaled = np.clip(np.rint((field + _BOUND) * (255 / (2 * _BOUND))), 0, 255).astype(np.uint8)
        for axis, name in enumerate("xy"):
            cv2.imwrite(str(folder / f"flow_{name}_{number:05d}.jpg"), scaled[..., axis])
        last = gray


def snippet_features(
    folder: Path, count: int, backbones: dict[str, Backbone], stride: int, crop: int, ten: bool
) -> dict[str, np.ndarray]:
    """Per stream (T, D): one snippet after the other, the mean over its crops."""
    rows: dict[str, list[np.ndarray]] = {"rgb": [], "flow": []}
    for first in range(1, count - 5 + 1, stride):
        for stream in rows:
            image = _loaded(folder, first, stream)
            pixels = torch.from_numpy(np.stack(_crops(image, crop, ten, stream == "flow")))
            backbone = backbones[stream]
            mean = torch.tensor(backbone.normalisation.mean).view(-1, 1, 1)
            with torch.no_grad():
                features = backbone.module(pixels.float() - mean)
            rows[stream].append(features.mean(0).numpy())
    return {stream: np.stack(parts) for stream, parts in rows.items()}


def _loaded(folder: Path, first: int, stream: str) -> np.ndarray:
    cv2 = import_cv2()
    if stream == "rgb":
        return np.asarray(cv2.imread(str(folder / f"img_{first + 2:05d}.jpg"))).transpose(2, 0, 1)
    names = [f"flow_{axis}_{number:05d}.jpg" for number in range(first, first + 5) for axis in "xy"]
    return np.stack([cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE) for name in names])


def _crops(image: np.ndarray, size: int, ten: bool, flow: bool) -> list[np.ndarray]:
    height, width = image.shape[1:]
    middle = ((height - size) // 2, (width - size) // 2)
    if not ten:
        return [image[:, middle[0] : middle[0] + size, middle[1] : middle[1] + size]]
    found = []
    for y, x in [(0, 0), (0, width - size), (height - size, 0), (height - size, width - size), middle]:
        part = image[:, y : y + size, x : x + size]
        mirrored = part[:, :, ::-1].copy()
        if flow:
            mirrored[0::2] = 255 - mirrored[0::2]
        found += [part, mirrored]
    return found


__all__ = ["flow_to_files", "frames_to_files", "snippet_features"]
