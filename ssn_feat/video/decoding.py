"""Decodes one video stream with PyAV, in the order in which frames are shown, and counts what cannot be decoded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ssn_feat.video.containers import (
    DISCONTINUOUS,
    NO_TIMES,
    choose_stream,
    import_av,
    open_container,
    time_origin,
)
from ssn_feat.video.deinterlacing import deinterlaced

# Frames by which it is decided whether the presentation times of a file can be used.
_TRIED = 8
_WITHOUT_PRESENTATION_TIMES = ("avi",)


def _stamped(frames: Iterator[Any], by_decoding: bool) -> Iterator[tuple[Any, int | None]]:
    """Frames with their timestamps: presentation times, or decoding times where those are not in order.

    Some files have no presentation times, and FFmpeg then guesses wrong ones. ``by_decoding``: the format never has
    any; otherwise the first frames decide. Like FFmpeg's ``best_effort_timestamp``, but a single wrong time does not
    discard all others, and the frames that a decoder holds back until the end of the file continue the times before.
    """
    tried: list[Any] = []
    if not by_decoding:
        tried = list(itertools.islice(frames, _TRIED))
        by_decoding = _disorder([frame.pts for frame in tried]) > _disorder([frame.dts for frame in tried]) + 1
    before, step = None, 0
    for frame in itertools.chain(tried, frames):
        if not by_decoding:
            yield frame, frame.dts if frame.pts is None else frame.pts
            continue
        stamp = frame.dts
        if stamp is None:
            stamp = frame.pts if before is None else before + step
        elif before is not None:
            step = stamp - before
        yield frame, stamp
        before = stamp


def _disorder(stamps: Sequence[int | None]) -> int:
    """How many of the timestamps are not greater than the one before."""
    known = [stamp for stamp in stamps if stamp is not None]
    return sum(second <= first for first, second in itertools.pairwise(known))


class StreamDecoder:
    """The frames of one video stream of a file, deinterlaced, and what was odd on the way.

    ``stream``: number of the video stream, -1 for the default one; ``deinterlace``: whether interlaced frames are
    made progressive. Raises UserError on a file that cannot be opened and a stream that is not there.
    """

    def __init__(self, path: Path, stream: int = -1, deinterlace: bool = True) -> None:
        self.path, self._deinterlace = path, deinterlace
        self.container = open_container(path)
        try:
            self.stream = choose_stream(self.container, path, stream)
        except BaseException:
            self.container.close()
            raise
        self._time_base = self.stream.time_base
        self._origin = time_origin(self.container, self.stream)
        self.packets = self.unreadable = self.damaged = self.broken_packets = 0
        # A broadcast or a bare stream may start within a group of pictures, which cannot be decoded before its end.
        self._started = not self.container.format.flags & (DISCONTINUOUS | NO_TIMES)
        self.end = self.last = 0.0
        """Seconds from a player's time 0 to the end, and to the beginning, of the last packet of any stream."""
        self.failure = ""
        """Why reading stopped before the end of the file; empty where it did not."""
        self.error = ""
        """The first error of the decoder."""

    def seconds(self, stamp: int | None) -> float | None:
        """A timestamp of the stream in seconds from a player's time 0."""
        return None if stamp is None else stamp * self._time_base.numerator / self._time_base.denominator - self._origin

    def frames(self) -> Iterator[tuple[Any, int | None]]:
        """``av.VideoFrame`` and timestamp (in units of the stream's time base; None: unknown) of each frame."""
        frames = _stamped(self._decoded(), self.container.format.name in _WITHOUT_PRESENTATION_TIMES)
        return self._shown(deinterlaced(frames) if self._deinterlace else frames)

    def _shown(self, frames: Iterator[tuple[Any, int | None]]) -> Iterator[tuple[Any, int | None]]:
        """Leave out the frames that end before time 0, which players do not show."""
        early = None
        for item in frames:
            at = self.seconds(item[1])
            if early is not None and (at is None or at > 0):
                yield early
            if at is None or at >= 0:
                yield item
                break
            early = item
        else:
            if early is not None:
                yield early
        yield from frames

    def _decoded(self) -> Iterator[Any]:
        error = import_av().error
        for packet in self._packets():
            self._started |= packet.is_keyframe
            try:
                frames = packet.decode()
            except error.FFmpegError as problem:
                self.error = self.error or str(problem.strerror)
                self.unreadable += self._started
                continue
            for frame in frames:
                self._started = True
                self.damaged += frame.is_corrupt
                yield frame
        if self.failure:
            yield from self._flushed()

    def _flushed(self) -> Iterator[Any]:
        try:
            yield from self.stream.codec_context.decode(None)
        except import_av().error.FFmpegError:
            self.unreadable += 1

    def _packets(self) -> Iterator[Any]:
        """The packets of the stream. Those of the others only tell where the file ends."""
        origin, index, packets = self._origin, self.stream.index, self.container.demux()
        scales: dict[int, float] = {}
        while True:
            try:
                packet = next(packets, None)
            except import_av().error.FFmpegError as problem:
                self.failure = str(problem.strerror)
                return
            except IndexError:  # all are read, and PyAV flushes a stream that appeared on the way, which it cannot
                return
            if packet is None:
                return
            number = packet.stream.index
            if packet.pts is not None and packet.time_base is not None:
                if number not in scales:
                    scales[number] = float(packet.time_base)
                at = packet.pts * scales[number] - origin
                self.last = max(self.last, at)
                self.end = max(self.end, at + (packet.duration or 0) * scales[number])
            if number == index:
                self.packets += packet.size > 0
                self.broken_packets += packet.is_corrupt
                yield packet

    def seek(self, stamp: int) -> bool:
        """Go to the key frame at or before a timestamp; :meth:`frames` then starts there. False where that fails."""
        try:
            self.container.seek(stamp, stream=self.stream, backward=True, any_frame=False)
        except import_av().error.FFmpegError:
            return False
        self.stream.codec_context.flush_buffers()
        return True

    def close(self) -> None:
        """Close the file."""
        self.container.close()


__all__ = ["StreamDecoder"]
