"""Whether a video is incomplete: what was decoded, compared with what the file contains and declares."""

from __future__ import annotations

from dataclasses import dataclass

from ssn_feat.video.containers import NO_TIMES, Probe
from ssn_feat.video.decoding import StreamDecoder

# Headers round durations and count frames that are never shown; smaller differences are not damage.
_TOLERANCE_SECONDS = 0.25
_TOLERANCE_FRAMES = 3
_TOLERANCE_SHARE = 0.02
# In a video of fewer than thirty frames, three would be many.
_TOLERANCE_SHARE_OF_FEW = 0.1


@dataclass(frozen=True)
class Extent:
    """How much of a video there is."""

    frames: int
    """Number of frames; 0 where unknown."""
    seconds: float
    """End of the last frame; 0 where unknown."""

    def falls_short_of(self, declared: Extent) -> bool:
        """Whether there are noticeably fewer frames than declared."""
        return declared.frames - self.frames > max(_few(declared.frames), _TOLERANCE_SHARE * declared.frames)

    def ends_before(self, declared: Extent) -> bool:
        """Whether it ends noticeably earlier than declared."""
        interval = self.seconds / max(self.frames, 1)
        return declared.seconds - self.seconds > max(_TOLERANCE_SECONDS, _TOLERANCE_FRAMES * interval)


def _few(frames: int) -> float:
    """How many frames of a short video may be missing without being damage."""
    return max(1.0, min(_TOLERANCE_FRAMES, _TOLERANCE_SHARE_OF_FEW * frames))


def find_damage(decoder: StreamDecoder, decoded: Extent, probe: Probe, broken: str) -> str:
    """What is wrong with a file that was decoded to its end, in a few words; empty where nothing is.

    ``broken``: where the structure of the file breaks, in a few words; empty where it does not.

    Always damage: packets that cannot be read or decoded, frames that the decoder marks as damaged. Where fewer frames
    or seconds were decoded than declared: a file that ends before its header says, and a broken structure (Matroska,
    WebM, whose broken parts FFmpeg skips silently). Where nothing, or far less, is declared: a broken structure, and a
    bare stream in a file named like a container. Other differences are those of edit lists, of variable frame rates
    and of sound that is longer than the picture.
    """
    declared = Extent(probe.declared_frames, probe.duration)
    findings = _findings(decoder)
    short = decoded.ends_before(declared) or decoded.falls_short_of(declared)
    if short:
        findings += [broken] if broken else []
        findings += _cut_off(decoder, probe)
    elif not declared.frames or declared.falls_short_of(decoded):
        findings += [broken] if (broken := broken or _bare(decoder)) else []
    if not findings:
        return ""
    of_frames = f" of {declared.frames}" if short and declared.frames else ""
    of_seconds = f" of {declared.seconds:.2f} s" if short else ""
    listed = ", ".join(findings)
    return f"decoded {decoded.frames}{of_frames} frames, to {decoded.seconds:.2f} s{of_seconds}: {listed}"


def _findings(decoder: StreamDecoder) -> list[str]:
    findings = []
    if decoder.failure:
        findings.append(f"reading stopped ({decoder.failure})")
    if decoder.unreadable:
        findings.append(f"{decoder.unreadable} unreadable packet{'s' * (decoder.unreadable > 1)}")
    if decoder.damaged:
        findings.append(f"{decoder.damaged} damaged frame{'s' * (decoder.damaged > 1)}")
    return findings


def _cut_off(decoder: StreamDecoder, probe: Probe) -> list[str]:
    """Whether all streams end before the header says, or there are fewer packets than frames declared."""
    length = probe.file_duration
    # A damaged table may give packets any duration.
    end = decoder.last if decoder.end > length + _TOLERANCE_SECONDS else decoder.end
    # The edit list of an .mp4 leaves out frames that its header counts.
    expected = 0 if "mp4" in decoder.container.format.name else decoder.stream.frames
    if length - end > _TOLERANCE_SECONDS or expected - decoder.packets > _few(expected):
        return [f"the file is cut off at {end:.2f} s"]
    return []


def _bare(decoder: StreamDecoder) -> str:
    """Whether pictures were found without the container that the file's name promises."""
    form = decoder.container.format
    if form.flags & NO_TIMES and decoder.path.suffix.lower().lstrip(".") not in form.extensions:
        return f"its container is damaged, what was read is a bare stream ({form.name})"
    return ""


__all__ = ["Extent", "find_damage"]
