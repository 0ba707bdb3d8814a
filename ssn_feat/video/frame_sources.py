"""Where frames come from: a video file, or a folder of images that were extracted earlier."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from ssn_feat.video.decode import Decoded, Probe, VideoReader
from ssn_feat.video.image_folders import FolderReader
from ssn_feat.video.opencv import opencv_versions
from ssn_feat.video.torchcodec import TorchcodecReader, torchcodec_versions

Decoder = Literal["opencv", "torchcodec"]


class FrameSource(Protocol):
    """One sequential pass over the frames of a video; see :class:`ssn_feat.video.VideoReader`."""

    path: Path
    probe: Probe
    frames: int

    @property
    def time(self) -> float: ...

    def advance(self) -> bool: ...

    def image(self) -> np.ndarray: ...

    def decoded(self) -> Decoded: ...

    def close(self) -> None: ...


def open_source(path: Path | str, fps: float | None = None, decoder: Decoder = "opencv") -> FrameSource:
    """The reader for a video file or for a folder of images; ``fps`` is what the latter needs and the former ignores.

    ``decoder``: what reads video files. Raises UserError on what cannot be read, and where the decoder is missing.
    """
    if Path(path).is_dir():
        return FolderReader(path, fps)
    if decoder == "torchcodec":
        return TorchcodecReader(path)
    return VideoReader(path)


class Frames(Iterator[tuple[float, np.ndarray]]):
    """What :func:`frames` returns: an iterator of (time, image); ``decoded`` after the last."""

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self.probe = source.probe

    def __next__(self) -> tuple[float, np.ndarray]:
        if not self._source.advance():
            self._source.close()
            if self._source.frames == 0:
                self._source.decoded()
            raise StopIteration
        return self._source.time, self._source.image()

    @property
    def decoded(self) -> Decoded:
        """The summary of the pass. Only after the last frame."""
        return self._source.decoded()


def frames(path: Path | str, fps: float | None = None, decoder: Decoder = "opencv") -> Frames:
    """All frames of a video in order: an iterator of (seconds, BGR uint8 (H, W, 3)), upright, one at a time in memory.

    Times are presentation times, strictly increasing, 0 for the first frame. After the last frame the iterator's
    ``decoded`` says how many there were and what was odd. ``path`` may also be a folder of images (img_00001.jpg, ...)
    with ``fps``. ``decoder``: opencv, or torchcodec where that is installed. Raises UserError on a missing, empty or
    unreadable file.
    """
    return Frames(open_source(path, fps, decoder))


def decoder_versions(decoder: Decoder = "opencv") -> dict[str, str]:
    """The versions that decide decoded pixels, for a recipe: ``{"opencv": ..., "avcodec": ...}``.

    For the decoder torchcodec ``{"opencv": ..., "torchcodec": ..., "avcodec": ...}``: OpenCV resizes its frames.
    """
    return opencv_versions() | (torchcodec_versions() if decoder == "torchcodec" else {})


__all__ = ["Decoder", "FrameSource", "Frames", "decoder_versions", "frames", "open_source"]
