"""The frames and flow fields that pending snippets of a video need: each is computed once and dropped after use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from ssn_feat.errors import UserError
from ssn_feat.video.flow import ON_DEVICE, flow_function, quantise_flow, scale_flow, to_device, to_gray
from ssn_feat.video.frame_sources import FrameSource
from ssn_feat.video.grid import FLOW_LENGTH
from ssn_feat.video.image_folders import FolderReader
from ssn_feat.video.network_inputs import (
    Box,
    crop_boxes,
    crop_flow,
    crop_images,
    gray_images,
    resize,
    resize_images,
    scaled_size,
)
from ssn_feat.video.snippet_options import ResolvedSnippets

_NO_MOTION = 128
# Number of frames that a device resizes at once: enough to hide the launch overhead.
_BLOCK = 16


class _Waiting(NamedTuple):
    """A frame to be copied to the device, and whether its pixels and its gray image are needed."""

    frame: int
    image: np.ndarray
    pixels: bool
    gray: bool


class Window:
    """The inputs of streams with the same crop size, from the first pending snippet to the last decoded frame.

    ``options``: resolved, with one crop size. On a ``device`` other than the CPU, frames are resized, converted to
    gray and cropped there in blocks, unless a CPU flow method needs them on the CPU.
    """

    def __init__(self, source: FrameSource, options: ResolvedSnippets, device: torch.device) -> None:
        self._source, self._options, self._device = source, options, device
        self._offsets = {offset for stream in options.streams for offset in options.frame_offsets(stream)}
        self._boxes: list[Box] = []
        self._size: tuple[int, int] | None = None
        self._pixels: dict[int, torch.Tensor] = {}
        self._gray: dict[int, torch.Tensor] = {}
        self._fields: dict[int, torch.Tensor] = {}
        self._waiting: list[_Waiting] = []
        self._last = sys.maxsize  # the video's last frame, once it is known
        self._stored = source if isinstance(source, FolderReader) and options.flow_method == "stored" else None
        self._here = device.type == "cpu"
        if "flow" not in options.streams or self._stored is not None:
            return
        if options.flow_method == "stored":
            raise UserError(f"{source.path} is a video file and holds no stored flow: choose another flow_method")
        self._here = self._here or options.flow_method not in ON_DEVICE
        assert options.flow_method != "auto", "options are resolved"
        self._flow = flow_function(options.flow_method, device, options.flow_weights or None)

    @property
    def reach(self) -> int:
        """The last frame that a snippet reads, relative to its first."""
        return max(FLOW_LENGTH, *self._offsets, 0)

    def add(self, index: int, image: Callable[[], np.ndarray]) -> None:
        """Keep the data that the streams need from the current frame of the source, number ``index``."""
        # Keep all of the first frames: a video too short for one snippet repeats its last frame.
        early = index <= FLOW_LENGTH
        pixels = any(index >= offset and (index - offset) % self._options.stride == 0 for offset in self._offsets)
        pixels, gray = bool(self._offsets) and (early or pixels), False
        if "flow" in self._options.streams:
            # Frame i belongs to the pairs (i - 1, i) and (i, i + 1); pair k is needed if it lies in a snippet.
            starts, ends = self._in_snippet(index), self._in_snippet(index - 1)
            gray = self._stored is None and (early or starts or ends)
            if self._stored is not None and (early or starts):
                self._keep_stored(index, self._stored)
        if not (pixels or gray):
            return
        if self._here:
            self._keep(index, image(), pixels, gray)
            return
        self._waiting.append(_Waiting(index, image(), pixels, gray))
        if len(self._waiting) == _BLOCK:
            self._keep_waiting()

    def _in_snippet(self, pair: int) -> bool:
        return pair % self._options.stride < FLOW_LENGTH

    def _keep(self, index: int, image: np.ndarray, pixels: bool, gray: bool) -> None:
        options = self._options
        image = self._resized(image)
        if gray:
            self._gray[index] = torch.from_numpy(to_gray(image))
        if pixels:
            planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
            self._pixels[index] = crop_images(planes[None], self._boxes, options.crop)[0]

    def _keep_waiting(self) -> None:
        """Apply :meth:`_keep` to all waiting frames at once, on the device."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        size = self._scaled(waiting[0].image)
        images = to_device(torch.from_numpy(np.stack([each.image for each in waiting])), self._device)
        images = resize_images(images.permute(0, 3, 1, 2), size, self._options.resize)
        of_gray = [(each.frame, image) for each, image in zip(waiting, images, strict=True) if each.gray]
        of_pixels = [(each.frame, image) for each, image in zip(waiting, images, strict=True) if each.pixels]
        # Stack instead of indexing with a list, which would make the host wait.
        if of_gray:
            grays = gray_images(torch.stack([image for _, image in of_gray]))
            self._gray.update(zip((frame for frame, _ in of_gray), grays, strict=True))
        if of_pixels:
            crops = crop_images(torch.stack([image for _, image in of_pixels]), self._boxes, self._options.crop)
            self._pixels.update(zip((frame for frame, _ in of_pixels), crops, strict=True))

    def _keep_stored(self, index: int, folder: FolderReader) -> None:
        field = folder.stored_flow()
        if field is not None:
            self._fields[index] = self._cropped_field(field)

    def _cropped_field(self, field: np.ndarray) -> torch.Tensor:
        planes = torch.from_numpy(np.stack([self._resized(plane) for plane in field]))
        return crop_flow(planes[None], self._boxes, self._options.crop)[0]

    def _resized(self, image: np.ndarray) -> np.ndarray:
        return resize(image, self._scaled(image), self._options.resize)

    def _scaled(self, image: np.ndarray) -> tuple[int, int]:
        """Return (width, height) of all scaled frames; the first frame determines it and the crops."""
        options = self._options
        if self._size is None:
            height, width = image.shape[:2]
            stretched = (options.stretch, options.short_side) if options.stretch else None
            self._size = stretched or scaled_size(width, height, options.short_side)
            self._boxes = crop_boxes(*self._size, options.crop, options.crops)
        return self._size

    def end(self, frames: int) -> None:
        """Set the final number of frames; from now on, snippets that read beyond the ends repeat frames."""
        self._last = frames - 1
        if "flow" not in self._options.streams or frames > 1:
            return
        # A single frame has no motion.
        self._keep_waiting()
        if self._stored is not None:
            still = np.full(self._source.image().shape[:2], _NO_MOTION, dtype=np.uint8)
            self._fields.setdefault(0, self._cropped_field(np.stack([still, still])))
        else:
            self._gray[1] = self._gray[0]

    def take(self, row: int, count: int) -> dict[str, torch.Tensor]:
        """Return the inputs of snippets ``row`` .. ``row + count - 1``; drops the data that no later snippet needs."""
        options = self._options
        self._keep_waiting()
        starts = [(row + i) * options.stride for i in range(count)]
        inputs: dict[str, torch.Tensor] = {}
        for stream in options.streams:
            if stream == "flow":
                wanted = [self._pairs(start) for start in starts]
                self._compute_flow(sorted({pair for pairs in wanted for pair in pairs} - self._fields.keys()))
                stacked = _stack(self._fields, wanted)
            else:
                stacked = _stack(self._pixels, [self._frames(start, options.frame_offsets(stream)) for start in starts])
            inputs[stream] = stacked[:, 0] if options.crops == "center" else stacked
        self._forget((row + count) * options.stride + min({0} | self._offsets))
        return inputs

    def _frames(self, start: int, offsets: Sequence[int]) -> list[int]:
        """Return the frames of a snippet; those outside the video become its nearest inside, or the video's last."""
        inside = [start + offset for offset in offsets if 0 <= start + offset <= self._last] or [self._last]
        return [min(max(start + offset, inside[0]), inside[-1]) for offset in offsets]

    def _pairs(self, start: int) -> list[int]:
        last = max(self._last - 1, 0)
        return [min(start + k, last) for k in range(FLOW_LENGTH)]

    def _compute_flow(self, pairs: Sequence[int]) -> None:
        if not pairs:
            return
        options = self._options
        fields = self._flow(
            torch.stack([self._gray[pair] for pair in pairs]), torch.stack([self._gray[pair + 1] for pair in pairs])
        )
        scaled = (quantise_flow if options.flow_quantised else scale_flow)(fields, options.flow_bound)
        for pair, field in zip(pairs, crop_flow(scaled, self._boxes, options.crop), strict=True):
            self._fields[pair] = field

    def _forget(self, start: int) -> None:
        for kept in (self._pixels, self._gray, self._fields):
            for index in [index for index in kept if index < start]:
                del kept[index]


def _stack(parts: dict[int, torch.Tensor], wanted: Sequence[Sequence[int]]) -> torch.Tensor:
    """Stack lists of n frames or pairs, each (crops, C, crop, crop), to (B, crops, C * n, crop, crop)."""
    return torch.stack([torch.cat([parts[index] for index in indices], dim=1) for indices in wanted])


__all__ = ["Window"]
