"""What cameras, broadcasters and editors make of a video: frames and times are FFmpeg's, or what is wrong is named."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from films import INTERLACED, combed, encode, pictures, restamped, rotate_tag, skip_start
from references import check, require_ffmpeg, times_of

from ssn_feat.video import Decoded, VideoReader
from ssn_feat.video.decoding import StreamDecoder
from ssn_feat.video.deinterlacing import deinterlaced

BIDIRECTIONAL = {"bf": "3", "preset": "fast", "sc_threshold": "0"}


def ffmpeg(*arguments: object) -> None:
    require_ffmpeg()
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)], check=True)


def telecined(count: int) -> list[np.ndarray]:
    """Film of 24 frames a second as 30 interlaced frames: of every five, two are woven of neighbouring pictures."""
    film, woven = pictures(count), []
    for at in range(0, count - 3, 4):
        a, b, c, d = film[at : at + 4]
        bc, cd = b.copy(), c.copy()
        bc[1::2], cd[1::2] = c[1::2], d[1::2]
        woven += [a, b, bc, cd, d]
    return woven


@pytest.mark.parametrize(("codec", "name"), [("mpeg2video", "a.ts"), ("libx264", "a.mkv"), ("libx264", "a.mts")])
def test_telecine(tmp_path: Path, codec: str, name: str) -> None:
    path = encode(tmp_path / name, telecined(24), codec, options=INTERLACED)
    assert check(path, unlike=(0,)).frames == 30
    assert check(path, deinterlace=False).frames == 30


@pytest.mark.parametrize(("codec", "name"), [("mpeg2video", "a.ts"), ("mpeg2video", "a.mkv"), ("libx264", "a.ts")])
@pytest.mark.parametrize("first", ["progressive", "interlaced"])
def test_interlaced_in_one_half(tmp_path: Path, codec: str, name: str, first: str) -> None:
    images = combed(30)
    kinds = [{"bf": "0"}, INTERLACED | {"bf": "0"}]
    if first == "interlaced":
        kinds.reverse()
    path = encode(tmp_path / name, images, codec, options=kinds[0], then=(15, kinds[1]))
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        whole = [frame.to_ndarray(format="gray") for frame, _ in deinterlaced((frame, None) for frame in frames)]
    turn = next(number for number, frame in enumerate(frames) if frame.interlaced_frame)
    # MPEG-2 decoders lose a frame where a sequence of another kind begins.
    assert check(path, unlike=(turn,)).frames == len(whole) >= 29
    check(path, deinterlace=False)
    if first == "progressive":  # as if the filter had seen all frames
        filtered = list(_filtered(frames))
        assert len(filtered) == len(whole)
        for frame, expected in zip(filtered, whole, strict=True):
            np.testing.assert_array_equal(frame.to_ndarray(format="gray"), expected)


def _filtered(frames: list[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """All frames through the filter of FFmpeg."""
    graph = av.filter.Graph()
    first = frames[0]
    steps = [
        graph.add_buffer(width=first.width, height=first.height, format=first.format, time_base=Fraction(1, 25)),
        graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),
        graph.add("buffersink"),
    ]
    for step, following in itertools.pairwise(steps):
        step.link_to(following)
    graph.configure()
    for frame in [*frames, None]:
        graph.push(frame)
        with contextlib.suppress(BlockingIOError, EOFError):
            while True:
                yield graph.pull()


def times_and_summary(path: Path, **options: object) -> tuple[list[float], Decoded]:
    with VideoReader(path, **options) as reader:
        times = [reader.time for _ in iter(reader.advance, False)]
        return times, reader.decoded()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mov"])
@pytest.mark.parametrize(("late", "at"), [(9.0, 12), (-0.7, 20), (-0.7, 38)])
def test_one_odd_timestamp(tmp_path: Path, name: str, late: float, at: int) -> None:
    plain = encode(tmp_path / "plain.mp4", pictures(40), "mpeg2video")
    path = restamped(tmp_path / name, plain, {at: late}, delay=1.0, start=2.0)
    times, summary = times_and_summary(path)
    np.testing.assert_allclose(np.diff(times), 0.04, atol=2e-3)
    assert (summary.frames, summary.times_repaired, summary.gaps, summary.damage) == (40, 1, (), "")
    assert any(f"interpolated: {at} at" in line for line in summary.warnings)


def test_recordings_joined_in_one_file(tmp_path: Path) -> None:
    """The second one starts at 0 again, as when files are appended to each other."""
    parts = [encode(tmp_path / f"{k}.ts", pictures(20, seed=k), "mpeg2video", options={"bf": "0"}) for k in (0, 1)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    times, summary = times_and_summary(path)
    assert summary.frames == 40
    np.testing.assert_allclose(times, np.arange(40) / 25, atol=1e-3)
    ((before, jump),) = summary.gaps
    assert (before, jump) == (pytest.approx(0.76), pytest.approx(-0.8, abs=0.01))
    assert any("jump by -0.80 s after 0.76 s: no row spans that gap" in line for line in summary.warnings)


@pytest.mark.parametrize(("name", "gaps"), [("a.ts", 1), ("a.mpg", 1), ("a.mp4", 0), ("a.mkv", 0)])
def test_a_pause_in_the_recording(tmp_path: Path, name: str, gaps: int) -> None:
    """Formats of broadcasts may jump; in others the frame before is shown until the next."""
    at = [k / 25 + 30 * (k >= 20) for k in range(40)]
    path = encode(tmp_path / name, pictures(40), "mpeg4", times=at)
    summary = check(path)
    assert (summary.frames, len(summary.gaps)) == (40, gaps)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
@pytest.mark.parametrize("first", [2.0, 0.5])
def test_a_late_track(tmp_path: Path, name: str, first: float) -> None:
    path = encode(tmp_path / name, pictures(25), times=[first + k / 25 for k in range(25)], sound=4.0)
    assert check(path).last_time == pytest.approx(first + 0.96, abs=0.1)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_an_edit_list(tmp_path: Path, codec: str, name: str) -> None:
    """A cut without encoding: the frames before the cut are decoded but not shown."""
    path = encode(tmp_path / name, pictures(40), codec, options=BIDIRECTIONAL if codec == "libx264" else {})
    skip_start(path, 0.4)
    summary = check(path)
    assert summary.damage == ""
    assert 28 <= summary.frames <= 33


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
@pytest.mark.parametrize("start", [-0.4, 0.0, 5.0])
def test_a_start_before_or_after_zero(tmp_path: Path, name: str, start: float) -> None:
    plain = encode(tmp_path / "plain.mp4", pictures(20), "mpeg2video", options={"bf": "0"})
    path = restamped(tmp_path / name, plain, {}, start=start)
    summary = check(path)
    # In .mp4, an edit list skips the frames before 0.
    assert summary.frames == (10 if start < 0 and name == "a.mp4" else 20)
    assert summary.damage == ""
    # Browsers show these files from timestamp 0, also where nothing begins there.
    late = start if start > 0 and name != "a.ts" else 0.0
    assert summary.duration == pytest.approx(late + summary.frames / 25, abs=0.05)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mts"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_open_groups_of_pictures(tmp_path: Path, codec: str, name: str) -> None:
    options = {
        "libx264": {"x264-params": "open-gop=1:keyint=8:bframes=3:b-adapt=0"},
        "libx265": {"preset": "fast", "x265-params": "log-level=none:open-gop=1:keyint=8:bframes=3:b-adapt=0"},
    }
    path = encode(tmp_path / name, pictures(30), codec, options=options[codec])
    assert check(path).frames == 30
    if name.endswith("ts"):  # a recording that starts in the middle
        content = path.read_bytes()
        path.write_bytes(content[188 * (len(content) // 188 // 3) :])
        times, summary = times_and_summary(path)
        expected = times_of(path)  # of HEVC, FFmpeg 5 also gives the frames that lack those they refer to
        assert expected[-len(times) :] == pytest.approx(times, abs=1e-3)
        assert 5 < summary.frames < 30
        assert summary.damage == ""


@pytest.mark.parametrize(("sar", "width", "height"), [((64, 45), 1024, 576), ((16, 15), 768, 576), ((1, 2), 720, 1152)])
def test_samples_that_are_not_square(tmp_path: Path, sar: tuple[int, int], width: int, height: int) -> None:
    grey = [np.repeat(image[..., 1:2], 3, axis=2) for image in pictures(2, 720, 576)]
    path = encode(tmp_path / "a.mp4", grey, "mpeg4", sar=Fraction(*sar))
    summary = check(path)
    assert (summary.width, summary.height) == (width, height)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_rotated_recordings(tmp_path: Path, name: str) -> None:
    summary = check(rotate_tag(encode(tmp_path / name, pictures(10))))
    assert (summary.width, summary.height) == (48, 64)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_several_streams(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, pictures(10), tracks=3)
    for stream in (0, 2):
        summary = check(path, stream=stream)
        assert any(f"3 video streams, of which number {stream} was read" in line for line in summary.warnings)


def test_streams_that_appear_on_the_way(tmp_path: Path) -> None:
    """PyAV then reads past the end of a list after the last packet, and fails or not by chance."""
    first = encode(tmp_path / "1.ts", pictures(20), "mpeg2video", options={"bf": "0"})
    second = encode(tmp_path / "2.ts", pictures(20), "mpeg2video", options={"bf": "0"}, sound=1.0, tracks=2)
    path = tmp_path / "joined.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    assert times_and_summary(path)[1].frames >= 39
    decoder = StreamDecoder(first)
    container = decoder.container

    class Failing:
        format = container.format

        def demux(self) -> Iterator[av.Packet]:
            yield from container.demux()
            raise IndexError("list index out of range")

    decoder.container = Failing()
    assert len(list(decoder.frames())) == 20
    assert decoder.failure == ""
    container.close()
