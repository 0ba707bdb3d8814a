"""Decoding a video once, in order, with the time at which a player shows each frame."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.video.clock import Timed, timed
from ssn_feat.video.containers import (
    DISCONTINUOUS,
    NO_TIMES,
    Probe,
    high_dynamic_range,
    import_av,
    probe_stream,
    video_streams,
)
from ssn_feat.video.damage import Extent, find_damage
from ssn_feat.video.decoding import StreamDecoder
from ssn_feat.video.pictures import PictureConverter, RepetitionGuard, rotation_of
from ssn_feat.video.structure import find_break
from ssn_feat.video.tone_mapping import can_map_tones

Stamped = tuple[Any, int | None]

_DEFAULT_FPS = 25.0
_NAMED = 3  # frames without a plausible time that a warning names


@dataclass(frozen=True)
class Decoded:
    """The summary of a pass over a video, known after the last frame."""

    frames: int
    """Frames decoded."""
    declared_frames: int
    """Frames according to the header; 0 where unknown."""
    width: int
    """Pixels of the decoded frames."""
    height: int
    """Pixels of the decoded frames."""
    last_time: float
    """Time of the last frame, seconds."""
    duration: float
    """End of the last frame, seconds: its time and the mean interval of frames."""
    fps: float
    """Mean frames per second."""
    times_repaired: int = 0
    """Frames without a plausible time in the file, whose time was interpolated."""
    gaps: tuple[tuple[float, float], ...] = ()
    """Jumps of the timestamps, where recordings were joined: time of the last frame before each, and its seconds."""
    equal_share: float = 0.0
    """Share of frames that equal the one before."""
    brightness: float = 0.0
    """Mean brightness of all frames, 0 to 255."""
    damage: str = ""
    """Why the video is incomplete, in a few words; empty where nothing is known to be missing."""
    warnings: tuple[str, ...] = ()
    """What a user should know, one line each."""

    @property
    def incomplete(self) -> bool:
        """Whether a part of the video is missing or damaged, so that it must not pass for the whole video."""
        return bool(self.damage)


class VideoReader:
    """One sequential pass over a video file.

    ``advance()`` decodes the next frame and returns whether there is one. Then ``time`` is when a player shows it
    (seconds, strictly increasing), ``gap`` whether the timestamps jump before it, and
    ``image()`` converts it to BGR. Frames whose image nobody asks for cost no conversion. After the last frame
    ``decoded()`` gives a summary. Memory does not grow with the length of the video.

    ``stream``: number of the video stream, -1 for the default one. ``deinterlace``: make interlaced frames progressive.
    ``untimed_fps``: rate of the frames of a file without timestamps.

    Raises UserError on a missing or empty file, a folder, a playlist, a file without a video stream that FFmpeg can
    decode, and a file without timestamps unless ``untimed_fps`` is given.
    """

    def __init__(
        self, path: Path | str, *, stream: int = -1, deinterlace: bool = True, untimed_fps: float = 0.0
    ) -> None:
        self.path = Path(path)
        self._decoder = StreamDecoder(self.path, stream, deinterlace)
        try:
            flags = self._decoder.container.format.flags
            if flags & NO_TIMES and not untimed_fps:
                raise UserError(f"{path} has no timestamps: --nominal-fps says how many frames a second it has")
            raw = self._decoder.frames()
            first = next(raw, None)
            self.probe = probe_stream(
                self._decoder.container, self._decoder.stream, 0 if first is None else rotation_of(first[0])
            )
        except BaseException:
            self._decoder.close()
            raise
        self._interval = 1.0 / (untimed_fps or self.probe.fps or _DEFAULT_FPS)
        stamps = _in_seconds(first, raw, self._interval if flags & NO_TIMES else 0.0, self._decoder)
        self._frames = timed(stamps, self._interval, bool(flags & DISCONTINUOUS))
        self._converter = PictureConverter.of(self._decoder.stream)
        self._guard = RepetitionGuard()
        self._current: Timed[Stamped] | None = None
        self._shape: tuple[int, ...] | None = None
        self._ended = False
        self._summary: Decoded | None = None
        self._repaired: list[tuple[int, float]] = []
        self._gaps: list[tuple[float, float]] = []
        self._first_time = 0.0
        self.frames = 0

    @property
    def time(self) -> float:
        """When the current frame is shown, seconds."""
        return self._current.time if self._current is not None else 0.0

    @property
    def stamp(self) -> int | None:
        """Timestamp of the current frame in the file, in units of the stream's time base; None where it has none."""
        return None if self._current is None else self._current.frame[1]

    @property
    def gap(self) -> bool:
        """Whether the timestamps jump before the current frame: it does not continue the one before."""
        return self._current is not None and self._current.gap != 0

    def advance(self) -> bool:
        """Decode the next frame. False after the last one."""
        item = None if self._ended else next(self._frames, None)
        if item is None:
            self._ended = True
            return False
        if self.frames == 0:
            self._first_time = item.time
        if item.gap:
            self._gaps.append((self.time, item.gap))
        if item.repaired:
            self._repaired.append((self.frames, item.time))
        self._current = item
        self._guard.add(item.frame[0])
        self.frames += 1
        return True

    def image(self) -> NDArray[np.uint8]:
        """The current frame: BGR uint8 (H, W, 3), upright, with square samples."""
        return self.deferred_image()()

    def deferred_image(self) -> Callable[[], NDArray[np.uint8]]:
        """A function that returns :meth:`image` of the current frame, also after the reader has advanced."""
        assert self._current is not None, "there is a frame after advance() returned True"
        return partial(self._bgr, self._current)

    def _bgr(self, current: Timed[Stamped]) -> NDArray[np.uint8]:
        try:
            image = self._converter.bgr(current.frame[0])
        except import_av().error.FFmpegError as error:
            raise UserError(
                f"{self.path}: the frame at {current.time:.3f} s declares a format or colours that cannot be converted "
                f"to RGB ({error.strerror}): encode the video again"
            ) from None
        if self._shape is None:
            self._shape = image.shape[:2]
        elif self._shape != image.shape[:2]:
            height, width = self._shape
            raise UserError(
                f"{self.path} changes its size from {width}x{height} to {image.shape[1]}x{image.shape[0]} at "
                f"{current.time:.3f} s: re-encode it at one size"
            )
        return image

    def decoded(self) -> Decoded:
        """The summary of a finished pass. Raises UserError if not a single frame could be decoded."""
        assert self._ended, "the summary is known after the last frame"
        if self._summary is None:
            self._summary = self._sum_up()
        return self._summary

    def _sum_up(self) -> Decoded:
        if self.frames == 0:
            reason = f" ({self._decoder.error or self._decoder.failure or 'it is empty'})"
            raise UserError(
                f"{self.path}: no {self.probe.codec} frame can be decoded{reason}: fetch or encode the file again"
            )
        interval = self._interval
        skipped = sum(max(seconds, 0.0) for _, seconds in self._gaps)
        if self.frames > 1:
            interval = (self.time - self._first_time - skipped) / (self.frames - 1)
        duration = self.time + interval
        height, width = self._shape or (self.probe.height, self.probe.width)
        broken = find_break(self.path, self._decoder.container.format.name)
        damage = find_damage(self._decoder, Extent(self.frames, duration), self.probe, broken)
        return Decoded(
            frames=self.frames,
            declared_frames=self.probe.declared_frames,
            width=width,
            height=height,
            last_time=self.time,
            duration=duration,
            fps=1.0 / interval,
            times_repaired=len(self._repaired),
            gaps=tuple(self._gaps),
            equal_share=self._guard.equal_share,
            brightness=self._guard.brightness,
            damage=damage,
            warnings=tuple(self._warnings("" if damage else broken)),
        )

    def _warnings(self, broken: str) -> Iterator[str]:
        """One line for each oddity. ``broken``: where the structure of a file breaks that seems to be complete."""
        declared = self.probe.declared_frames
        if self._decoder.stream.frames not in (0, self.frames):
            yield f"decoded {self.frames} frames, the header declares {declared}"
        elif Extent(self.frames, self.time).falls_short_of(Extent(declared, 0.0)):
            yield f"decoded {self.frames} frames, the duration and rate in the header give {declared}"
        if broken:
            yield f"{broken}: frames may be missing"
        if count := self._decoder.broken_packets:
            yield f"packets of the file that are incomplete or lack the one before: {count}"
        if self._repaired:
            named = ", ".join(f"{number} at {time:.3f} s" for number, time in self._repaired[:_NAMED])
            more = f", ... ({len(self._repaired)})" if len(self._repaired) > _NAMED else ""
            yield f"frames without a plausible time, which was interpolated: {named}{more}"
        for time, seconds in self._gaps:
            yield f"the timestamps jump by {seconds:+.2f} s after {time:.2f} s: no row spans that gap"
        streams = [stream.index for stream in video_streams(self._decoder.container)]
        if len(streams) > 1:
            number = streams.index(self._decoder.stream.index)
            yield f"it has {len(streams)} video streams, of which number {number} was read: --video-stream chooses"
        if name := high_dynamic_range(self._decoder.stream):
            mapped = "were" if can_map_tones() else "cannot be"
            yield f"its colours are {name} (high dynamic range), which {mapped} mapped to the standard range"
        if said := self._guard.warning():
            yield said

    def close(self) -> None:
        """Free the decoder; the summary of a finished pass stays available."""
        if self._ended and self.frames and self._summary is None:
            self._summary = self._sum_up()  # which needs the open file
        self._ended = True
        self._decoder.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _in_seconds(
    first: Stamped | None, rest: Iterator[Stamped], interval: float, decoder: StreamDecoder
) -> Iterator[tuple[Stamped, float | None]]:
    """Frames with their seconds: those of their timestamps, or one ``interval`` after the other where it is given."""
    for number, item in enumerate(itertools.chain([] if first is None else [first], rest)):
        at = number * interval if interval else decoder.seconds(item[1])
        # A frame that began before time 0 is shown from there.
        yield item, max(at, 0.0) if number == 0 and at is not None else at


def probe(path: Path | str) -> Probe:
    """What the header of a video declares, read with its first few frames. Raises UserError like :func:`frames`."""
    with VideoReader(path) as reader:
        return reader.probe


__all__ = ["Decoded", "VideoReader", "probe"]
