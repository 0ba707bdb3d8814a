"""Opens a video file with PyAV, chooses its stream, and reads what its header declares."""

from __future__ import annotations

import contextlib
import itertools
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

from ssn_feat.errors import UserError

# A playlist or manifest names other files, which must not be opened; the others are not video files at all.
_EXCLUDED_FORMATS = frozenset(
    [
        "hls",
        "applehttp",
        "concat",
        "dash",
        "webm_dash_manifest",
        "imf",
        "sdp",
        "rtp",
        "rtsp",
        "sap",
        "image2",
        "image2pipe",
        "lavfi",
        "tty",
        "ffmetadata",
    ]
)
_PLAYLISTS = frozenset((".m3u8", ".m3u", ".mpd", ".sdp", ".ffconcat", ".ffcat", ".pls", ".asx", ".xspf", ".smil"))
_CONTENT_OF_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"[playlist]", b"v=0\no=", b"v=0\r\no=")
# The header's aspect ratio is trusted within these bounds, and ignored where pictures would change by less than this.
_ASPECT_BOUNDS, _ASPECT_TOLERANCE = (0.25, 4.0), 0.01
DISCONTINUOUS = 0x200  # AVFMT_TS_DISCONT: the format may have discontinuous timestamps
NO_TIMES = 0x80  # AVFMT_NOTIMESTAMPS: the format is a stream without container
_COUNTED_FROM_ZERO = frozenset(("mp4", "matroska", "ogg"))  # names of formats
_HDR = {16: "PQ", 18: "HLG"}  # values of AVColorTransferCharacteristic


@dataclass(frozen=True)
class Probe:
    """What the header of a video file declares. None of it is verified by decoding."""

    width: int
    """Pixels, after the sample aspect ratio and rotation are applied."""
    height: int
    """Pixels, after the sample aspect ratio and rotation are applied."""
    fps: float
    """Nominal frames per second; 0 where unknown."""
    declared_frames: int
    """Frames according to the header; 0 where unknown. Often wrong for mkv, webm and cut files."""
    duration: float
    """Seconds from a player's time 0 to the end of the stream, according to the header; 0 where unknown."""
    file_duration: float
    """Seconds from a player's time 0 to the end of the longest stream, according to the header; 0 where unknown."""
    codec: str
    """Name of the codec, e.g. h264."""
    rotation: float
    """Degrees by which frames are turned clockwise to be upright."""


def import_av() -> ModuleType:
    """The ``av`` module (PyAV). Raises UserError, with the command to install it, where it cannot be imported."""
    try:
        import av
        import av.error
        import av.filter
        import av.video.reformatter
    except ImportError as error:
        raise UserError(f"PyAV cannot be imported ({error}): pip install 'av>=17.1'") from None
    module: ModuleType = av
    return module


def require_file(path: Path) -> None:
    """Raises UserError if the path is missing, a folder, a pipe or an empty file."""
    if not path.exists():
        raise UserError(f"there is no video {path}")
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a video file")
    if not path.is_file():  # opening a pipe would wait for its writer
        raise UserError(f"{path} is not a file")
    if path.stat().st_size == 0:
        raise UserError(f"the video {path} is empty (0 bytes): fetch it again")


def open_container(path: Path) -> Any:
    """An open ``av.container.InputContainer``.

    Only files are opened, never a URL or a file that another file names. Raises UserError for a file that is missing,
    empty, a playlist, or not a video.
    """
    av = import_av()
    require_file(path)
    refuse_playlist(path)
    formats = ",".join(sorted(av.formats_available - _EXCLUDED_FORMATS))
    options = {"protocol_whitelist": "file", "format_whitelist": formats}
    # From version 19 on PyAV replaces titles that are not UTF-8 by itself.
    lenient = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
    try:
        # An absolute path cannot be mistaken for a URL.
        return av.open(str(path.absolute()), options=options, **lenient)
    except (av.error.FFmpegError, ValueError, UnicodeError) as error:
        raise UserError(
            f"{path} is not a video that FFmpeg can read ({_reason(error)}): damaged, or not a video at all"
        ) from None


def playlist_kind(path: Path) -> str:
    """What a file is that names other files instead of holding a video, by its ending or content; else empty."""
    head = b""
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(1024).lstrip(b"\xef\xbb\xbf \r\n\t")
    if head.startswith(_CONTENT_OF_PLAYLISTS) or b"<MPD" in head or path.suffix.lower() in _PLAYLISTS:
        return "a DASH manifest" if b"<MPD" in head or path.suffix.lower() == ".mpd" else "a playlist"
    return ""


def refuse_playlist(path: Path) -> None:
    """Raises UserError for a file that names other files instead of holding a video."""
    if kind := playlist_kind(path):
        raise UserError(f"{path} is {kind}, which only names other files: give the video files themselves")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]


