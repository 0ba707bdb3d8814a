"""Small video files with known content, written by OpenCV (or PyAV where a test needs what OpenCV cannot write)."""

from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

os.environ.setdefault("SVT_LOG", "0")  # the encoder of AV1 prints a page about itself


def pictures(count: int, width: int = 64, height: int = 48, seed: int = 0, shift: int = 2) -> list[np.ndarray]:
    """BGR images of a smooth random texture that moves ``shift`` pixels to the right per frame."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 256, (height // 8, (width + count * shift) // 8 + 1, 3), dtype=np.uint8)
    wide = cv2.resize(texture, (width + count * shift, height), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(wide[:, (count - i) * shift : (count - i) * shift + width]) for i in range(count)]


def write(path: Path, images: list[np.ndarray], fps: float = 25.0, codec: str | None = None) -> Path:
    """A constant frame rate file; the codec follows from the name (.avi: MJPEG, .mp4: MPEG-4, .webm: VP8)."""
    codec = codec or {".avi": "MJPG", ".mp4": "mp4v", ".webm": "VP80"}[path.suffix]
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(image)
    writer.release()
    return path


def write_at(path: Path, images: list[np.ndarray], milliseconds: list[int]) -> Path:
    """A file whose frames are presented at the given times (variable frame rate). Skips without PyAV."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for image, at in zip(images, milliseconds, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


INTERLACED = {"x264-params": "tff=1", "flags": "+ildct+ilme"}
"""Options by which libx264 and mpeg2video write interlaced frames."""


def combed(count: int, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """Frames of two fields each: even rows show the scene half a frame earlier than odd ones."""
    fields = pictures(2 * count, width, height, shift=2)
    woven = [fields[2 * k].copy() for k in range(count)]
    for image, later in zip(woven, fields[1::2], strict=True):
        image[1::2] = later[1::2]
    return woven


def encode(path: Path, images: list[np.ndarray], codec: str = "libx264", **settings: Any) -> Path:
    """A film of 25 frames a second. Skips where PyAV lacks the encoder.

    ``times``: seconds of each frame; ``options``: of the codec; ``container``: options of the container; ``gop``:
    frames from a key frame to the next; ``pix_fmt``; ``sar``: aspect of samples; ``tracks``: how many video streams;
    ``sound``: seconds of silence, from 0 on; ``then``: a number of frames, and the options of the codec after them;
    ``transfer``: the number of the transfer characteristic of a high dynamic range.
    """
    av = pytest.importorskip("av")
    try:
        av.codec.Codec(codec, "w")
    except ValueError:
        pytest.skip(f"PyAV cannot write {codec}")
    times = settings.get("times", [k / 25 for k in range(len(images))])
    # MPEG-2 has only the usual frame rates.
    unit = Fraction(1, 1000 if "times" in settings and codec != "mpeg2video" else 25)

    def fitting(options: dict[str, str]) -> dict[str, str]:
        return {name: value for name, value in options.items() if name != "x264-params" or codec == "libx264"}

    def set_up(encoder: Any) -> Any:
        encoder.height, encoder.width = images[0].shape[:2]
        encoder.pix_fmt = settings.get("pix_fmt", "yuv420p")
        encoder.time_base, encoder.framerate = unit, Fraction(25)
        if "gop" in settings:
            encoder.gop_size = settings["gop"]
        if "sar" in settings:
            encoder.sample_aspect_ratio = settings["sar"]
        if "transfer" in settings:
            encoder.color_trc, encoder.color_primaries, encoder.colorspace = settings["transfer"], 9, 9  # BT.2020
        return encoder

    def frame(number: int) -> Any:
        made = av.VideoFrame.from_ndarray(images[number], format="bgr24")
        made.time_base, made.pts = unit, round(times[number] / unit)
        return made

    with av.open(str(path), "w", options=settings.get("container", {})) as container:
        streams = [
            container.add_stream(codec, rate=25, options=fitting(settings.get("options", {})))
            for _ in range(settings.get("tracks", 1))
        ]
        for stream in streams:
            set_up(stream.codec_context)
        sound = container.add_stream("aac", rate=16000) if "sound" in settings else None
        if sound is not None:
            sound.layout = "mono"
        turn, options = settings.get("then", (len(images), {}))
        for stream in streams:
            packets = [packet for number in range(turn) for packet in stream.encode(frame(number))]
            packets += stream.encode(None)
            if turn < len(images):
                encoder = set_up(av.CodecContext.create(codec, "w"))
                encoder.options = fitting(options)
                packets += [packet for number in range(turn, len(images)) for packet in encoder.encode(frame(number))]
                packets += encoder.encode(None)
            for packet in packets:
                packet.stream = stream
                container.mux(packet)
        if sound is not None:
            for start in range(0, round(16000 * settings["sound"]), 1024):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                silence.sample_rate, silence.pts = 16000, start
                container.mux(sound.encode(silence))
            container.mux(sound.encode(None))
    return path


def restamped(path: Path, source: Path, odd: dict[int, float], delay: float = 0.0, start: float = 0.0) -> Path:
    """The packets of ``source`` in another file, shown ``start`` seconds later, some by ``odd`` seconds more.

    ``delay``: seconds from decoding to showing a frame, without which no frame can be shown too early.
    """
    av = pytest.importorskip("av")
    with av.open(str(source)) as reading, av.open(str(path), "w") as writing:
        stream = writing.add_stream_from_template(reading.streams.video[0])
        packets = (packet for packet in reading.demux(video=0) if packet.size)
        for number, packet in enumerate(packets):
            packet.pts += round((start + odd.get(number, 0.0)) / packet.time_base)
            packet.dts += round((start - delay) / packet.time_base)
            packet.stream = stream
            writing.mux(packet)
    return path


def write_audio(path: Path, seconds: int = 1) -> Path:
    """A file with sound and no picture. Skips without PyAV."""
    return write_with_audio(path, [], seconds)


def write_with_audio(path: Path, images: list[np.ndarray], seconds: int) -> Path:
    """A file with 25 images a second (if any) and ``seconds`` of silence. Skips without PyAV."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000)
        sound.layout = "mono"
        if images:
            picture = container.add_stream("mpeg4", rate=25)
            picture.height, picture.width = images[0].shape[:2]
            picture.pix_fmt = "yuv420p"
        for image in images:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        if images:
            container.mux(picture.encode(None))
        for start in range(0, 16000 * seconds, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def rotate_tag(path: Path) -> Path:
    """Sets the display matrix of an .mp4 file to a quarter turn."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def skip_start(path: Path, seconds: float) -> Path:
    """Sets the edit list of an .mp4 file so that it plays from ``seconds`` on, as a cut without re-encoding does."""
    data = bytearray(path.read_bytes())
    header = data.index(b"mvhd") + 4
    movie_scale, movie_length = struct.unpack(">2I", data[header + 12 : header + 20])
    media = data.index(b"mdhd") + 4
    (media_scale,) = struct.unpack(">I", data[media + 12 : media + 16])
    entry = data.index(b"elst") + 12
    data[entry : entry + 8] = struct.pack(
        ">2i", movie_length - round(seconds * movie_scale), round(seconds * media_scale)
    )
    path.write_bytes(data)
    return path
