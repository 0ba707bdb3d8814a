"""Decoding a video once, in order, with the presentation time of every frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssn_feat.errors import UserError
from ssn_feat.video.damage import Extent, find_damage
from ssn_feat.video.opencv import import_cv2, quiet_opening

# AVI keeps no presentation times: its frames start late by the decoder's reordering delay, and the last ones have no
# time at all. A first frame this many frame intervals late or less is taken for such a delay.
_REORDERING = 4
_DEFAULT_FPS = 25.0


@dataclass(frozen=True)
class Probe:
    """What the container says of a video; nothing of it is checked by decoding."""

    width: int
    """Pixels, after rotation."""
    height: int
    """Pixels, after rotation."""
    fps: float
    """Nominal frames per second; 0 where unknown."""
    declared_frames: int
    """Frames according to the container; 0 where unknown. Often wrong for mkv, webm and cut files."""
    duration: float
    """Seconds according to the container: declared_frames / fps; 0 where unknown."""
    codec: str
    """The codec's four-letter code."""
    rotation: float
    """Degrees by which frames were turned upright."""


@dataclass(frozen=True)
class Decoded:
    """What decoding found; known after the last frame."""

    frames: int
    """Frames decoded."""
    declared_frames: int
    """Frames according to the container; 0 where unknown."""
    width: int
    """Pixels of the decoded frames."""
    height: int
    """Pixels of the decoded frames."""
    last_time: float
    """Presentation time of the last frame, seconds."""
    duration: float
    """End of the last frame, seconds: its time and the mean interval of frames."""
    fps: float
    """Mean frames per second by presentation times."""
    times_repaired: int
    """Frames that had no usable time and were put one nominal interval after the frame before."""
    damage: str
    """Why the video is incomplete, in a few words; empty where nothing is known to be missing."""
    warnings: tuple[str, ...]
    """What a user should know, one line each."""

    @property
    def incomplete(self) -> bool:
        """Whether a part of the video is missing or damaged: what was decoded must not pass for the whole."""
        return bool(self.damage)


