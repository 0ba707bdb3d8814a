"""Where frames come from: a video file, or a folder of images that were extracted earlier."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from ssn_feat.video.containers import Probe, av_versions
from ssn_feat.video.decode import Decoded, VideoReader
from ssn_feat.video.image_folders import FolderReader, ImageNames
from ssn_feat.video.opencv import import_cv2


class FrameSource(Protocol):
    """One sequential pass over the frames of a video; see :class:`ssn_feat.video.VideoReader`."""

    path: Path
    probe: Probe
    frames: int

    @property
    def time(self) -> float: ...

    @property
    def gap(self) -> bool: ...

    def advance(self) -> bool: ...

    def image(self) -> np.ndarray: ...

    def deferred_image(self) -> Callable[[], np.ndarray]: ...

    def decoded(self) -> Decoded: ...

    def close(self) -> None: ...


def open_source(
    path: Path | str,
    fps: float | None = None,
    *,
    stream: int = -1,
    deinterlace: bool = True,
    untimed_fps: float = 0.0,
    names: ImageNames | None = None,
) -> FrameSource:
    """The reader for a video file, or for a folder of images with the frame rate ``fps``, named as ``names`` says.

    The other arguments are those of :class:`ssn_feat.video.VideoReader`. Raises UserError on what cannot be read.
    """
    if Path(path).is_dir():
        return FolderReader(path, fps, names)
    return VideoReader(path, stream=stream, deinterlace=deinterlace, untimed_fps=untimed_fps)


class Frames(Iterator[tuple[float, np.ndarray]]):
    """The result of :func:`frames`: an iterator of (time, image); ``decoded`` after the last."""

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


def frames(path: Path | str, fps: float | None = None) -> Frames:
    """All frames of a video in order: an iterator of (seconds, BGR uint8 (H, W, 3)), upright, one at a time in memory.

    Times are those at which a player shows the frames, strictly increasing. After the last frame the iterator's
    ``decoded`` gives a summary. ``path`` may also be a folder of images (img_00001.jpg, ...) with the frame rate
    ``fps``. Raises UserError on a missing, empty or unreadable file.
    """
    return Frames(open_source(path, fps))


def decoder_versions() -> dict[str, str]:
    """The versions that decide the pixels of frames, for a recipe: ``{"av": ..., "avcodec": ..., "opencv": ...}``."""
    return av_versions() | {"opencv": str(import_cv2().__version__)}


__all__ = ["FrameSource", "Frames", "decoder_versions", "frames", "open_source"]
