"""Why a video ended early: PyAV reads a file again, strictly, whose decoding stopped before its container says."""

from __future__ import annotations

from pathlib import Path

# Containers round durations and count frames that are never shown; less than this is no loss.
_TOLERANCE_SECONDS = 0.25
_TOLERANCE_FRAMES = 3


def is_suspect(decoded_seconds: float, declared_seconds: float, interval: float) -> bool:
    """Whether so much of the declared duration is missing that the file must be looked at. All in seconds."""
    return declared_seconds - decoded_seconds > max(_TOLERANCE_SECONDS, _TOLERANCE_FRAMES * interval)


def find_damage(path: Path, decoded_seconds: float, declared_seconds: float) -> str:
    """What is wrong with a suspect file, in a few words; empty where only its container's count is off.

    A file is damaged if packets cannot be read or decoded, if frames are marked as damaged by the decoder, if all of
    its streams end before the container does or it holds fewer packets than it declares frames (it was cut off).
    Without PyAV a suspect is taken to be damaged.
    """
    short = f"decoding ends at {decoded_seconds:.2f} s of {declared_seconds:.2f} s"
    try:
        import av
    except ImportError:
        return f"{short}, cause unknown (pip install av to have it examined)"
    unreadable = broken = packets = expected = 0
    end = start = length = 0.0
    try:
        with av.open(str(path)) as container:
            start = (container.start_time or 0) / av.time_base
            length = (container.duration or 0) / av.time_base
            video = container.streams.video[0]
            # A cut of an .mp4 by its edit list leaves frames in the count that are never read.
            expected = 0 if "mp4" in container.format.name else video.frames
            for packet in container.demux():
                if packet.pts is not None and packet.time_base is not None:
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
    findings = []
    if unreadable:
        findings.append(f"{unreadable} unreadable packet{'s' * (unreadable > 1)}")
    if broken:
        findings.append(f"{broken} damaged frame{'s' * (broken > 1)}")
    if length - (end - start) > _TOLERANCE_SECONDS or expected - packets > _TOLERANCE_FRAMES:
        findings.append(f"the file is cut off at {end - start:.2f} s")
    return f"{short}: {', '.join(findings)}" if findings else ""
