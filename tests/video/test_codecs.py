"""Frames, times and pictures of every codec in every container are those of FFmpeg's own programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from films import encode, pictures
from references import check

from ssn_feat.errors import UserError
from ssn_feat.video import VideoReader

# Endings, encoder, its options and pixel format, pictures and their size.
CODECS = {
    "H.264": ("mp4 mkv mov avi ts mts flv", "libx264", {"bf": "2"}, "yuv420p", 24, (64, 48)),
    "H.264, 10 bits": ("mkv mp4", "libx264", {"bf": "2"}, "yuv420p10le", 24, (64, 48)),
    "HEVC": (
        "mp4 mkv mov ts mts",
        "libx265",
        {"x265-params": "log-level=none"},
        "yuv420p",
        24,
        (64, 48),
    ),
    "MPEG-2": ("mp4 mkv mov avi ts mts mxf mpg", "mpeg2video", {"bf": "2"}, "yuv420p", 24, (64, 48)),
    "MPEG-4": ("mp4 mkv mov avi ts mts", "mpeg4", {"bf": "2"}, "yuv420p", 24, (64, 48)),
    "VP8": ("webm mkv avi", "libvpx", {"deadline": "realtime"}, "yuv420p", 24, (64, 48)),
    "VP9": ("webm mkv mp4 avi", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, "yuv420p", 24, (64, 48)),
    "AV1": ("webm mkv mp4 avi", "libsvtav1", {"preset": "12"}, "yuv420p", 24, (64, 64)),
    "ProRes": ("mov mkv mxf", "prores_ks", {}, "yuv422p10le", 6, (64, 48)),
    "DNxHR": ("mov mxf", "dnxhd", {"profile": "dnxhr_sq"}, "yuv422p", 4, (256, 128)),
    "DV, PAL": ("avi mov mxf dv", "dvvideo", {}, "yuv420p", 3, (720, 576)),
    "DV, NTSC": ("avi mov", "dvvideo", {}, "yuv411p", 3, (720, 480)),
    "Motion JPEG": ("avi mov mkv mp4", "mjpeg", {}, "yuvj420p", 12, (64, 48)),
    "WMV": ("wmv avi", "wmv2", {}, "yuv420p", 24, (64, 48)),
    "FFV1": ("mkv avi", "ffv1", {}, "yuv420p", 12, (64, 48)),
    "uncompressed": ("avi mkv", "rawvideo", {}, "yuv420p", 6, (64, 48)),
    "uncompressed, from the bottom up": ("avi", "rawvideo", {}, "bgr24", 6, (66, 50)),
    "GIF": ("gif", "gif", {}, "rgb8", 6, (64, 48)),
}
CASES = [(codec, ending) for codec, row in CODECS.items() for ending in row[0].split()]
# Where the samples of colour lie, and how they are interpolated, differs between FFmpeg's versions and programs.
GREY = ("H.264, 10 bits", "DV, PAL", "DV, NTSC")


@pytest.mark.parametrize(("codec", "ending"), CASES)
def test_frames_times_and_pictures(codec: str, ending: str, tmp_path: Path) -> None:
    _, encoder, options, pix_fmt, count, size = CODECS[codec]
    images = pictures(count, *size)
    if codec in GREY:
        images = [np.repeat(image[..., 1:2], 3, axis=2) for image in images]
    path = encode(tmp_path / f"a.{ending}", images, encoder, options=options, pix_fmt=pix_fmt, gop=12)
    # The first frame that is marked as interlaced has none before it, which versions of FFmpeg treat differently.
    summary = check(path, unlike=(0,) if codec.startswith("DV") else ())
    assert summary.frames == count
    assert summary.damage == ""
    assert (summary.times_repaired, summary.gaps) == (0, ())
    assert summary.fps == pytest.approx(25, rel=0.05)


@pytest.mark.parametrize(
    ("name", "encoder", "before", "after", "said"),
    [
        ("a.mp4", "libx264", b"avc1\0", b"zzzz\0", "has no decoder for its codec zzzz: convert"),
        ("a.mp4", "libx264", b"avc1\0", b"encv\0", "has no decoder for its codec encv: convert"),
        ("a.mov", "libx264", b"avc1\0", b"avs3\0", "has no decoder for its codec avs3: convert"),
        ("a.avi", "mpeg4", b"FMP4", b"XYZW", "has no decoder for its codec XYZW: convert"),
        ("a.mkv", "libx264", b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/AVC", "has no decoder for its codec: convert"),
        ("a.ts", "libsvtav1", b"", b"", "has no video stream"),
    ],
)
def test_a_codec_without_decoder_is_named(
    tmp_path: Path, name: str, encoder: str, before: bytes, after: bytes, said: str
) -> None:
    path = encode(tmp_path / name, pictures(5, 64, 64), encoder)
    path.write_bytes(path.read_bytes().replace(before, after) if before else path.read_bytes())
    with pytest.raises(UserError, match=said) as caught:
        VideoReader(path)
    assert str(path) in str(caught.value)
    assert "damage" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.avi", "a.mxf", "a.wmv"])
@pytest.mark.parametrize("late", [0, 12])
def test_reordered_frames_without_presentation_times(tmp_path: Path, name: str, late: int) -> None:
    """Frames are shown at even intervals, also those that the decoder holds back until the file ends."""
    still = [pictures(1)[0]] * late  # of which the encoder makes no bidirectional frames
    path = encode(tmp_path / name, [*still, *pictures(24)], "libx264", options={"bf": "2" if not late else "3"})
    with VideoReader(path) as reader:
        times = [reader.time for _ in iter(reader.advance, False)]
        summary = reader.decoded()
    np.testing.assert_allclose(np.diff(times), 0.04, atol=1e-3)
    assert (summary.frames, summary.times_repaired, summary.gaps) == (24 + late, 0, ())
