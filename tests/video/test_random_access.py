"""Single snippets are the same pixels as those of a pass over the whole video; what was made once is kept."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from films import pictures, write

from ssn_feat.errors import UserError
from ssn_feat.video import ResolvedSnippets, SnippetOptions, random_access, snippets
from ssn_feat.video.cache import PixelCache
from ssn_feat.video.frame_index import FrameAccess, index_frames
from ssn_feat.video.random_access import IndexedVideo, SnippetRows


def options(**values) -> ResolvedSnippets:
    return SnippetOptions(**({"stride": 4, "short_side": 40, "crop": 32} | values)).resolved()


def whole_pass(path: Path, cut: ResolvedSnippets, fps: float | None = None) -> dict[str, torch.Tensor]:
    batches = list(snippets(path, cut, fps=fps))
    return {stream: torch.cat([batch.streams[stream] for batch in batches]) for stream in cut.streams}


def centre(image: np.ndarray, crop: int) -> np.ndarray:
    y, x = (round((side - crop) / 2) for side in image.shape[:2])
    return image[y : y + crop, x : x + crop].transpose(2, 0, 1)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"flow_method": "farneback", "rgb_frame": "first", "resize": "smooth"},
        {"flow_bound": 8.0, "stretch": 60, "stride": 7},
        {"nominal_fps": 10.0, "stride": 2},
        {"nominal_fps": 60.0},
    ],
)
@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_rows_are_those_of_the_whole_pass(tmp_path: Path, count: int, values: dict) -> None:
    path = write(tmp_path / "film.mp4", pictures(count))
    cut = options(**values)
    expected, video = whole_pass(path, cut), IndexedVideo("film", path, index_frames(path))
    assert len(expected["rgb"]) == len(video.grid(cut).first)
    rows = np.arange(len(video.grid(cut).first))[::-2]
    for stream in ("rgb", "flow"):
        found = SnippetRows(cut, stream).read(video, rows)
        assert sorted(found) == sorted(rows)
        for row, image in found.items():
            np.testing.assert_array_equal(centre(image, cut.crop), expected[stream][row].numpy())


def write_two_interlaced_streams(path: Path, count: int) -> Path:
    """Two streams of 25 frames a second with a key frame every 20, marked as interlaced, of different pictures."""
    settings = {"x264-params": "tff=1:keyint=20:bframes=2", "flags": "+ildct+ilme"}
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25, options=settings) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for seed, stream in enumerate(streams):
            for image in pictures(count, seed=seed, shift=3):
                image[1::2] = np.roll(image[1::2], 2, axis=1)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("deinterlace", "stream"), [("off", -1), ("off", 1), ("auto", 1)])
def test_rows_of_another_stream_and_of_interlaced_frames(tmp_path: Path, deinterlace: str, stream: int) -> None:
    path = write_two_interlaced_streams(tmp_path / "film.mkv", 100)
    cut = options(deinterlace=deinterlace, video_stream=stream, short_side=48)
    how = {"stream": stream, "deinterlace": deinterlace == "auto"}
    index = index_frames(path, folder=tmp_path / "indices", **how)
    expected, video = whole_pass(path, cut), IndexedVideo("film", path, index)
    for kind in ("rgb", "flow"):
        for row, image in SnippetRows(cut, kind).read(video, [20, 3, 14]).items():
            np.testing.assert_array_equal(centre(image, cut.crop), expected[kind][row].numpy())
    with FrameAccess(path, index, **how) as access:
        assert [number for number, _ in access.read([5, 66, 95])] == [5, 66, 95]
        assert (access.seeks, access.restarts) == (1, 0)
    default = index_frames(path, folder=tmp_path / "indices")
    assert not np.array_equal(default.checksums, index.checksums)


def test_rows_of_a_file_without_timestamps(tmp_path: Path) -> None:
    path = tmp_path / "film.h264"
    with av.open(str(path), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for image in pictures(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    cut = options(nominal_fps=25.0)
    expected, video = whole_pass(path, cut), IndexedVideo("film", path, index_frames(path, untimed_fps=25.0))
    assert len(expected["rgb"]) == len(video.grid(cut).first)
    for row, image in SnippetRows(cut, "rgb").read(video, range(len(expected["rgb"]))).items():
        np.testing.assert_array_equal(centre(image, cut.crop), expected["rgb"][row].numpy())


def test_the_grid_of_a_video_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "film.mp4", pictures(30))
    video, computed, compute = IndexedVideo("film", path, index_frames(path)), [], random_access.snippet_grid
    monkeypatch.setattr(random_access, "snippet_grid", lambda *given: computed.append(given) or compute(*given))
    for cut in (options(), options(nominal_fps=10.0)):
        rows = SnippetRows(cut, "rgb")
        assert rows.read(video, [1]).keys() == {1}
        assert rows.read(video, [0]).keys() == {0}
    assert len(computed) == 2


def test_flow_to_learn_from_is_quantised() -> None:
    with pytest.raises(UserError, match="leave flow_quantised on"):
        SnippetRows(options(flow_quantised=False), "flow")
    SnippetRows(options(flow_quantised=False), "rgb")


@pytest.mark.parametrize("method", ["stored", "dis"])
@pytest.mark.parametrize("count", [1, 3, 30])
def test_folders_of_images_and_their_stored_flow(tmp_path: Path, count: int, method: str) -> None:
    folder = tmp_path / "film"
    folder.mkdir()
    for number, image in enumerate(pictures(count), start=1):
        cv2.imwrite(str(folder / f"img_{number:05d}.png"), image)
    for number, image in enumerate(pictures(max(count - 1, 1), seed=1), start=1):
        if count > 1:
            cv2.imwrite(str(folder / f"flow_x_{number:05d}.png"), image[..., 0])
            cv2.imwrite(str(folder / f"flow_y_{number:05d}.png"), image[..., 1])
    cut = options(flow_method=method)
    expected, video = whole_pass(folder, cut, 25.0), IndexedVideo("film", folder, index_frames(folder, 25.0), 25.0)
    for stream in ("rgb", "flow"):
        for row, image in SnippetRows(cut, stream).read(video, range(len(video.grid(cut).first))).items():
            np.testing.assert_array_equal(centre(image, cut.crop), expected[stream][row].numpy())


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_what_was_made_is_kept(tmp_path: Path, stream: str) -> None:
    path = write(tmp_path / "film.mp4", pictures(30))
    cut, video = options(), IndexedVideo("film", path, index_frames(path))
    cache = PixelCache(tmp_path / "cache", 10_000_000)
    first = SnippetRows(cut, stream, cache).read(video, [1, 4])
    path.rename(tmp_path / "gone.mp4")
    again = SnippetRows(cut, stream, cache).read(video, [4, 1])
    assert all(np.array_equal(first[row], again[row]) for row in (1, 4))
    with pytest.raises(UserError, match="there is no video"):
        SnippetRows(options(short_side=48), stream, cache).read(video, [1])


def test_an_error_names_the_video_and_the_time(tmp_path: Path) -> None:
    path = write(tmp_path / "film.mp4", pictures(60))
    video = IndexedVideo("v/1", path, index_frames(path))
    write(path, pictures(60, seed=5))
    with pytest.raises(UserError, match=r"video 'v/1', snippets between 0\.400 s and 1\.680 s: frame 10 of .*changed"):
        SnippetRows(options(), "rgb").read(video, [2, 10])
    with pytest.raises(UserError, match="cannot be read row by row"):
        SnippetRows(options(), "clip")  # type: ignore[arg-type]


def picture(seed: int) -> np.ndarray:
    return cv2.resize(np.random.default_rng(seed).integers(0, 256, (6, 8, 10), dtype=np.uint8), (80, 60))


def test_a_cache_keeps_within_its_bound_and_forgets_the_oldest(tmp_path: Path) -> None:
    cache = PixelCache(tmp_path / "cache", 1_000_000)
    for number in range(60):
        cache.put(str(number), picture(number))
        assert cache.size() <= 1_000_000
        assert np.array_equal(cache.get(str(number)), picture(number))
    assert cache.size() > 600_000
    assert cache.get("0") is None
    PixelCache(tmp_path / "small", 1000).put("0", picture(0))
    assert PixelCache(tmp_path / "small", 1000).get("0") is None


def test_a_damaged_file_of_a_cache_counts_as_absent(tmp_path: Path) -> None:
    cache = PixelCache(tmp_path, 1_000_000)
    cache.put("a", picture(0))
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    content = bytearray(file.read_bytes())
    content[5000] ^= 4
    file.write_bytes(content)
    assert cache.get("a") is None
    file.write_bytes(content[:100])
    assert cache.get("a") is None
    with pytest.raises(UserError, match="positive limit"):
        PixelCache(tmp_path, 0)
