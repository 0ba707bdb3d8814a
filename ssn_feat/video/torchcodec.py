"""Decoding by torchcodec, where it is installed: the same frames and times as OpenCV gives."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np

from ssn_feat.errors import UserError
from ssn_feat.video.decode import Probe, VideoReader, require_file


def import_torchcodec() -> ModuleType:
    """The ``torchcodec`` module. Raises UserError where it is missing or does not fit torch or FFmpeg."""
    try:
        import torchcodec.decoders
    except (ImportError, RuntimeError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the decoder torchcodec cannot be loaded ({reason}): pip install ssn-feat[torchcodec], the release that "
            "belongs to this torch, and FFmpeg's libraries (apt install ffmpeg)"
        ) from None
    module: ModuleType = torchcodec
    return module


def torchcodec_versions() -> dict[str, str]:
    """``{"torchcodec": ..., "avcodec": ...}``."""
    module = import_torchcodec()
    core: Any = importlib.import_module("torchcodec._core")
    avcodec = core.get_ffmpeg_library_versions().get("libavcodec", "unknown")
    version = ".".join(map(str, avcodec)) if isinstance(avcodec, list | tuple) else str(avcodec)
    return {"torchcodec": str(module.__version__), "avcodec": version}


class TorchcodecReader(VideoReader):
    """:class:`VideoReader` by torchcodec. A file that it stops reading is incomplete, with its reason."""

    def _open(self) -> Probe:
        module = import_torchcodec()
        require_file(self.path)
        self._next = 0
        self._frame: Any = None
        try:
            self._decoder = module.decoders.VideoDecoder(
                str(self.path.absolute()), dimension_order="NHWC", num_ffmpeg_threads=1
            )
        except (RuntimeError, ValueError):
            raise UserError(
                f"{self.path} is not a video that torchcodec can read (no video stream, damaged or not a video at all)"
            ) from None
        about = self._decoder.metadata
        fps = float(about.average_fps_from_header or about.average_fps or 0.0)
        declared = int(about.num_frames_from_header or 0)
        height, width = int(about.height or 0), int(about.width or 0)
        return Probe(
            width=width,
            height=height,
            fps=fps,
            declared_frames=declared,
            duration=float(about.duration_seconds_from_header or 0.0),
            codec=str(about.codec),
            rotation=float(about.rotation or 0.0),
        )

    def _grab(self) -> float | None:
        if self._next >= len(self._decoder):
            return None
        try:
            self._frame = self._decoder.get_frame_at(self._next)
        except (RuntimeError, IndexError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self._failure = f"torchcodec stopped after {self._next} of {len(self._decoder)} frames ({reason})"
            return None
        self._next += 1
        return float(self._frame.pts_seconds)

    def _picture(self) -> np.ndarray | None:
        return np.ascontiguousarray(self._frame.data.numpy()[..., ::-1])

    def _release(self) -> None:
        self._frame = None


__all__ = ["TorchcodecReader", "import_torchcodec", "torchcodec_versions"]
