"""Random access to the uncropped snippets of a video, for training from pixels.

:func:`ssn_feat.video.snippets` produces all snippets of a video in one pass; this module produces any single snippet
from the same frames, resized, with flow computed and quantised in the same way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.video.cache import PixelCache
from ssn_feat.video.flow import FlowFunction, flow_function, quantise_flow, to_gray
from ssn_feat.video.frame_index import FrameAccess, FrameIndex
from ssn_feat.video.grid import FLOW_LENGTH, SnippetGrid, snippet_grid
from ssn_feat.video.image_folders import ImageNames
from ssn_feat.video.network_inputs import resize, scaled_size
from ssn_feat.video.opencv import import_cv2
from ssn_feat.video.resampled import LATE
from ssn_feat.video.snippet_options import ResolvedSnippets

# Number of frame pairs whose flow is computed at once.
_PAIRS = 20
_NO_MOTION = 128

Pair = tuple[int, int]


@dataclass(frozen=True)
class IndexedVideo:
    """A video with an index of all its frames, made with the options of the snippets that are read from it."""

    id: str
    path: Path
    index: FrameIndex
    fps: float | None = None
    """Frame rate of a folder of images."""
    names: ImageNames | None = None
    """Names of the images of a folder; None for the default ones."""

    def grid(self, options: ResolvedSnippets) -> SnippetGrid:
        """Return the snippet grid of the video."""
        return self.sampled_grid(options)[1]

    def sampled_grid(self, options: ResolvedSnippets) -> tuple[NDArray[np.int64], SnippetGrid]:
        """Return the video frame number of each grid frame (all, or those of a nominal rate), and the snippet grid.

        The result is computed once for each stride and rate: training reads a video many times.
        """
        wanted = (options.stride, options.nominal_fps)
        if wanted not in self._grids:
            shown, times = self._sampled(options.nominal_fps)
            parts = np.searchsorted(self.index.gaps, shown, side="right")
            grid = snippet_grid(times, self.index.duration, options.stride, np.flatnonzero(np.diff(parts)) + 1)
            self._grids[wanted] = shown, grid
        return self._grids[wanted]

    @cached_property
    def _grids(self) -> dict[tuple[int, float], tuple[NDArray[np.int64], SnippetGrid]]:
        return {}

    def _sampled(self, fps: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return frame numbers and times of the grid, as :class:`ssn_feat.video.ResampledSource` defines them."""
        times = self.index.times
        if not fps:
            return np.arange(len(times)), times
        ticks = np.arange(np.ceil(times[0] * fps - LATE), np.ceil(self.index.duration * fps) + 1) / fps
        ticks = ticks[(ticks < self.index.duration - LATE / fps) | (ticks == ticks[0])]
        shown = np.maximum(np.searchsorted(times, ticks + LATE / fps, side="right") - 1, 0)
        for gap in self.index.gaps:
            usual = times[gap - 1] - times[gap - 2] if gap > 1 and gap - 1 not in self.index.gaps else 1 / fps
            kept = (shown != gap - 1) | (ticks < times[gap - 1] + (1 - LATE) * usual)
            ticks, shown = ticks[kept], shown[kept]
        return shown, ticks

    @cached_property
    def key(self) -> str:
        """A key that identifies the video independent of its path: from its id and its frames' times and checksums."""
        digest = hashlib.sha256(self.id.encode())
        digest.update(self.index.times.tobytes() + self.index.checksums.tobytes())
        if not len(self.index.checksums):  # a folder of images: use their names, sizes and modification times
            files = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in self.path.iterdir())
            digest.update(json.dumps(files).encode())
        return digest.hexdigest()


