"""Any frame by its number is the frame that decoding from the start gives, or an error."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from films import pictures, skip_start, write, write_at

from ssn_feat.errors import UserError
from ssn_feat.video import frame_index as module
from ssn_feat.video import frames
from ssn_feat.video.frame_index import FrameAccess, index_frames

COUNT = 150


def encoded(path: Path, codec: str, options: dict[str, str], times: list[int] | None = None, gop: int = 30) -> Path:
    """A film of 150 frames with key frames ``gop`` apart, at ``times`` in milliseconds (default: 25 a second)."""
    av = pytest.importorskip("av")
    if codec not in av.codecs_available:
        pytest.skip(f"PyAV cannot write {codec}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.gop_size = gop
        unit = Fraction(1, 1000 if times else 25)
        stream.codec_context.time_base = unit
        for number, image in enumerate(pictures(COUNT)):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = (times[number] if times else number), unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def uneven() -> list[int]:
    return np.random.default_rng(1).integers(15, 90, COUNT).cumsum().tolist()


def check(path: Path, chosen: list[int], fps: float | None = None) -> FrameAccess:
    """Compare chosen frames, read in their order, with those of a pass from the start."""
    wanted, times = {}, []
    for number, (time, image) in enumerate(frames(path, fps)):
        times.append(time)
        if number in chosen:
            wanted[number] = image
    index = index_frames(path, fps)
    np.testing.assert_array_equal(index.times, times)
    with FrameAccess(path, index, fps) as access:
        for number in chosen:
            np.testing.assert_array_equal(access.frame(number), wanted[number])
            assert index.at(times[number] + 1e-4, 0.001) == number
    return access


CASES = {
    "h264 with B-frames, mp4": ("film.mp4", "libx264", {"bf": "3", "preset": "fast", "sc_threshold": "0"}, None),
    "h264 with open groups, mkv": ("film.mkv", "libx264", {"bf": "3", "x264-params": "open-gop=1:keyint=30"}, None),
    "h264, uneven times, mp4": ("film.mp4", "libx264", {"bf": "2"}, uneven()),
    "h265, mp4": ("film.mp4", "libx265", {"preset": "ultrafast", "x265-params": "log-level=none:keyint=30"}, None),
    "mpeg4 with B-frames, uneven times, mkv": ("film.mkv", "mpeg4", {"bf": "2"}, uneven()),
    "mpeg2, ts": ("film.ts", "mpeg2video", {"bf": "2"}, None),
    "vp8, webm": ("film.webm", "libvpx", {"deadline": "realtime"}, None),
    "vp9, uneven times, webm": ("film.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, uneven()),
    "mjpeg, mkv": ("film.mkv", "mjpeg", {}, None),
}


@pytest.mark.parametrize("case", CASES)
def test_frames_of_every_codec(case: str, tmp_path: Path) -> None:
    name, codec, options, times = CASES[case]
    access = check(encoded(tmp_path / name, codec, options, times), [140, 3, 75, 76, 100, 149, 60, 0, 120])
    assert access.seeks > 0


def test_avi_with_reordered_frames(tmp_path: Path) -> None:
    access = check(encoded(tmp_path / "film.avi", "mpeg4", {"bf": "2"}), [140, 3, 75, 149])
    assert access.index.seekable


def test_a_cut_by_an_edit_list(tmp_path: Path) -> None:
    path = write(tmp_path / "film.mp4", pictures(COUNT))
    skip_start(path, 2.0)
    check(path, [95, 10, 70, 0])


def test_one_key_frame_only(tmp_path: Path) -> None:
    check(encoded(tmp_path / "film.mp4", "libx264", {"bf": "3", "sc_threshold": "0"}, gop=1000), [140, 5, 100])


def test_times_that_seeking_cannot_know(tmp_path: Path) -> None:
    check(
        write_at(tmp_path / "film.mkv", pictures(60), [20 * k + 3000 * (k >= 30) for k in range(60)]), [59, 55, 31, 2]
    )


def test_a_folder_of_images(tmp_path: Path) -> None:
    for number, image in enumerate(pictures(9)):
        cv2.imwrite(str(tmp_path / f"img_{number:03d}.png"), image)
    check(tmp_path, [8, 0, 3], fps=10.0)


def test_seeks_that_lead_astray_do_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encoded(tmp_path / "film.mp4", "libx264", {"bf": "3"})

    def astray(self, wanted, index):
        self._decoder.seek(int(index.stamps[wanted - 9]))
        self._frames = self._decoder.frames()
        self.number = wanted - 4
        return True

    monkeypatch.setattr(module._Seeker, "seek", astray)
    assert check(path, [140, 3, 75]).restarts > 0
    monkeypatch.setattr(module._Seeker, "seek", lambda self, wanted, index: False)
    assert check(path, [140, 3, 75]).restarts > 0


def test_a_file_that_changed_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "film.mp4", pictures(100))
    index = index_frames(path)
    write(path, pictures(100, seed=3))
    with FrameAccess(path, index) as access, pytest.raises(UserError, match=r"frame 90 .*\(at 3\.600 s\) is not what"):
        access.frame(90)
    write(path, pictures(50))
    with FrameAccess(path, index) as access, pytest.raises(UserError, match="frame 90"):
        access.frame(90)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "film.mp4", pictures(20))
    index = index_frames(path)
    with FrameAccess(path, index) as access:
        with pytest.raises(UserError, match="has frames 0 to 19, not 20"):
            list(access.read([3, 20]))
        with pytest.raises(UserError, match="holds no stored flow"):
            access.stored_flow(0)
    with pytest.raises(
        UserError, match=r"no frame within 0\.01 s of 5\.000 s: the nearest of 20 is number 19 at 0\.760 s"
    ):
        index.at(5.0, 0.01)


def test_an_index_is_kept_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, kept = write(tmp_path / "film.mp4", pictures(20)), tmp_path / "indices"
    first = index_frames(path, folder=kept)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_index", None)
        again = index_frames(path, folder=kept)
    for name, value in vars(first).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    write(path, pictures(21))
    assert len(index_frames(path, folder=kept)) == 21
    for file in kept.iterdir():
        file.write_bytes(b"")
    assert len(index_frames(path, folder=kept)) == 21


def test_real_videos(shared: Path) -> None:
    """Frames in falling order of each (smaller) file have the checksums of a pass over it from the start."""
    paths = [path for path in sorted((shared / "data" / "videos").glob("*")) if path.stat().st_size < 600_000]
    assert paths
    for path in paths:
        index = index_frames(path)
        with FrameAccess(path, index) as access:
            for number in (len(index) - 1, len(index) // 2, len(index) // 5):
                assert module._checksum(access.frame(number)) == index.checksums[number]
