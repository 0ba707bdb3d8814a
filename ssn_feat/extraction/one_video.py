"""One video through the networks: decoding and flow in a thread, the backbones beside it, features in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssn_feat.backbones import Backbone
from ssn_feat.backbones.weights import file_sha256
from ssn_feat.errors import UserError
from ssn_feat.extraction.ahead import ahead
from ssn_feat.video import SnippetOptions, Snippets, snippets


@dataclass(frozen=True)
class ExtractedVideo:
    """Features of one video, in memory."""

    features: dict[str, NDArray[np.float32]]
    """Per stream float32 (T, D), or (T, 10, D) where crops were kept."""
    spans: NDArray[np.float64]
    """Start and end of each snippet, (T, 2), seconds."""
    info: dict[str, Any]
    """duration (seconds), fps, frames (decoded, declared), size, source (name, bytes, sha256), warnings."""


def extract_video(
    path: Path | str,
    backbones: Mapping[str, Backbone],
    options: SnippetOptions,
    *,
    batch: int = 16,
    keep_crops: bool = False,
    on_rows: Callable[[int], None] | None = None,
) -> ExtractedVideo:
    """Decode a video once and turn its snippets into features of every stream of ``options``.

    ``backbones``: one per stream. ``batch``: snippets at once; it changes speed and memory, not features. Of ten crops
    the float32 mean is taken unless ``keep_crops``. ``on_rows`` is called with the number of rows after each batch.

    Raises UserError where the video cannot be read or a backbone does not fit the options.
    """
    path = Path(path)
    check_backbones(backbones, options)
    source = snippets(path, options, batch)
    parts: dict[str, list[torch.Tensor]] = {stream: [] for stream in options.streams}
    with closing(source), closing(ahead(source)) as batches:
        for inputs in batches:
            for stream, pixels in inputs.streams.items():
                parts[stream].append(_features(backbones[stream], pixels, keep_crops).cpu())
            if on_rows is not None:
                on_rows(len(inputs))
    features = {stream: torch.cat(rows).numpy() for stream, rows in parts.items()}
    spans = source.grid.spans
    for stream, rows in features.items():
        if len(rows) != len(spans):
            raise UserError(f"{path}: stream {stream} has {len(rows)} rows where the snippet grid has {len(spans)}")
    return ExtractedVideo(features, spans, _info(path, source))


def check_backbones(backbones: Mapping[str, Backbone], options: SnippetOptions) -> None:
    """Raises UserError unless there is a backbone for each stream that takes the inputs that ``options`` make."""
    for stream in options.streams:
        if stream not in backbones:
            raise UserError(f"no backbone for the stream {stream}")
        backbone = backbones[stream]
        if backbone.clip_length is not None:
            raise UserError(
                f"{backbone.name} takes clips of {backbone.clip_length} frames: a network of images is needed"
            )
        if (backbone.input_size, backbone.channels) != (options.crop, options.channels(stream)):
            raise UserError(
                f"the {stream} backbone {backbone.name} takes {backbone.channels} channels of "
                f"{backbone.input_size} pixels a side, but snippets have {options.channels(stream)} of {options.crop}"
            )


def _features(backbone: Backbone, pixels: torch.Tensor, keep_crops: bool) -> torch.Tensor:
    """Features float32 (B, D) or (B, crops, D) of uint8 (B, C, H, W) or (B, crops, C, H, W)."""
    if pixels.ndim == 4:
        return backbone(pixels)
    features = backbone(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
    return features if keep_crops else features.mean(dim=1)


def _info(path: Path, source: Snippets) -> dict[str, Any]:
    decoded = source.decoded
    return {
        "duration": decoded.duration,
        "fps": decoded.fps,
        "frames": {"decoded": decoded.frames, "declared": decoded.declared_frames},
        "size": {"width": decoded.width, "height": decoded.height},
        "source": {"name": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)},
        "warnings": list(decoded.warnings),
    }