def choose_stream(container: Any, path: Path, number: int = -1) -> Any:
    """Video stream ``number`` of a container, counted from 0 without cover pictures; -1: the one that players show.

    Raises UserError if there is no such stream, and for a codec that FFmpeg cannot decode.
    """
    av = import_av()
    streams = video_streams(container)
    if not streams:
        raise UserError(f"{path} has no video stream")
    if number >= len(streams):
        listed = "one video stream" if len(streams) == 1 else f"{len(streams)} video streams, numbered from 0"
        raise UserError(f"{path} has {listed}: there is no stream {number}")
    best = container.streams.best("video")
    stream = streams[number] if number >= 0 else best if best in streams else streams[0]
    if stream.codec_context is None:
        raise UserError(
            f"{path}: FFmpeg {av.library_versions['libavcodec'][0]} has no decoder for its codec"
            f"{_codec_name(container, stream)}: convert the file with a program that can play it"
        )
    # One thread: several videos are decoded at the same time, each in a process of its own.
    stream.codec_context.thread_count = 1
    return stream


def _codec_name(container: Any, stream: Any) -> str:
    """The name of a codec without a decoder, after a blank; empty where FFmpeg does not know it.

    PyAV gives it only in its description of the whole file.
    """
    logging = import_av().logging
    level = logging.get_level()
    logging.set_level(logging.INFO)
    try:
        described = container.dumps_format()
    finally:
        logging.set_level(level)
    found = re.search(rf"Stream #0:{stream.index}\b.*?: Video: (?:none \((\S+)|(\w+))", described)
    name = (found[1] or found[2]) if found else ""
    return f" {name}" if name not in ("", "none") else ""


def video_streams(container: Any) -> list[Any]:
    """The video streams of a container, cover pictures excluded."""
    cover = import_av().stream.Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & cover]


def aspect_of(stream: Any) -> float:
    """Width of a sample divided by its height; 1 where it is unknown or implausible, or differs by less than 1 %."""
    ratio = float(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1)
    low, high = _ASPECT_BOUNDS
    return ratio if low <= ratio <= high and abs(ratio - 1) >= _ASPECT_TOLERANCE else 1.0


def display_size(width: int, height: int, aspect: float) -> tuple[int, int]:
    """(width, height) with square samples; neither side gets smaller."""
    return (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))


def time_origin(container: Any, stream: Any) -> float:
    """The timestamp, in seconds, that players show as time 0.

    Browsers count MP4, Matroska, WebM and Ogg files from timestamp 0, also where all streams begin later ("offsets into
    the media resource" in the HTML standard). The timestamps of other formats begin anywhere.
    """
    if not _COUNTED_FROM_ZERO.isdisjoint(container.format.name.split(",")):
        return 0.0
    if container.start_time is not None:
        return float(container.start_time / import_av().time_base)
    return float(stream.start_time * stream.time_base) if stream.start_time is not None else 0.0


def probe_stream(container: Any, stream: Any, rotation: int) -> Probe:
    """What the header declares about a stream; ``rotation``: degrees by which its frames are turned clockwise."""
    av = import_av()
    rate = stream.average_rate or stream.guessed_rate or Fraction(0)
    fps = float(rate) if 0 < rate < 10_000 else 0.0
    origin = time_origin(container, stream)
    # The duration in a Matroska file counts from 0, those of other files from the first packet.
    begins = 0.0 if "matroska" in container.format.name else (container.start_time or 0) / av.time_base
    total = max((container.duration or 0) / av.time_base + begins - origin, 0.0)
    late = 0.0 if stream.start_time is None else float(stream.start_time * stream.time_base) - origin
    length = float(stream.duration * stream.time_base) if stream.duration else total - late
    width, height = display_size(stream.codec_context.width, stream.codec_context.height, aspect_of(stream))
    if rotation % 180 == 90:
        width, height = height, width
    return Probe(
        width=width,
        height=height,
        fps=fps,
        declared_frames=stream.frames or round(max(length, 0.0) * fps),
        duration=max(length + late, 0.0) if length > 0 else 0.0,
        file_duration=total,
        codec=stream.codec_context.codec.canonical_name,
        rotation=float(rotation),
    )


def high_dynamic_range(stream: Any) -> str:
    """``PQ`` or ``HLG`` for a stream of high dynamic range, else empty."""
    return _HDR.get(int(stream.codec_context.color_trc), "")


def linked_graph(frame: Any, *filters: tuple[str, str]) -> Any:
    """A configured ``av.filter.Graph`` that sends frames like ``frame`` through filters: name and options of each."""
    graph = import_av().filter.Graph()
    steps = [
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25)
        ),
        *(graph.add(name, options) for name, options in filters),
        graph.add("buffersink"),
    ]
    for step, following in itertools.pairwise(steps):
        step.link_to(following)
    graph.configure()
    return graph


def av_versions() -> dict[str, str]:
    """``{"av": ..., "avcodec": ..., "swscale": ...}``: the versions that decide decoded pixels."""
    av = import_av()
    libraries = {name: ".".join(map(str, av.library_versions[f"lib{name}"])) for name in ("avcodec", "swscale")}
    return {"av": av.__version__, **libraries}


__all__ = [
    "DISCONTINUOUS",
    "NO_TIMES",
    "Probe",
    "aspect_of",
    "av_versions",
    "choose_stream",
    "display_size",
    "high_dynamic_range",
    "import_av",
    "linked_graph",
    "open_container",
    "playlist_kind",
    "probe_stream",
    "refuse_playlist",
    "require_file",
    "time_origin",
    "video_streams",
]
