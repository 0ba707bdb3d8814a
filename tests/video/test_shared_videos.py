"""Real videos: frames, times and pictures are those of FFmpeg's own programs.

``SSN_FEAT_ALL_VIDEOS=1`` compares all videos and all pictures, which takes minutes; otherwise a few of each folder.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from references import check

from ssn_feat.errors import UserError
from ssn_feat.video import SnippetOptions, VideoReader, probe, snippets
from ssn_feat.video.find_videos import find_videos

_ALL = bool(os.environ.get("SSN_FEAT_ALL_VIDEOS"))
_ENDINGS = (".mp4", ".avi", ".mkv")
_BYTES = 450_000  # of the largest video that is read when not all are


def test_frames_times_and_pictures(shared: Path) -> None:
    paths = sorted(path for path in (shared / "data").rglob("*") if path.suffix in _ENDINGS)
    assert len(paths) > 100
    small = [path for path in paths if path.stat().st_size < _BYTES]
    chosen = paths if _ALL else small[:2] + [path for path in small if path.parent.name == "videos"]
    failures = {}
    for path in chosen:
        try:
            summary = check(path, every=1 if _ALL else 30, scaled=False)
            assert summary.damage == ""
            assert (summary.times_repaired, summary.gaps) == (0, ())
        except AssertionError as error:
            failures[path.name] = str(error)[:300]
    assert not failures


@pytest.mark.parametrize(
    ("name", "warned"),
    [
        ("anamorphic/sar_4_3.mp4", "equal the one before"),
        ("av1/av1.mp4", ""),
        ("interlaced/interlaced.mp4", ""),
        ("late-video-track/late2s.mp4", ""),
        ("late-video-track/late2s_mkv.mkv", ""),
        ("ts-origin/starts_at_1.4s.ts", ""),
        ("ts-origin/starts_at_95001.4s.ts", ""),
        ("ignored-endings/b.dav", ""),
        ("ignored-endings/c.gif", ""),
        ("ignored-endings/d.mxf", ""),
    ],
)
def test_field_cases(shared: Path, name: str, warned: str) -> None:
    summary = check(shared / "field" / name, every=5, unlike=(0,) if "interlaced" in name else ())
    assert summary.damage == ""
    assert [warned] == [warned for line in summary.warnings if warned and warned in line] or not warned
    assert len(summary.warnings) == bool(warned)


def test_the_odd_timestamp_of_the_field(shared: Path) -> None:
    with VideoReader(shared / "field" / "timestamp-outlier" / "one_frame_9s_late.mp4") as reader:
        times = [reader.time for _ in iter(reader.advance, False)]
        summary = reader.decoded()
    np.testing.assert_allclose(times, np.arange(100) / 25, atol=1e-3)
    assert summary.duration == pytest.approx(4.0, abs=1e-3)
    (said,) = summary.warnings
    assert "30 at 1.200 s" in said


def test_samples_of_the_field_become_square(shared: Path) -> None:
    found = probe(shared / "field" / "anamorphic" / "sar_4_3.mp4")
    assert (found.width, found.height) == (192, 108)


def test_folders_of_the_field(shared: Path) -> None:
    field = shared / "field"
    assert list(find_videos(field / "ignored-endings").videos) == ["a", "b", "c", "d"]
    with pytest.raises(UserError, match="two videos have the id 'p03_cereal'"):
        find_videos(field / "same-names")
    assert list(find_videos(field / "same-names", ids="path").videos) == ["cam01/p03_cereal", "webcam01/p03_cereal"]
    options = SnippetOptions(stride=6, short_side=40, crop=32, streams=("flow",), flow_method="stored")
    run = snippets(field / "flow-from-0", options, fps=25)
    assert sum(len(batch) for batch in run) == 3
