"""Speed of extraction, stage by stage and from end to end: what ``python -m bench.speed extract`` does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.speed.figures import Figure, machine_of, print_figures, write_figures
from ssn_feat.backbones import usable_device
from ssn_feat.errors import UserError
from ssn_feat.video import decoder_versions, import_cv2

SIZE = (340, 256)
FPS = 30.0
_DISTINCT = 150


@dataclass(frozen=True)
class ExtractSpeedOptions:
    """Time decoding, flow, networks and all of them together, on a made-up video of 340x256 pixels at 30 frames/s."""

    device: str = "cpu"
    """cpu, or cuda: then the stages that run on a GPU."""
    seconds: float = 0.0
    """Length of the video that goes from end to end; 0: 40 on a CPU, 60 on a GPU. Networks wait for the first batch,
    which is start-up: of a short video it is a large part."""
    backbones: tuple[str, ...] = ("bninception", "inception_v3", "efficientnet_lite0")
    """Networks whose images a second are measured; one that is not installed is left out."""
    plain_seconds: float = 3.0
    """Length of the video that also goes the plain way of files; 0 leaves that out."""
    long_minutes: float = 10.0
    """Length of the video whose peak memory is compared with that of one of 10 seconds; 0 leaves that out."""
    runs: int = 3
    """Each time is the least of so many; what takes long runs once."""
    json: Path | None = None
    """File to write, with the machine's name."""

    def __post_init__(self) -> None:
        for name in ("seconds", "plain_seconds", "long_minutes"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, but is {getattr(self, name)}")
        if self.runs < 1:
            raise UserError(f"runs must be at least 1, not {self.runs}")


def measure_extract(options: ExtractSpeedOptions) -> list[Figure]:
    """Measure everything, print a table with the bars, write JSON where asked. Raises UserError where that fails."""
    device = usable_device(options.device)
    with tempfile.TemporaryDirectory(prefix="ssn-feat-speed-") as name:
        if device.type == "cuda":
            from bench.speed.extract_gpu import gpu_figures

            found = list(gpu_figures(options, Path(name)))
        else:
            from bench.speed.extract_stages import cpu_figures

            found = list(cpu_figures(options, Path(name)))
    about = {**machine_of(device, torch.get_num_threads()), **decoder_versions()}
    print_figures(found, about)
    if options.json is not None:
        write_figures(found, about, options.json)
    return found


def figure(part: str, of: str, value: float, unit: str, bar: float | None = None, at_most: bool = False) -> Figure:
    """A figure of ``part``, with ``of`` on what it was measured; ``bar``: what it is to reach, or to stay below."""
    return Figure(part, value, unit, bar, "at most" if at_most else "at least", of)


def made_up_frames(size: tuple[int, int] = SIZE, count: int = _DISTINCT, seed: int = 0) -> Iterator[np.ndarray]:
    """BGR uint8 images (H, W, 3) of a texture that moves two pixels a frame and a patch that moves the other way."""
    cv2 = import_cv2()
    rng, (width, height) = np.random.default_rng(seed), size
    coarse = rng.integers(0, 256, (height // 8, (width + 2 * count) // 8 + 1, 3), dtype=np.uint8)
    wide = cv2.resize(coarse, (width + 2 * count, height), interpolation=cv2.INTER_CUBIC)
    patch = cv2.resize(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), (height // 3, height // 3))
    for number in range(count):
        image = wide[:, 2 * number : 2 * number + width].copy()
        at = (width // 2 + 3 * number) % (width - height // 3)
        image[height // 3 : height // 3 + len(patch), at : at + len(patch)] = patch
        yield image


def write_video(path: Path, seconds: float, size: tuple[int, int] = SIZE) -> Path:
    """A video of made-up frames, back and forth. Raises UserError where OpenCV can write no video."""
    cv2 = import_cv2()
    images = list(made_up_frames(size))
    images += images[::-1]
    for ending, codec in ((".mp4", "mp4v"), (".webm", "VP80"), (".avi", "MJPG")):
        target = path.with_suffix(ending)
        writer = cv2.VideoWriter(str(target), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), FPS, size)
        if writer.isOpened():
            for number in range(round(seconds * FPS)):
                writer.write(images[number % len(images)])
            writer.release()
            return target
    raise UserError("this OpenCV can write no video to measure with")


__all__ = ["FPS", "SIZE", "ExtractSpeedOptions", "figure", "made_up_frames", "measure_extract", "write_video"]
