"""Clips, crops of several sizes, grids by time, and frames that are prepared on a device."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from films import pictures, write, write_at

from ssn_feat.errors import UserError
from ssn_feat.video import ResampledSource, ResolvedSnippets, SnippetOptions, frames, open_source, snippets
from ssn_feat.video.network_inputs import gray_images, resize, resize_images
from ssn_feat.video.pictures import PictureConverter
from ssn_feat.video.window import Window

SMALL = {"short_side": 40, "crop": 32}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write(tmp_path_factory.mktemp("film") / "a.avi", pictures(53, shift=1))


def rows(path, options, batch_size=4):
    run = snippets(path, options, batch_size)
    batches = list(run)
    return {stream: torch.cat([b.streams[stream] for b in batches]) for stream in options.streams}, run


@pytest.mark.parametrize(("length", "step"), [(16, 1), (7, 3), (3, 1), (40, 2), (1, 1)])
def test_a_clip_has_its_snippet_in_its_middle_and_repeats_its_ends(film, length, step):
    one, _ = rows(film, SnippetOptions(stride=1, streams=("rgb",), rgb_frame="first", **SMALL))
    frame_of = one["rgb"]  # frames 0 .. 47: a snippet of five pairs begins at each of them
    options = SnippetOptions(stride=6, streams=("clip", "rgb"), clip_length=length, clip_step=step, **SMALL)
    found, run = rows(film, options)
    assert len(found["clip"]) == len(run.grid.first) == 8
    for first, clip, middle in zip(run.grid.first, found["clip"], found["rgb"], strict=True):
        wanted = [first + 2 + (k - (length - 1) // 2) * step for k in range(length)]
        inside = [i for i in wanted if 0 <= i < 53]
        wanted = np.clip(wanted, inside[0], inside[-1])
        if wanted.max() < 48:
            torch.testing.assert_close(clip, torch.cat([frame_of[i] for i in wanted]), rtol=0, atol=0)
        centre = 3 * ((length - 1) // 2)
        torch.testing.assert_close(clip[centre : centre + 3], middle, rtol=0, atol=0)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_clips_do_not_depend_on_batches(film, batch_size):
    options = SnippetOptions(stride=4, streams=("clip", "flow"), clip_length=20, clip_step=2, **SMALL)
    reference, _ = rows(film, options, 4)
    found, _ = rows(film, options, batch_size)
    for stream in options.streams:
        torch.testing.assert_close(found[stream], reference[stream], rtol=0, atol=0)


def test_streams_of_several_sizes_are_each_like_alone(film):
    both = ResolvedSnippets(
        streams=("rgb", "clip", "flow"), crop=32, short_side=40, flow_method="dis", stream_crops=("clip=16",)
    )
    found, _ = rows(film, both)
    clip, _ = rows(film, SnippetOptions(streams=("clip",), crop=16, short_side=20))
    rest, _ = rows(film, SnippetOptions(streams=("rgb", "flow"), crop=32, short_side=40))
    for stream, expected in (clip | rest).items():
        torch.testing.assert_close(found[stream], expected, rtol=0, atol=0)
    assert list(found) == ["rgb", "clip", "flow"]


def test_open_options_are_the_networks():
    options = SnippetOptions(streams=("rgb", "clip"))
    of_299 = options.resolved({"rgb": 299, "clip": 112}, clip_length=16)
    assert (of_299.crop, of_299.short_side, of_299.clip_length) == (299, 342, 16)
    assert (of_299.crop_of("rgb"), of_299.crop_of("clip")) == (299, 112)
    asked = SnippetOptions(streams=("rgb", "clip"), crop=224, short_side=256).resolved({"rgb": 224, "clip": 224})
    assert (asked.crop, asked.short_side, asked.stream_crops) == (224, 256, ())
    assert options.resolved().crop == 224
    assert (options.resolved().flow_method, options.resolved(device="cuda").flow_method) == ("dis", "tvl1_fixed")
    with pytest.raises(UserError, match=r"short_side must be 0 .no scaling. or at least 299"):
        SnippetOptions(short_side=256).resolved({"rgb": 299, "flow": 299})


def test_a_grid_by_time_is_that_of_frames_where_they_come_at_its_rate(film):
    by_frame, plain = rows(film, SnippetOptions(**SMALL))
    by_time, nominal = rows(film, SnippetOptions(nominal_fps=25, **SMALL))
    for stream, expected in by_frame.items():
        torch.testing.assert_close(by_time[stream], expected, rtol=0, atol=0)
    np.testing.assert_allclose(nominal.grid.spans, plain.grid.spans, atol=1e-6)
    assert nominal.decoded.frames == 53


def test_a_grid_by_time_reads_the_frame_on_show(tmp_path):
    images = pictures(6, shift=1)
    times = [0, 40, 41, 200, 1000, 1040]  # milliseconds
    path = write_at(tmp_path / "a.mkv", images, times)
    decoded = [image for _, image in frames(path)]
    source = ResampledSource(open_source(path), 10.0)
    shown = []
    while source.advance():
        assert source.time == pytest.approx(len(shown) / 10)
        shown.append(next(i for i, image in enumerate(decoded) if np.array_equal(image, source.image())))
    # Seconds 0, 0.1, ... : frame 2 from 0.041 s, frame 3 from 0.2 s to 0.9 s; the last ends one mean interval late.
    assert shown == [0, 2, 3, 3, 3, 3, 3, 3, 3, 3, 4, 5, 5]
    assert source.decoded().frames == 6


def test_grids_by_time_of_one_film_at_two_rates_align(tmp_path):
    images = [np.full((48, 64, 3), 10 * (i // 4), np.uint8) for i in range(40)]
    fast = write(tmp_path / "fast.avi", images, fps=40)
    slow = write(tmp_path / "slow.avi", images[::4], fps=10)
    options = SnippetOptions(streams=("rgb",), nominal_fps=10, stride=2, **SMALL)
    found, one = rows(fast, options)
    expected, other = rows(slow, options)
    torch.testing.assert_close(found["rgb"], expected["rgb"], rtol=0, atol=0)
    np.testing.assert_allclose(one.grid.spans, other.grid.spans, atol=1e-6)


def test_a_grid_by_time_converts_the_frames_on_show_once(tmp_path, monkeypatch):
    converted, convert = [], PictureConverter.bgr
    monkeypatch.setattr(
        PictureConverter, "bgr", lambda self, frame: converted.append(frame.pts) or convert(self, frame)
    )
    for fps, expected in ((5.0, 8), (50.0, 40)):
        converted.clear()
        source = ResampledSource(open_source(write(tmp_path / "a.avi", pictures(40), fps=25)), fps)
        while source.advance():
            source.image()
        assert len(converted) == expected
        assert source.frames == 1.6 * fps


def test_frames_prepared_on_a_device_are_those_of_the_cpu_within_a_level(film, monkeypatch):
    options = SnippetOptions(streams=("rgb", "clip", "flow"), flow_method="tvl1_fixed", stride=16, **SMALL)
    expected, _ = rows(film, options)
    plain = Window.__init__

    def on_device(self, *arguments):
        plain(self, *arguments)
        self._here = False

    monkeypatch.setattr(Window, "__init__", on_device)
    found, _ = rows(film, options)
    for stream in ("rgb", "clip"):
        assert (found[stream].int() - expected[stream].int()).abs().max() <= 1
    assert (found["flow"].float() - expected["flow"].float()).abs().mean() < 0.2


def test_batched_gray_and_resizing(film):
    cv2 = pytest.importorskip("cv2")
    images = [image for _, image in frames(film)][:3]
    planes = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    for image, gray in zip(images, gray_images(planes), strict=True):
        np.testing.assert_array_equal(gray.numpy(), cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    for how in ("plain", "smooth"):
        scaled = resize_images(planes, (53, 40), how).permute(0, 2, 3, 1).numpy().astype(int)
        expected = np.stack([resize(image, (53, 40), how) for image in images])
        assert np.abs(scaled - expected).max() <= 1


def test_damaged_files_are_read_without_a_word(tmp_path):
    path = write(tmp_path / "a.mp4", pictures(60))
    data = bytearray(path.read_bytes())
    for at in np.random.default_rng(0).integers(len(data) // 4, len(data) * 3 // 4, 300):
        data[at] ^= 0xFF
    path.write_bytes(data)
    (tmp_path / "text.mp4").write_text("no video")
    script = """
import sys
from ssn_feat import UserError, video
print(len(list(video.frames(sys.argv[1]))))
try:
    video.frames(sys.argv[2])
except UserError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", script, path, tmp_path / "text.mp4"], capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    assert "not a video" in run.stdout
