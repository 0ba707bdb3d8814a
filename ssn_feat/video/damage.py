"""Why a video ended early: PyAV reads a file again, strictly, of which less was decoded than its container says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ssn_feat.video.matroska import find_break

# Containers round durations and count frames that are never shown; less than this is no loss.
_TOLERANCE_SECONDS = 0.25
_TOLERANCE_FRAMES = 3
_TOLERANCE_SHARE = 0.02
# Of a video of less than thirty frames three would be much.
_TOLERANCE_SHARE_OF_FEW = 0.1

_NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS: the format is a stream without container


@dataclass(frozen=True)
class Extent:
    """How much of a video there is."""

    frames: int
    """Number of frames; 0 where unknown."""
    seconds: float
    """End of the last frame; 0 where unknown."""

    def falls_short_of(self, declared: Extent) -> bool:
        """Whether noticeably fewer frames than the container declares were decoded."""
        few = _few(declared.frames)
        return declared.frames - self.frames > max(few, _TOLERANCE_SHARE * declared.frames)

    def ends_before(self, declared: Extent) -> bool:
        """Whether decoding ended noticeably before the container says."""
        interval = self.seconds / max(self.frames, 1)
        return declared.seconds - self.seconds > max(_TOLERANCE_SECONDS, _TOLERANCE_FRAMES * interval)


def _few(frames: int) -> float:
    """How many frames of a short video are no loss."""
    return max(1.0, min(_TOLERANCE_FRAMES, _TOLERANCE_SHARE_OF_FEW * frames))


def find_damage(path: Path, decoded: Extent, declared: Extent) -> str:
    """What is wrong with a file, in a few words; empty where nothing is, or only its container's numbers are off.

    A file of which as much was decoded as it declares is not looked at again. One that is: it is damaged if its
    structure breaks (Matroska, WebM), if packets cannot be read or decoded, if the decoder marks frames as damaged, if
    all streams end before the container does, or if it holds fewer packets than it declares frames. Without PyAV a
    whole structure that ends early is taken to be damaged. Of a file that declares nothing, or far less than was
    decoded, its structure can tell, or that PyAV finds a bare stream in what is named a container.
    """
    short = decoded.ends_before(declared)
    if not short and not decoded.falls_short_of(declared):
        useless = not declared.frames or declared.falls_short_of(decoded)
        broken = (find_break(path) or _find_bare(path)) if useless else ""
        return f"decoded {decoded.frames} frames, to {decoded.seconds:.2f} s: {broken}" if broken else ""
    loss = (
        f"decoded {decoded.frames} of {declared.frames or 'an unknown number of'} frames, "
        f"to {decoded.seconds:.2f} s of {declared.seconds:.2f} s"
    )
    broken, findings = find_break(path), _examine(path)
    if broken or findings:
        return f"{loss}: {', '.join([broken] * bool(broken) + (findings or []))}"
    return f"{loss}; cause unknown (pip install av to have it examined)" if short and findings is None else ""


def _find_bare(path: Path) -> str:
    """Whether pictures were found without the container that a file's name promises; empty if not, or without PyAV."""
    try:
        import av
    except ImportError:
        return ""
    try:
        with av.open(str(path), **_any_text(av)) as container:
            found = container.format
    except av.error.FFmpegError:
        return ""
    bare = int(found.flags) & _NO_TIMESTAMPS and path.suffix.lower().lstrip(".") not in found.extensions
    return f"its container is damaged, what was read is a bare stream ({found.name})" if bare else ""


def _any_text(av: ModuleType) -> dict[str, Any]:
    """Options of ``av.open`` with which titles that are no text do not matter; from PyAV 19 on they never do."""
    return {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}


def _examine(path: Path) -> list[str] | None:
    """What a strict reading finds wrong; None without PyAV."""
    try:
        import av
    except ImportError:
        return None
    unreadable = broken = packets = expected = 0
    end = last = start = length = 0.0
    try:
        with av.open(str(path), **_any_text(av)) as container:
            start = (container.start_time or 0) / av.time_base
            length = (container.duration or 0) / av.time_base
            video = container.streams.video[0]
            # A cut of an .mp4 by its edit list leaves frames in the count that are never read.
            expected = 0 if "mp4" in container.format.name else video.frames
            for packet in container.demux():
                if packet.pts is not None and packet.time_base is not None:
                    last = max(last, float(packet.pts * packet.time_base))
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream is not video:
                    continue
                packets += packet.size > 0
                try:
                    broken += sum(getattr(frame, "is_corrupt", False) for frame in packet.decode())
                except av.error.FFmpegError:
                    unreadable += 1
    except (av.error.FFmpegError, IndexError):
        unreadable += 1
    if end - start > length + _TOLERANCE_SECONDS:
        end = last  # a damaged table gives packets any duration
    findings = []
    if unreadable:
        findings.append(f"{unreadable} unreadable packet{'s' * (unreadable > 1)}")
    if broken:
        findings.append(f"{broken} damaged frame{'s' * (broken > 1)}")
    if length - (end - start) > _TOLERANCE_SECONDS or expected - packets > _few(expected):
        findings.append(f"the file is cut off at {end - start:.2f} s")
    return findings
