"""What players show: deinterlaced, upright, with square samples, on the clock of the container."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from films import INTERLACED, combed, encode, pictures

from ssn_feat.errors import UserError
from ssn_feat.extraction.extract_video import _long_rows
from ssn_feat.video import SnippetOptions, VideoReader, frames, snippets
from ssn_feat.video.frame_index import FrameAccess, index_frames
from ssn_feat.video.tone_mapping import can_map_tones

SMALL = {"stride": 6, "short_side": 40, "crop": 32, "streams": ("rgb",)}


def decoded(path: Path, **options: Any) -> tuple[list[float], list[np.ndarray], Any]:
    with VideoReader(path, **options) as reader:
        times, images = [], []
        while reader.advance():
            times.append(reader.time)
            images.append(reader.image())
        return times, images, reader.decoded()


def combing(image: np.ndarray) -> float:
    rows = image.astype(int).mean(axis=2)
    return float(np.abs(rows[1:-1:2] - (rows[:-2:2] + rows[2::2]) / 2).mean())


@pytest.mark.parametrize(("codec", "name"), [("libx264", "a.mp4"), ("mpeg2video", "a.ts"), ("mpeg2video", "a.mkv")])
def test_interlaced_frames_are_deinterlaced_one_for_one(tmp_path: Path, codec: str, name: str) -> None:
    path = encode(tmp_path / name, combed(40), codec, options=INTERLACED)
    with av.open(str(path)) as container:
        if not next(container.decode(video=0)).interlaced_frame:
            pytest.skip("this encoder does not mark frames as interlaced")
    times, images, summary = decoded(path)
    plain_times, plain, _ = decoded(path, deinterlace=False)
    assert times == plain_times
    assert len(images) == summary.frames == 40
    assert summary.equal_share < 0.1
    assert np.mean([combing(image) for image in images]) < 0.6 * np.mean([combing(image) for image in plain])
    access = FrameAccess(path, index_frames(path))
    with access:
        for number, image in access.read([3, 30, 12]):
            np.testing.assert_array_equal(image, images[number])


def test_samples_become_square(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", pictures(3), sar=Fraction(4, 3))
    _, images, summary = decoded(path)
    assert images[0].shape == (48, 85, 3)
    assert (summary.width, summary.height) == (85, 48)
    assert frames(path).probe.width == 85
    narrow = encode(tmp_path / "b.mp4", pictures(3), sar=Fraction(1, 2))
    assert decoded(narrow)[1][0].shape == (96, 64, 3)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_late_track_starts_when_a_player_shows_it(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, pictures(50), times=[2 + k / 25 for k in range(50)], sound=4.0)
    times, _, summary = decoded(path)
    assert times[0] == pytest.approx(2.0, abs=0.07)
    assert summary.duration == pytest.approx(4.0, abs=0.07)
    run = snippets(path, SnippetOptions(**SMALL))
    list(run)
    assert run.grid.spans[0, 0] == times[0]


@pytest.mark.parametrize("start", [0.0, 1.4, 95000.0])
def test_streams_count_from_their_start(tmp_path: Path, start: float) -> None:
    path = encode(tmp_path / "a.ts", pictures(20), times=[start + k / 25 for k in range(20)])
    times, _, summary = decoded(path)
    np.testing.assert_allclose(times, np.arange(20) / 25, atol=1e-3)
    assert summary.duration == pytest.approx(0.8, abs=1e-3)


def test_rows_end_at_a_gap(tmp_path: Path) -> None:
    at = [k / 25 + 30 * (k >= 25) for k in range(50)]
    path = encode(tmp_path / "a.ts", pictures(50), times=at)
    for options in (SnippetOptions(**SMALL), SnippetOptions(**SMALL, nominal_fps=10)):
        run = snippets(path, options, batch_size=3)
        batches = list(run)
        spans = run.grid.spans
        rows = sum(len(batch) for batch in batches)
        assert rows == len(spans)
        assert [batch.row for batch in batches] == np.cumsum([0, *(len(batch) for batch in batches)])[:-1].tolist()
        assert not ((spans[:, 0] < 20) & (spans[:, 1] > 20)).any()
        assert spans[-1, 1] == pytest.approx(at[-1] + 0.04, abs=0.12)
        alone = torch.cat([batch.streams["rgb"] for batch in batches])
        assert len(alone) == rows
    assert any("no row spans that gap" in line for line in run.decoded.warnings)


def test_changes_anywhere_in_a_row_count(tmp_path: Path) -> None:
    """Uncompressed pictures keep three samples of a pixel side by side."""
    still = pictures(1)[0]
    images = []
    for number in range(6):
        images.append(still.copy())
        images[-1][:, 50:] = 20 * number
    for pix_fmt in ("bgr24", "yuv420p"):
        assert decoded(encode(tmp_path / "a.avi", images, "rawvideo", pix_fmt=pix_fmt))[2].equal_share == 0.0


def pq(nits: float) -> float:
    """Code value of a brightness (SMPTE ST 2084)."""
    power = (nits / 10_000) ** 0.1593017578125
    return float(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


@pytest.mark.parametrize(("name", "transfer"), [("PQ", 16), ("HLG", 18)])
def test_a_high_dynamic_range_is_mapped(tmp_path: Path, name: str, transfer: int) -> None:
    codes = [pq(nits) for nits in (0, 5, 50, 203, 1000, 4000)] if name == "PQ" else [0, 0.2, 0.4, 0.6, 0.75, 1.0]
    ramp = np.repeat(np.round(255 * np.array(codes)).astype(np.uint8), 16)
    image = np.broadcast_to(ramp[None, :, None], (48, 96, 3))
    path = encode(tmp_path / "a.mkv", [image] * 3, "libx264", pix_fmt="yuv420p10le", transfer=transfer)
    _, images, summary = decoded(path)
    (said,) = summary.warnings
    if not can_map_tones():
        assert said == f"its colours are {name} (high dynamic range), which cannot be mapped to the standard range"
        pytest.skip("this FFmpeg cannot map tones")
    assert said == f"its colours are {name} (high dynamic range), which were mapped to the standard range"
    levels = images[0][24, 8::16].astype(int)
    assert (levels.max(axis=1) - levels.min(axis=1) <= 2).all()  # grey stays grey
    levels = levels.mean(axis=1)
    assert levels[0] < 5
    assert (np.diff(levels) > 10).all()  # nothing is clipped
    assert 140 < levels[3 if name == "PQ" else 4] < 200  # diffuse white
    assert levels[5] > 220
    with FrameAccess(path, index_frames(path)) as access:
        np.testing.assert_array_equal(access.frame(1), images[1])


def test_usual_colours_are_left_alone(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", pictures(3), "libx264", pix_fmt="yuv420p10le")
    assert decoded(path)[2].warnings == ()


def test_one_of_several_streams(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", pictures(10), tracks=2)
    assert any("2 video streams" in line for line in decoded(path)[2].warnings)
    assert decoded(path, stream=1)[2].frames == 10
    with pytest.raises(UserError, match="has 2 video streams, numbered from 0: there is no stream 2"):
        VideoReader(path, stream=2)


def test_frames_that_all_repeat_are_named(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", pictures(1) * 40)
    assert any("equal the one before" in line for line in decoded(path)[2].warnings)
    summary = decoded(encode(tmp_path / "b.mp4", pictures(40)))[2]
    assert (summary.warnings, summary.equal_share) == ((), 0.0)
    assert 20 < summary.brightness < 235


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.m3u8", "#EXTM3U\n#EXTINF:1,\nfilm.ts\n", "is a playlist"),
        ("a.mp4", "ffconcat version 1.0\nfile film.ts\n", "is a playlist"),
        ("a.mpd", '<?xml version="1.0"?><MPD></MPD>', "is a DASH manifest"),
        ("a.txt", "no video", "is not a video"),
    ],
)
def test_files_that_name_files_are_not_opened(tmp_path: Path, name: str, text: str, said: str) -> None:
    encode(tmp_path / "film.ts", pictures(5))
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        frames(tmp_path / name)


def test_rows_that_last_long_are_named() -> None:
    even = np.stack([np.arange(10), np.arange(1, 11)], axis=1).astype(float)
    assert list(_long_rows(even, 25.0)) == []
    even[5, 1] = 20.0
    (said,) = _long_rows(even, 25.0)
    assert "rows last up to 15.00 s, usually 1.00 s" in said
    assert "--nominal-fps 25" in said


def test_real_files_are_as_pyav_gives_them(shared: Path) -> None:
    for path in sorted((shared / "data" / "videos").iterdir()):
        with av.open(str(path), metadata_errors="replace") as container:
            stream = container.streams.video[0]
            start = float((container.start_time or 0) / av.time_base)
            plain = [(f.time - start, f.to_ndarray(format="gray").mean()) for f in container.decode(stream)]
        times, _, summary = decoded(path)
        assert summary.frames == len(plain), path
        assert not summary.damage, (path, summary.damage)
        if sorted(plain) == plain:
            np.testing.assert_allclose(times, [time for time, _ in plain], atol=1e-3)
