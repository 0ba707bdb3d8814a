"""Frames, times and pictures of a video as the programs ffprobe and ffmpeg give them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssn_feat.video import VideoReader
from ssn_feat.video.decode import Decoded
from ssn_feat.video.pictures import PictureConverter

DEINTERLACE = "bwdif=mode=send_frame:parity=auto:deint=interlaced"


def require_ffmpeg() -> None:
    """Skip where the programs are missing."""
    if not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
        pytest.skip("ffmpeg and ffprobe are not installed")


def times_of(path: Path, stream: int = 0) -> list[float | None]:
    """Seconds of each frame as players count them, from ``best_effort_timestamp``; None where FFmpeg has none."""
    require_ffmpeg()
    entries = "frame=best_effort_timestamp:stream=time_base,start_time,codec_type:format=start_time,format_name"
    probed = _json("-show_entries", entries, "-select_streams", f"v:{stream}", str(path))
    unit = Fraction(probed["streams"][0]["time_base"])
    start = float(probed["format"].get("start_time", 0.0))
    if {"mp4", "matroska", "ogg"} & set(probed["format"]["format_name"].split(",")):
        start = 0.0
    if start < 0 and float(probed["streams"][0].get("start_time", start)) >= 0:
        # FFmpeg 5 counts from where the sound's encoder started, which nobody hears; later versions do not.
        start = 0.0
    stamps = [frame.get("best_effort_timestamp") for frame in probed["frames"]]
    return [None if stamp is None else float(stamp * unit) - start for stamp in stamps]


def _json(*arguments: str) -> Any:
    done = subprocess.run(["ffprobe", "-v", "error", "-of", "json", *arguments], capture_output=True, check=True)
    return json.loads(done.stdout)


def pictures_of(path: Path, shape: tuple[int, int], stream: int = 0, filters: str = "null") -> Iterator[np.ndarray]:
    """BGR pictures (H, W, 3) of all frames in order, colours interpolated linearly, decoded by the code without
    assembler, whose rounding depends on the version."""
    require_ffmpeg()
    height, width = shape
    command = ["ffmpeg", "-v", "error", "-nostdin", "-flags", "bitexact", "-i", str(path), "-map", f"0:v:{stream}"]
    command += ["-vf", f"{filters},scale={width}:{height}:flags=bilinear:interl=-1,format=bgr24"]
    command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "bgr24", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while len(raw := process.stdout.read(3 * height * width)) == 3 * height * width:
            yield np.frombuffer(raw, np.uint8).reshape(height, width, 3)
        process.kill()


def check(
    path: Path, *, stream: int = 0, every: int = 1, unlike: tuple[int, ...] = (), scaled: bool = True, **options: Any
) -> Decoded:
    """Assert that frames, times (1 ms) and pictures (1 level of grey) are those of FFmpeg; the summary of the pass.

    ``every``: compare every so many pictures. ``unlike``: numbers of the frames whose pictures are not compared.
    ``scaled``: compare pictures of samples that are not square after, not before they are made square.
    Frames to which FFmpeg gives no time follow the one before by the usual interval.
    """
    expected = times_of(path, stream)
    filters = "null" if options.get("deinterlace") is False else DEINTERLACE
    times, differences, drawn = [], {}, None
    with VideoReader(path, stream=stream if stream else -1, **options) as reader:
        if not scaled:
            reader._converter = PictureConverter(1.0)
        while reader.advance():
            number = len(times)
            times.append(reader.time)
            if drawn is None:
                drawn = pictures_of(path, reader.image().shape[:2], stream, filters)
            picture = next(drawn, None)
            if picture is not None and number % every == 0:
                differences[number] = int(np.abs(picture.astype(np.int16) - reader.image()).max())
        summary = reader.decoded()
    if drawn is not None:
        drawn.close()
    assert len(times) == summary.frames == len(expected)
    known = [number for number, time in enumerate(expected) if time is not None]
    np.testing.assert_allclose([times[number] for number in known], [expected[number] for number in known], atol=1e-3)
    assert (np.diff(times) > 0).all()
    wrong = {number: level for number, level in differences.items() if level > 1 and number not in unlike}
    assert not wrong, f"{len(wrong)} of {len(differences)} pictures differ: {dict(list(wrong.items())[:5])}"
    assert len(differences) == len(range(0, len(times), every))
    return summary


__all__ = ["check", "pictures_of", "require_ffmpeg", "times_of"]