class VideoReader:
    """One sequential pass over a video file.

    ``advance()`` decodes the next frame and says whether there is one; then ``time`` is its presentation time (seconds,
    strictly increasing, 0 for the first frame) and ``image()`` converts it to BGR. Frames whose image nobody asks for
    cost no conversion. After the last frame ``decoded()`` sums up. Memory does not grow with the length of the video.

    Raises UserError on a missing or empty file, a folder, and a file that holds no video which OpenCV can read.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.probe = self._open()
        self._interval = 1.0 / (self.probe.fps or _DEFAULT_FPS)
        self._offset = 0.0
        self._shape: tuple[int, int] | None = None
        self._ended = False
        self._summary: Decoded | None = None
        self._failure = ""
        self.frames = 0
        self.time = 0.0
        self._first_time = 0.0
        self.times_repaired = 0

    def advance(self) -> bool:
        """Decode the next frame. False after the last one."""
        stamp = None if self._ended else self._grab()
        if stamp is None:
            self._ended = True
            return False
        if self.frames == 0:
            self._offset = stamp if 0.0 < stamp <= _REORDERING * self._interval else 0.0
            self.time = stamp - self._offset
        elif stamp - self._offset > self.time:
            self.time = stamp - self._offset
        else:
            self.time += self._interval
            self.times_repaired += 1
        if self.frames == 0:
            self._first_time = self.time
        self.frames += 1
        return True

    def image(self) -> np.ndarray:
        """The current frame: BGR uint8 (H, W, 3), upright."""
        image = self._picture()
        if image is None:
            raise UserError(f"frame {self.frames - 1} of {self.path} (at {self.time:.3f} s) cannot be converted to BGR")
        if self._shape is None:
            self._shape = image.shape[:2]
        elif self._shape != image.shape[:2]:
            height, width = self._shape
            raise UserError(
                f"{self.path} changes its size from {width}x{height} to {image.shape[1]}x{image.shape[0]} at "
                f"{self.time:.3f} s: re-encode it at one size"
            )
        return image

    def _open(self) -> Probe:
        """Open the file; what its header says."""
        self._capture = _open(self.path)
        return _probe(self._capture)

    def _grab(self) -> float | None:
        """Decode the next frame; its time stamp in seconds, None after the last one."""
        if not self._capture.grab():
            return None
        return float(self._capture.get(import_cv2().CAP_PROP_POS_MSEC)) / 1000.0

    def _picture(self) -> np.ndarray | None:
        """The current frame, BGR uint8 (H, W, 3); None where it cannot be converted."""
        ok, image = self._capture.retrieve()
        return np.asarray(image) if ok else None

    def _release(self) -> None:
        self._capture.release()

    def decoded(self) -> Decoded:
        """The summary of a finished pass. A file that ended before its container says is read again, to say why.

        Raises UserError if not a single frame could be decoded.
        """
        assert self._ended, "the summary is known after the last frame"
        if self._summary is None:
            self._summary = self._sum_up()
        return self._summary

    def _sum_up(self) -> Decoded:
        if self.frames == 0:
            raise UserError(f"{self.path} holds not one frame that can be decoded: fetch or encode it again")
        interval = self._interval
        if self.frames > 1:
            interval = (self.time - self._first_time) / (self.frames - 1)
        duration = self.time + interval
        declared = Extent(self.probe.declared_frames, self.probe.duration)
        height, width = self._shape or (self.probe.height, self.probe.width)
        return Decoded(
            frames=self.frames,
            declared_frames=self.probe.declared_frames,
            width=width,
            height=height,
            last_time=self.time,
            duration=duration,
            fps=1.0 / interval,
            times_repaired=self.times_repaired,
            damage=self._failure or find_damage(self.path, Extent(self.frames, duration), declared),
            warnings=tuple(self._warnings()),
        )

    def _warnings(self) -> Iterator[str]:
        if self.probe.declared_frames not in (0, self.frames):
            yield f"decoded {self.frames} frames, the container declares {self.probe.declared_frames}"
        if self.times_repaired > 2 * _REORDERING:
            yield f"{self.times_repaired} of {self.frames} frames have no usable time: spaced by {self._interval:.4f} s"

    def close(self) -> None:
        """Free the decoder; the summary stays available."""
        self._ended = True
        self._release()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def probe(path: Path | str) -> Probe:
    """What the container of a video says, without decoding. Raises UserError like :func:`frames`."""
    capture = _open(Path(path))
    try:
        return _probe(capture)
    finally:
        capture.release()


def require_file(path: Path) -> None:
    """Raises UserError where there is no file, a folder, or an empty file."""
    if not path.exists():
        raise UserError(f"there is no video {path}")
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a video file")
    if path.stat().st_size == 0:
        raise UserError(f"the video {path} is empty (0 bytes): fetch it again")


def _open(path: Path) -> Any:
    cv2 = import_cv2()
    require_file(path)
    # One thread: the work is spread over videos, not inside one. An absolute path cannot be taken for a device or URL.
    with quiet_opening(cv2):
        capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    if not capture.isOpened():
        capture.release()
        raise UserError(f"{path} is not a video that OpenCV can read (no video stream, damaged or not a video at all)")
    return capture


def _probe(capture: Any) -> Probe:
    cv2 = import_cv2()
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    fps = fps if np.isfinite(fps) and 0.0 < fps < 1e4 else 0.0
    declared = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    declared = int(declared) if np.isfinite(declared) and 0 < declared < 1e9 else 0
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    return Probe(
        width=int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        height=int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        fps=fps,
        declared_frames=declared,
        duration=declared / fps if fps else 0.0,
        codec="".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24)).strip("\0 "),
        rotation=float(capture.get(cv2.CAP_PROP_ORIENTATION_META)),
    )
