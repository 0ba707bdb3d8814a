"""The snippets of one video as network inputs: one sequential pass, each flow field computed once, bounded memory."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ssn_feat.errors import UserError
from ssn_feat.video.decode import Decoded, VideoReader
from ssn_feat.video.flow import FlowMethod, flow, quantise_flow, to_gray
from ssn_feat.video.grid import SnippetGrid, snippet_grid
from ssn_feat.video.inputs import Box, Crops, crop_boxes, crop_flow, crop_images, resize, scaled_size

Stream = Literal["rgb", "flow"]


@dataclass(frozen=True)
class SnippetOptions:
    """How snippets are cut out of a video. Every field decides what a feature means: all of them belong in a recipe."""

    stride: int = 6
    """Frames from one snippet to the next."""
    flow_length: int = 5
    """Consecutive frame pairs of a snippet, whose flow makes one stack. It decides the grid of every stream."""
    streams: tuple[Stream, ...] = ("rgb", "flow")
    """What is made of a snippet: rgb (one frame), flow (flow_length fields)."""
    rgb_frame: Literal["middle", "first"] = "middle"
    """The frame that rgb reads: the snippet's first, as the original, or number flow_length // 2, where its flow is."""
    flow_method: FlowMethod = "dis"
    """Optical flow algorithm, applied to resized frames."""
    flow_bound: float = 20.0
    """Pixels of motion at which 8-bit flow saturates. Published flow networks expect 20."""
    short_side: int = 256
    """Pixels to which the shorter side of frames is scaled, up or down, bilinear; 0 keeps the video's own size."""
    crop: int = 224
    """Side of the square crops, pixels: the input size of the network."""
    crops: Crops = "center"
    """center: one crop. ten: four corners and the centre, each also mirrored (ten times the cost)."""

    def __post_init__(self) -> None:
        for name in ("stride", "flow_length", "crop"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.streams or len(set(self.streams)) != len(self.streams) or set(self.streams) - {"rgb", "flow"}:
            raise UserError(f"streams must be rgb, flow or both, each once, not {' '.join(self.streams) or 'nothing'}")
        if not self.flow_bound > 0:
            raise UserError(f"flow_bound must be positive, not {self.flow_bound}")
        if self.short_side < 0 or 0 < self.short_side < self.crop:
            raise UserError(
                f"short_side must be 0 (keep the size) or at least the crop {self.crop}, not {self.short_side}"
            )

    def channels(self, stream: Stream) -> int:
        """Channels of a stream's input: 3 for rgb, 2 * flow_length for flow."""
        return 3 if stream == "rgb" else 2 * self.flow_length


@dataclass(frozen=True)
class SnippetBatch:
    """Consecutive snippets of one video."""

    row: int
    """Grid row of the first snippet of the batch."""
    streams: dict[str, torch.Tensor]
    """uint8 (B, C, crop, crop) per stream, or (B, 10, C, crop, crop) with ten crops. rgb: BGR. flow: x0 y0 x1 y1 ..."""

    def __len__(self) -> int:
        return len(next(iter(self.streams.values())))


class Snippets(Iterator[SnippetBatch]):
    """What :func:`snippets` returns: an iterator of batches; ``grid`` and ``decoded`` after the last."""

    def __init__(self, path: Path | str, options: SnippetOptions, batch_size: int) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, not {batch_size}")
        self._reader = VideoReader(path)
        self.probe = self._reader.probe
        self._options = options
        self._times: list[float] = []
        self._batches = self._generate(batch_size)

    def __next__(self) -> SnippetBatch:
        return next(self._batches)

    @property
    def decoded(self) -> Decoded:
        """What decoding found. Only after the last batch."""
        return self._reader.decoded()

    @property
    def grid(self) -> SnippetGrid:
        """The video's snippet grid; row t belongs to snippet t. Only after the last batch."""
        options = self._options
        return snippet_grid(self._times, self.decoded.duration, options.stride, options.flow_length)

    def close(self) -> None:
        """Stop early and free the decoder."""
        self._batches.close()
        self._reader.close()

    def _generate(self, batch_size: int) -> Generator[SnippetBatch]:
        options, reader, window = self._options, self._reader, _Window(self._options)
        row, ready = 0, 0
        with reader:
            while reader.advance():
                index = len(self._times)
                self._times.append(reader.time)
                if window.wants(index):
                    window.add(index, reader.image())
                # A snippet is sure of being on the grid once the last of its frames is there.
                if index >= options.flow_length and (index - options.flow_length) % options.stride == 0:
                    ready += 1
                if ready == batch_size:
                    yield SnippetBatch(row, window.take(row, ready))
                    row, ready = row + ready, 0
            reader.decoded()
            if row + ready == 0:
                window.pad(len(self._times))
                ready = 1
            if ready:
                yield SnippetBatch(row, window.take(row, ready))


class _Window:
    """The frames and flow fields between the first pending snippet and the frame decoded last."""

    def __init__(self, options: SnippetOptions) -> None:
        self._options = options
        self._boxes: list[Box] = []
        self._size: tuple[int, int] | None = None
        self._rgb_offset = options.flow_length // 2 if options.rgb_frame == "middle" else 0
        self._rgb: dict[int, torch.Tensor] = {}
        self._gray: dict[int, np.ndarray] = {}
        self._fields: dict[int, torch.Tensor] = {}

    def wants(self, index: int) -> bool:
        """Whether a stream may need this frame's image (frame 0 always: a short video repeats it)."""
        return index <= self._options.flow_length or self._in_rgb(index) or self._in_flow(index)

    def _in_rgb(self, index: int) -> bool:
        start = index - self._rgb_offset
        return "rgb" in self._options.streams and start >= 0 and start % self._options.stride == 0

    def _in_flow(self, index: int) -> bool:
        # Frame i belongs to the pairs (i-1, i) and (i, i+1); pair k is needed if k lies in some snippet.
        position, length = index % self._options.stride, self._options.flow_length
        return "flow" in self._options.streams and (position < length or (index - 1) % self._options.stride < length)

    def add(self, index: int, image: np.ndarray) -> None:
        """Keep what the streams need of a decoded frame, BGR uint8 (H, W, 3)."""
        options = self._options
        if self._size is None:
            self._size = scaled_size(image.shape[1], image.shape[0], options.short_side)
            self._boxes = crop_boxes(*self._size, options.crop, options.crops)
        image = resize(image, self._size)
        short = index <= options.flow_length
        if "flow" in options.streams and (short or self._in_flow(index)):
            self._gray[index] = to_gray(image)
        if "rgb" in options.streams and (short or self._in_rgb(index)):
            pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
            self._rgb[index] = crop_images(pixels[None], self._boxes, options.crop)[0]

    def pad(self, frames: int) -> None:
        """Make one snippet of a video of fewer frames than it takes: the last frame and the last pair are repeated."""
        for index in range(frames, self._options.flow_length + 1):
            if self._rgb:
                self._rgb[index] = self._rgb[frames - 1]
        if self._gray:
            self._compute_flow(range(max(frames - 1, 1)), last=frames - 1)
            for pair in range(max(frames - 1, 1), self._options.flow_length):
                self._fields[pair] = self._fields[max(frames - 2, 0)]

    def take(self, row: int, count: int) -> dict[str, torch.Tensor]:
        """Inputs of the snippets ``row`` .. ``row + count - 1``; forgets what no later snippet needs."""
        options = self._options
        starts = [(row + i) * options.stride for i in range(count)]
        inputs: dict[str, torch.Tensor] = {}
        for stream in options.streams:
            if stream == "rgb":
                stacked = torch.stack([self._rgb[start + self._rgb_offset] for start in starts])
            else:
                stacked = self._flow_stacks(starts)
            inputs[stream] = stacked if options.crops == "ten" else stacked[:, 0]
        self._forget((row + count) * options.stride)
        return inputs

    def _flow_stacks(self, starts: list[int]) -> torch.Tensor:
        length = self._options.flow_length
        needed = sorted({start + k for start in starts for k in range(length)})
        self._compute_flow([pair for pair in needed if pair not in self._fields], last=max(self._gray))
        return torch.stack([torch.cat([self._fields[start + k] for k in range(length)], dim=1) for start in starts])

    def _compute_flow(self, pairs: list[int] | range, last: int) -> None:
        if not pairs:
            return
        options = self._options
        prev = np.stack([self._gray[pair] for pair in pairs])
        next = np.stack([self._gray[min(pair + 1, last)] for pair in pairs])
        quantised = quantise_flow(flow(prev, next, options.flow_method), options.flow_bound)
        cropped = crop_flow(quantised, self._boxes, options.crop)
        for pair, field in zip(pairs, cropped, strict=True):
            self._fields[pair] = field

    def _forget(self, start: int) -> None:
        for kept in (self._rgb, self._gray, self._fields):
            for index in [index for index in kept if index < start]:
                del kept[index]


def snippets(path: Path | str, options: SnippetOptions, batch_size: int = 16) -> Snippets:
    """The snippets of a video, in order, as batches of network inputs; the last batch may be smaller.

    The video is decoded once; the flow of a frame pair is computed once however snippets overlap; memory is bounded by
    ``batch_size * stride`` frames whatever the length of the video. Rows do not depend on ``batch_size``. There is
    always at least one row: a video of fewer than ``flow_length + 1`` frames has one, made by repeating its last frame
    and its last flow field (no motion if it has a single frame).

    After the last batch, ``.grid`` gives the spans of all rows in seconds and ``.decoded`` what decoding found. Raises
    UserError on files that cannot be read (see :func:`ssn_feat.video.frames`) and on frames smaller than the crop.
    """
    return Snippets(path, options, batch_size)
