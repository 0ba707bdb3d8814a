"""The snippets of one video as network inputs: one sequential pass, each flow field computed once, bounded memory."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ssn_feat.errors import UserError
from ssn_feat.video.decode import Decoded
from ssn_feat.video.flow import FlowMethod, flow_function, quantise_flow, to_gray
from ssn_feat.video.folders import FolderReader
from ssn_feat.video.grid import SnippetGrid, snippet_grid
from ssn_feat.video.inputs import Box, Crops, Resize, crop_boxes, crop_flow, crop_images, jpeg, resize, scaled_size
from ssn_feat.video.sources import FrameSource, open_source

Stream = Literal["rgb", "flow", "rgbdiff", "clip"]
STREAMS: tuple[Stream, ...] = ("rgb", "flow", "rgbdiff", "clip")
_NO_MOTION = 128


@dataclass(frozen=True)
class SnippetOptions:
    """How snippets are cut out of a video. Every field decides what a feature means: all of them belong in a recipe."""

    stride: int = 6
    """Frames from one snippet to the next."""
    flow_length: int = 5
    """Consecutive frame pairs of a snippet, whose flow makes one stack. It decides the grid of every stream."""
    streams: tuple[Stream, ...] = ("rgb", "flow")
    """What is made of a snippet: rgb (a frame), flow (flow_length fields), rgbdiff, clip (flow_length + 1 frames)."""
    rgb_frame: Literal["middle", "first"] = "middle"
    """The frame that rgb reads: the snippet's first, as the original, or number flow_length // 2, where its flow is."""
    flow_method: Literal[FlowMethod, "stored"] = "dis"
    """Optical flow algorithm, applied to resized frames; stored reads a folder's flow_x_ and flow_y_ images instead."""
    flow_weights: str = ""
    """File of the weights of raft flow."""
    flow_bound: float = 20.0
    """Pixels of motion at which 8-bit flow saturates. Published flow networks expect 20."""
    short_side: int = 256
    """Pixels to which the shorter side of frames is scaled, up or down; 0 keeps the video's own size."""
    stretch: int = 0
    """Width to which every frame is stretched at a height of short_side, as 340 of 256; 0 keeps the aspect ratio."""
    resize: Resize = "plain"
    """plain: bilinear, as frame extractors do. smooth: the filter widens when shrinking, as Pillow does; slower."""
    jpeg_quality: int = 0
    """Quality of the JPEG that resized frames and 8-bit flow pass through, as if kept in files; 0: none."""
    crop: int = 224
    """Side of the square crops, pixels: the input size of the network."""
    crops: Crops = "center"
    """center: one. three: along the longer side. ten: four corners and the centre, each also mirrored."""

    def __post_init__(self) -> None:
        for name in ("stride", "flow_length", "crop"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.streams or len(set(self.streams)) != len(self.streams) or set(self.streams) - set(STREAMS):
            named = " ".join(self.streams) or "nothing"
            raise UserError(f"streams must be some of {', '.join(STREAMS)}, each once, not {named}")
        if not self.flow_bound > 0:
            raise UserError(f"flow_bound must be positive, not {self.flow_bound}")
        if not 0 <= self.jpeg_quality <= 100:
            raise UserError(f"jpeg_quality must be 1 to 100, or 0 for none, not {self.jpeg_quality}")
        if self.short_side < 0 or 0 < self.short_side < self.crop:
            raise UserError(f"short_side must be 0 (no scaling) or at least {self.crop} (crop), not {self.short_side}")
        if self.stretch and (self.stretch < self.crop or not self.short_side):
            raise UserError(f"stretch needs a short_side and must be at least {self.crop} (crop), not {self.stretch}")

    def channels(self, stream: Stream) -> int:
        """Channels of a stream's input: 3 for every frame it reads, 2 for every flow field."""
        return 2 * self.flow_length if stream == "flow" else 3 * len(self.frame_offsets(stream))

    def frame_offsets(self, stream: Stream) -> tuple[int, ...]:
        """The frames whose pixels a stream reads, counted from the first of the snippet; none for flow."""
        if stream == "flow":
            return ()
        if stream == "rgb":
            return (self.flow_length // 2 if self.rgb_frame == "middle" else 0,)
        return tuple(range(self.flow_length + 1))


@dataclass(frozen=True)
class SnippetBatch:
    """Consecutive snippets of one video."""

    row: int
    """Grid row of the first snippet of the batch."""
    streams: dict[str, torch.Tensor]
    """uint8 (B, C, crop, crop) per stream, (B, crops, C, crop, crop) with three or ten crops.

    rgb: B G R. flow: x0 y0 x1 y1 ... rgbdiff and clip: B G R of each frame in turn (differences are the network's).
    """

    def __len__(self) -> int:
        return len(next(iter(self.streams.values())))


class Snippets(Iterator[SnippetBatch]):
    """What :func:`snippets` returns: an iterator of batches; ``grid`` and ``decoded`` after the last."""

    def __init__(self, source: FrameSource, options: SnippetOptions, batch_size: int, device: torch.device) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, not {batch_size}")
        self._source = source
        self.probe = source.probe
        self._options = options
        self._times: list[float] = []
        self._batches = self._generate(batch_size, _Window(source, options, device))

    def __next__(self) -> SnippetBatch:
        return next(self._batches)

    @property
    def decoded(self) -> Decoded:
        """What decoding found. Only after the last batch."""
        return self._source.decoded()

    @property
    def grid(self) -> SnippetGrid:
        """The video's snippet grid; row t belongs to snippet t. Only after the last batch."""
        options = self._options
        return snippet_grid(self._times, self.decoded.duration, options.stride, options.flow_length)

    def close(self) -> None:
        """Stop early and free the decoder."""
        self._batches.close()
        self._source.close()

    def _generate(self, batch_size: int, window: _Window) -> Generator[SnippetBatch]:
        options, row, ready = self._options, 0, 0
        try:
            while self._source.advance():
                index = len(self._times)
                self._times.append(self._source.time)
                window.add(index)
                # A snippet is sure of being on the grid once the last of its frames is there.
                if index >= options.flow_length and (index - options.flow_length) % options.stride == 0:
                    ready += 1
                if ready == batch_size:
                    yield SnippetBatch(row, window.take(row, ready))
                    row, ready = row + ready, 0
        finally:
            self._source.close()
        if not self._times:
            self._source.decoded()
        if row + ready == 0:
            window.pad(len(self._times))
            ready = 1
        if ready:
            yield SnippetBatch(row, window.take(row, ready))


class _Window:
    """The frames and flow fields between the first pending snippet and the frame decoded last."""

    def __init__(self, source: FrameSource, options: SnippetOptions, device: torch.device) -> None:
        self._source, self._options = source, options
        self._offsets = {offset for stream in options.streams for offset in options.frame_offsets(stream)}
        self._boxes: list[Box] = []
        self._size: tuple[int, int] | None = None
        self._pixels: dict[int, torch.Tensor] = {}
        self._gray: dict[int, np.ndarray] = {}
        self._fields: dict[int, torch.Tensor] = {}
        self._stored: FolderReader | None = None
        if "flow" not in options.streams:
            return
        if options.flow_method != "stored":
            self._flow = flow_function(options.flow_method, device, options.flow_weights or None)
        elif isinstance(source, FolderReader):
            self._stored = source
        else:
            raise UserError(f"{source.path} is a video file and holds no stored flow: choose another flow_method")

    def add(self, index: int) -> None:
        """Keep what the streams need of the source's current frame, which is number ``index``."""
        # The first frames are all kept: a video too short for one snippet repeats its last frame.
        early = index <= self._options.flow_length
        pixels = any(index >= offset and (index - offset) % self._options.stride == 0 for offset in self._offsets)
        pixels, gray = bool(self._offsets) and (early or pixels), False
        if "flow" in self._options.streams:
            # Frame i belongs to the pairs (i - 1, i) and (i, i + 1); pair k is needed if it lies in a snippet.
            starts, ends = self._in_snippet(index), self._in_snippet(index - 1)
            gray = self._stored is None and (early or starts or ends)
            if self._stored is not None and (early or starts):
                self._keep_stored(index, self._stored)
        if pixels or gray:
            self._keep(index, self._source.image(), pixels, gray)

    def _in_snippet(self, pair: int) -> bool:
        return pair % self._options.stride < self._options.flow_length

    def _keep(self, index: int, image: np.ndarray, pixels: bool, gray: bool) -> None:
        options = self._options
        image = jpeg(self._resized(image), options.jpeg_quality)
        if gray:
            self._gray[index] = to_gray(image)
        if pixels:
            planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
            self._pixels[index] = crop_images(planes[None], self._boxes, options.crop)[0]

    def _keep_stored(self, index: int, folder: FolderReader) -> None:
        field = folder.stored_flow()
        if field is not None:
            self._fields[index] = self._cropped_field(field)

    def _cropped_field(self, field: np.ndarray) -> torch.Tensor:
        planes = torch.from_numpy(np.stack([self._resized(plane) for plane in field]))
        return crop_flow(planes[None], self._boxes, self._options.crop)[0]

    def _resized(self, image: np.ndarray) -> np.ndarray:
        options = self._options
        if self._size is None:
            height, width = image.shape[:2]
            stretched = (options.stretch, options.short_side) if options.stretch else None
            self._size = stretched or scaled_size(width, height, options.short_side)
            self._boxes = crop_boxes(*self._size, options.crop, options.crops)
        return resize(image, self._size, options.resize)

    def pad(self, frames: int) -> None:
        """Make one snippet of a video of fewer frames than it takes: the last frame and the last pair are repeated."""
        length, last_pair = self._options.flow_length, max(frames - 2, 0)
        for index in range(frames, length + 1):
            if self._offsets:
                self._pixels[index] = self._pixels[frames - 1]
            if self._gray:
                self._gray[index] = self._gray[frames - 1]
        if self._gray:
            self._compute_flow(range(last_pair + 1))
        if self._stored is not None and last_pair not in self._fields:
            still = np.full(self._source.image().shape[:2], _NO_MOTION, dtype=np.uint8)
            self._fields[last_pair] = self._cropped_field(np.stack([still, still]))
        if "flow" in self._options.streams:
            for pair in range(last_pair + 1, length):
                self._fields[pair] = self._fields[last_pair]

    def take(self, row: int, count: int) -> dict[str, torch.Tensor]:
        """Inputs of the snippets ``row`` .. ``row + count - 1``; forgets what no later snippet needs."""
        options = self._options
        starts = [(row + i) * options.stride for i in range(count)]
        inputs: dict[str, torch.Tensor] = {}
        for stream in options.streams:
            if stream == "flow":
                pairs = sorted({start + k for start in starts for k in range(options.flow_length)})
                self._compute_flow([pair for pair in pairs if pair not in self._fields])
                stacked = _stack(self._fields, starts, range(options.flow_length))
            else:
                stacked = _stack(self._pixels, starts, options.frame_offsets(stream))
            inputs[stream] = stacked[:, 0] if options.crops == "center" else stacked
        self._forget((row + count) * options.stride)
        return inputs

    def _compute_flow(self, pairs: list[int] | range) -> None:
        if not pairs:
            return
        options = self._options
        fields = self._flow(
            np.stack([self._gray[pair] for pair in pairs]), np.stack([self._gray[pair + 1] for pair in pairs])
        )
        quantised = quantise_flow(fields, options.flow_bound)
        if options.jpeg_quality:
            planes = [jpeg(plane, options.jpeg_quality) for plane in quantised.cpu().flatten(0, 1).numpy()]
            quantised = torch.from_numpy(np.stack(planes)).view(quantised.shape).to(quantised.device)
        for pair, field in zip(pairs, crop_flow(quantised, self._boxes, options.crop), strict=True):
            self._fields[pair] = field

    def _forget(self, start: int) -> None:
        for kept in (self._pixels, self._gray, self._fields):
            for index in [index for index in kept if index < start]:
                del kept[index]


def _stack(parts: dict[int, torch.Tensor], starts: list[int], offsets: Iterable[int]) -> torch.Tensor:
    """(B, crops, C * len(offsets), crop, crop) of what is kept per frame or pair, each (crops, C, crop, crop)."""
    offsets = list(offsets)
    return torch.stack([torch.cat([parts[start + offset] for offset in offsets], dim=1) for start in starts])


def snippets(
    path: Path | str,
    options: SnippetOptions,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    fps: float | None = None,
) -> Snippets:
    """The snippets of a video, in order, as batches of network inputs; the last batch may be smaller.

    ``path`` is a video file, or a folder of images whose frame rate is ``fps``. The video is decoded once; the flow of
    a frame pair is computed once however snippets overlap; memory is bounded by ``batch_size * stride`` frames whatever
    the length of the video. Rows do not depend on ``batch_size``. There is always at least one row: a video of fewer
    than ``flow_length + 1`` frames has one, made by repeating its last frame and its last flow field (no motion if it
    has a single frame). Flow of the methods that can is computed on ``device`` and stays there; frames are on the CPU.

    After the last batch, ``.grid`` gives the spans of all rows in seconds and ``.decoded`` what decoding found. Raises
    UserError on what cannot be read (see :func:`ssn_feat.video.frames`) and on frames smaller than the crop.
    """
    return Snippets(open_source(path, fps), options, batch_size, torch.device(device))
