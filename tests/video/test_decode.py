import sys

import numpy as np
import pytest
from films import pictures, rotate_tag, write, write_at, write_audio

from ssn_feat.errors import UserError
from ssn_feat.video import decoder_versions, frames, import_cv2, probe


def test_every_frame_comes_once_in_order_with_its_time(tmp_path):
    images = pictures(30)
    film = frames(write(tmp_path / "a.avi", images))
    found = list(film)
    assert [round(time, 6) for time, _ in found] == [round(i / 25, 6) for i in range(30)]
    for image, (_, decoded) in zip(images, found, strict=True):
        assert decoded.shape == (48, 64, 3)
        assert decoded.dtype == np.uint8
        assert np.abs(decoded.astype(int) - image).mean() < 10  # MJPEG halves the resolution of colour
    summary = film.decoded
    assert (summary.frames, summary.declared_frames, summary.width, summary.height) == (30, 30, 64, 48)
    assert summary.last_time == pytest.approx(29 / 25)
    assert summary.duration == pytest.approx(30 / 25)
    assert summary.fps == pytest.approx(25)
    assert summary.warnings == ()


def test_probe_reads_the_header(tmp_path):
    found = probe(write(tmp_path / "a.mp4", pictures(10), fps=12.5))
    assert (found.width, found.height, found.fps, found.declared_frames) == (64, 48, 12.5, 10)
    assert found.duration == pytest.approx(0.8)


def test_odd_sizes_and_a_single_frame(tmp_path):
    film = frames(write_at(tmp_path / "a.mkv", pictures(1, width=67, height=51), [0]))
    assert [(time, image.shape) for time, image in film] == [(0.0, (51, 67, 3))]
    assert film.decoded.duration == pytest.approx(1 / film.probe.fps)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_variable_frame_rate_keeps_presentation_times(tmp_path, suffix):
    at = [0, 40, 80, 400, 440, 480, 1000, 1500, 1540]
    film = frames(write_at(tmp_path / f"a{suffix}", pictures(len(at)), at))
    assert [round(1000 * time) for time, _ in film] == at
    assert film.decoded.duration == pytest.approx(1.54 + 1.54 / 8, abs=2e-3)


def test_rotation_is_applied(tmp_path):
    plain = write(tmp_path / "a.mp4", pictures(3))
    upright = [image for _, image in frames(plain)]
    turned = [image for _, image in frames(rotate_tag(plain))]
    assert turned[0].shape == (64, 48, 3)
    for before, after in zip(upright, turned, strict=True):
        np.testing.assert_array_equal(after, np.rot90(before, k=-1))
    assert (probe(plain).width, probe(plain).height) == (48, 64)


def test_webm_count_comes_from_decoding(tmp_path):
    film = frames(write(tmp_path / "a.webm", pictures(23)))
    assert len(list(film)) == film.decoded.frames == 23


def test_a_truncated_file_yields_what_is_there_and_says_so(tmp_path):
    whole = write(tmp_path / "a.avi", pictures(60))
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    film = frames(cut)
    count = len(list(film))
    assert 0 < count < 60
    assert film.decoded.frames == count
    assert any("declares 60" in line for line in film.decoded.warnings)


def test_header_without_frames_is_an_error(tmp_path):
    whole = write(tmp_path / "a.avi", pictures(5))
    data = whole.read_bytes()
    whole.write_bytes(data[: data.index(b"movi") + 4])
    with pytest.raises(UserError, match=r"a\.avi"):
        list(frames(whole))


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "empty"), (b"this is text\n" * 100, "not a video"), (bytes(5000), "not a video")]
)
def test_files_that_are_no_video(tmp_path, content, words):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    for read in (frames, probe):
        with pytest.raises(UserError, match=words) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_missing_files_folders_and_audio(tmp_path):
    with pytest.raises(UserError, match="no video"):
        frames(tmp_path / "absent.mp4")
    with pytest.raises(UserError, match="folder"):
        frames(tmp_path)
    with pytest.raises(UserError, match="no video stream"):
        frames(write_audio(tmp_path / "sound.m4a"))


def test_avi_with_reordered_frames_has_the_times_of_ffmpeg(shared):
    film = frames(next((shared / "data" / "videos").glob("hmdb51_Turnk*.avi")))
    times = np.array([time for time, _ in film])
    assert len(times) == 83
    # The container has no presentation times: ffprobe gives the first frame a best-effort timestamp of 0.066667.
    np.testing.assert_allclose(times, (np.arange(83) + 2) / 30, atol=1e-6)
    assert film.decoded.duration == pytest.approx(85 / 30)


def test_missing_graphics_library_names_the_drop_in(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match="pip install opencv-python"):
        import_cv2()

    class NoGraphics:
        def find_spec(self, name, path=None, target=None):
            if name == "cv2":
                raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.delitem(sys.modules, "cv2")
    monkeypatch.setattr(sys, "meta_path", [NoGraphics(), *sys.meta_path])
    with pytest.raises(UserError, match=r"libGL.*opencv-python-headless"):
        import_cv2()


def test_decoder_versions_are_named():
    versions = decoder_versions()
    assert set(versions) == {"av", "avcodec", "swscale", "opencv"}
    assert all(part.isdigit() for part in versions["avcodec"].split("."))
