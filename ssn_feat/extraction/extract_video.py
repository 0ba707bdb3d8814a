"""Extracts one video into memory: a thread decodes and computes flow while the networks run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssn_feat.backbones import Backbone
from ssn_feat.errors import UserError
from ssn_feat.extraction.prefetch import prefetch
from ssn_feat.extraction.sources import hold_source
from ssn_feat.video import ImageNames, ResolvedSnippets, SnippetOptions, Snippets, snippets

_LONG = 2.0  # times the median length of a row


@dataclass(frozen=True)
class ExtractedVideo:
    """Features of one video, in memory."""

    features: dict[str, NDArray[np.float32]]
    """Per stream float32 (T, D), or (T, crops, D) where crops were kept."""
    spans: NDArray[np.float64]
    """Start and end of each snippet, (T, 2), seconds."""
    info: dict[str, Any]
    """duration (seconds), fps, frames (decoded, declared), size, pictures (equal_share, brightness), gaps (s, s),
    source (name, bytes, modified, sha256), damage (empty for a complete video), warnings."""


def extract_video(
    path: Path | str,
    backbones: Mapping[str, Backbone],
    options: SnippetOptions,
    *,
    batch: int = 16,
    keep_crops: bool = False,
    fps: float | None = None,
    names: ImageNames | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> ExtractedVideo:
    """Decode a video once and turn its snippets into features of every stream of ``options``.

    ``path``: a video file, or a folder of images whose frame rate is ``fps``, named as ``names`` says. ``backbones``:
    one per stream; the first one's device also computes flow. ``batch``: snippets per batch; it changes speed and
    memory, not features. Features of several crops are averaged in float32 unless ``keep_crops``. ``on_rows`` is called
    with the number of rows after each batch.

    A truncated or damaged video gives the features of the decodable part; ``info["damage"]`` then says what is wrong.
    Raises UserError if the video cannot be read, changes meanwhile, or a backbone does not fit the options.
    """
    path = Path(path)
    device = next(iter(backbones.values())).device
    cut = resolve_snippets(options, backbones, device.type)
    check_backbones(backbones, cut)
    feeders = {str(stream): Feeder(backbones[stream], keep_crops) for stream in cut.streams}
    parts: dict[str, list[torch.Tensor]] = {stream: [] for stream in cut.streams}
    with hold_source(path) as held, closing(snippets(path, cut, batch, device, fps, names)) as source:
        with closing(prefetch(source)) as batches:
            for inputs in batches:
                for stream, pixels in inputs.streams.items():
                    parts[stream].append(feeders[stream](pixels))
                if on_rows is not None:
                    on_rows(len(inputs))
        info = {"source": held.record()}
    features = {stream: torch.cat(rows).numpy() for stream, rows in parts.items()}
    spans = source.grid.spans
    for stream, rows in features.items():
        if len(rows) != len(spans):
            raise UserError(f"{path}: stream {stream} has {len(rows)} rows where the snippet grid has {len(spans)}")
    return ExtractedVideo(features, spans, _info(source) | info)


def resolve_snippets(options: SnippetOptions, backbones: Mapping[str, Backbone], device: str) -> ResolvedSnippets:
    """``options`` with defaults from the networks, one per stream, and from the ``device`` that computes flow."""
    clip = backbones.get("clip")
    sizes = {stream: backbone.input_size for stream, backbone in backbones.items()}
    return options.resolved(sizes, None if clip is None else clip.clip_length, device)


def check_backbones(backbones: Mapping[str, Backbone], options: ResolvedSnippets) -> None:
    """Raises UserError unless every stream has a backbone that takes the inputs that ``options`` make."""
    for stream in options.streams:
        if stream not in backbones:
            raise UserError(f"no backbone for the stream {stream}")
        backbone, crop = backbones[stream], options.crop_of(stream)
        if backbone.clip_length is not None and stream != "clip":
            raise UserError(f"{backbone.name} takes clips of {backbone.clip_length} frames: use the stream clip")
        channels = backbone.pixel_shape[0] * (backbone.clip_length or 1)
        if (backbone.input_size, channels) != (crop, options.channels(stream)):
            raise UserError(
                f"the {stream} backbone {backbone.name} takes {channels} channels of "
                f"{backbone.input_size} pixels a side, but snippets have {options.channels(stream)} of {crop}"
            )


class Feeder:
    """A backbone whose batches are halved until they fit into memory."""

    def __init__(self, backbone: Backbone, keep_crops: bool) -> None:
        self._backbone, self._keep_crops = backbone, keep_crops
        self._limit: int | None = None

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features float32 (B, D) or (B, crops, D), on the CPU, of pixels (B, C, H, W) or (B, crops, C, H, W)."""
        if self._backbone.clip_length is not None:  # B G R of frame after frame to (B, ..., 3, T, H, W)
            pixels = pixels.unflatten(-3, (self._backbone.clip_length, 3)).transpose(-4, -3)
        if pixels.ndim == 1 + len(self._backbone.pixel_shape):
            return self._apply(pixels)
        features: torch.Tensor = self._apply(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
        return features if self._keep_crops else features.mean(dim=1)

    def _apply(self, pixels: torch.Tensor) -> torch.Tensor:
        while True:
            try:
                parts = pixels.split(self._limit or len(pixels))
                return self._checked(
                    torch.cat([self._backbone(self._padded(part))[: len(part)].cpu() for part in parts])
                )
            except torch.OutOfMemoryError:
                inputs = min(self._limit or len(pixels), len(pixels))
                if inputs == 1:
                    raise
                self._limit = 1 << (inputs - 1).bit_length() - 1  # half of what _padded makes of them
                torch.cuda.empty_cache()
                print(
                    f"note: {inputs} inputs do not fit into memory: batches of {self._limit} from now on",
                    file=sys.stderr,
                )

    def _checked(self, features: torch.Tensor) -> torch.Tensor:
        if self._backbone.precision == "float16" and not bool(torch.isfinite(features).all()):
            raise UserError(
                f"{self._backbone.name} exceeds the range of float16: choose the precision bfloat16 or float32"
            )
        return features

    def _padded(self, pixels: torch.Tensor) -> torch.Tensor:
        """On a GPU, inputs repeated up to a power of two: a batch size not seen before costs a second of set-up.

        The last batch of nearly every video has another size.
        """
        if self._backbone.device.type != "cuda":
            return pixels
        missing = (1 << (len(pixels) - 1).bit_length()) - len(pixels)
        return torch.cat([pixels, pixels[-1:].expand(missing, *pixels.shape[1:])]) if missing else pixels


def _info(source: Snippets) -> dict[str, Any]:
    decoded = source.decoded
    return {
        "duration": decoded.duration,
        "fps": decoded.fps,
        "frames": {"decoded": decoded.frames, "declared": decoded.declared_frames},
        "size": {"width": decoded.width, "height": decoded.height},
        "pictures": {"equal_share": round(decoded.equal_share, 4), "brightness": round(decoded.brightness, 2)},
        "gaps": [list(gap) for gap in decoded.gaps],
        "damage": decoded.damage,
        "warnings": [*decoded.warnings, *_long_rows(source.grid.spans, decoded.fps)],
    }


def _long_rows(spans: NDArray[np.float64], fps: float) -> Iterator[str]:
    """A warning where rows last much longer than usual, because frames come at a variable rate."""
    lengths = np.diff(spans, axis=1)[:, 0]
    usual, longest = float(np.median(lengths)), float(lengths.max())
    if longest > _LONG * usual:
        yield (
            f"rows last up to {longest:.2f} s, usually {usual:.2f} s, because the frame rate varies: --nominal-fps "
            f"{max(round(fps), 1)} or so makes rows of equal length"
        )


__all__ = ["ExtractedVideo", "Feeder", "check_backbones", "extract_video", "resolve_snippets"]