class SnippetRows:
    """Snippets of one stream by their row in the grid. ``cache`` stores them; flow is computed on ``device``."""

    def __init__(
        self,
        options: ResolvedSnippets,
        stream: Literal["rgb", "flow"],
        cache: PixelCache | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if stream not in ("rgb", "flow"):
            raise UserError(f"pixels of the stream {stream!r} cannot be read row by row: use rgb or flow")
        if stream == "flow" and not options.flow_quantised:
            raise UserError("networks are trained on 8-bit flow: leave flow_quantised on, here and in their store")
        cut = next(part for part in options.by_crop() if stream in part.streams)
        self.options, self.stream, self.cache = replace(cut, streams=(stream,)), stream, cache
        self._device = str(device)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling, without the flow function: each process creates its own."""
        return {name: value for name, value in vars(self).items() if name != "_flow"}

    @cached_property
    def _flow(self) -> FlowFunction:
        assert self.options.flow_method != "stored"
        assert self.options.flow_method != "auto"
        return flow_function(self.options.flow_method, self._device, self.options.flow_weights or None)

    @cached_property
    def _recipe(self) -> str:
        """The options that determine the pixels of given frames."""
        deciding = ["short_side", "stretch", "resize"]
        if self.stream == "flow":
            deciding += ["flow_method", "flow_weights", "flow_bound"]
        return json.dumps([self.stream, *(getattr(self.options, name) for name in deciding)])

    def read(self, video: IndexedVideo, rows: Iterable[int]) -> dict[int, NDArray[np.uint8]]:
        """Read the images of the snippets: uint8 (H, W, C) by row; C = 3 (B G R), or 10 (x0 y0 x1 y1 ...).

        H and W are those of the resized video. Frames beyond the end repeat the last frame, or its last flow.
        Raises UserError with the video and the time if an image cannot be produced.
        """
        (shown, grid), wanted = video.sampled_grid(self.options), sorted({int(row) for row in rows})
        parts = {row: self._parts(shown, int(grid.first[row]), int(grid.stop[row])) for row in wanted}
        images: dict[int, NDArray[np.uint8]] = {}
        names = {row: f"{video.key} {part} {self._recipe}" for row, part in parts.items()}
        if self.cache is not None:
            images = {row: image for row in wanted if (image := self.cache.get(names[row])) is not None}
        missing = {row: part for row, part in parts.items() if row not in images}
        if missing:
            for row, image in self._make(video, missing).items():
                if self.cache is not None:
                    self.cache.put(names[row], image)
                images[row] = image
        return images

    def _parts(self, shown: NDArray[np.int64], start: int, stop: int) -> list[Pair]:
        """Return the frames or frame pairs of a snippet, by video frame number; a frame is a pair with itself.

        ``start``: the snippet's first frame; ``stop``: the frame after the last one that it may read.
        """
        if self.stream == "rgb":
            number = int(shown[min(start + self.options.frame_offsets("rgb")[0], stop - 1)])
            return [(number, number)]
        first = [min(start + k, max(stop - 2, start)) for k in range(FLOW_LENGTH)]
        return [(int(shown[k]), int(shown[min(k + 1, stop - 1)])) for k in first]

    def _make(self, video: IndexedVideo, parts: dict[int, list[Pair]]) -> dict[int, NDArray[np.uint8]]:
        needed = sorted({part for each in parts.values() for part in each})
        stored = self.options.flow_method == "stored"
        make = self._frames if self.stream == "rgb" else self._stored if stored else self._computed
        try:
            with self._access(video) as access:
                made = make(access, needed)
        except (UserError, RuntimeError, OSError, ValueError, import_cv2().error) as error:
            first, last = (video.index.times[part[0]] for part in (needed[0], needed[-1]))
            raise UserError(f"video {video.id!r}, snippets between {first:.3f} s and {last:.3f} s: {error}") from error
        return {row: np.concatenate([made[part] for part in each], axis=2) for row, each in parts.items()}

    def _access(self, video: IndexedVideo) -> FrameAccess:
        options = self.options
        return FrameAccess(
            video.path,
            video.index,
            video.fps,
            video.names,
            stream=options.video_stream,
            deinterlace=options.deinterlace == "auto",
        )

    def _frames(self, access: FrameAccess, parts: list[Pair]) -> dict[Pair, NDArray[np.uint8]]:
        return {(n, n): self._resized(image) for n, image in access.read(first for first, _ in parts)}

    def _computed(self, access: FrameAccess, parts: list[Pair]) -> dict[Pair, NDArray[np.uint8]]:
        """Compute the 8-bit flow (H, W, 2) of each pair of frames."""
        fields = {}
        for begin in range(0, len(parts), _PAIRS):
            some = parts[begin : begin + _PAIRS]
            gray = {n: to_gray(self._resized(image)) for n, image in access.read(n for part in some for n in part)}
            first, second = (torch.from_numpy(np.stack([gray[part[k]] for part in some])) for k in (0, 1))
            quantised = quantise_flow(self._flow(first, second), self.options.flow_bound).cpu().numpy()
            for part, field in zip(some, quantised, strict=True):
                fields[part] = np.stack(list(field), axis=2)
        return fields

    def _stored(self, access: FrameAccess, parts: list[Pair]) -> dict[Pair, NDArray[np.uint8]]:
        fields = {}
        for part in parts:
            field = access.stored_flow(part[0])
            if field is None:
                field = np.full((2, *access.frame(0).shape[:2]), _NO_MOTION, dtype=np.uint8)
            fields[part] = np.stack([self._resized(plane) for plane in field], axis=2)
        return fields

    def _resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = image.shape[:2]
        stretched = (self.options.stretch, self.options.short_side) if self.options.stretch else None
        return resize(image, stretched or scaled_size(width, height, self.options.short_side), self.options.resize)


__all__ = ["IndexedVideo", "SnippetRows"]
