"""One video in memory: rows and times of the grid, whatever the batches; crops averaged or kept."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from small import pictures, videos, write

from ssn_feat.backbones import Backbone, load_backbone
from ssn_feat.errors import UserError
from ssn_feat.extraction import backbones_of, extract_video, recipe_of, snippet_options_of
from ssn_feat.extraction.extract_video import Feeder
from ssn_feat.video import SnippetOptions, frames, import_cv2, snippet_grid, snippets

OPTIONS = SnippetOptions(stride=4, short_side=40, crop=32).resolved()


@pytest.fixture(scope="module")
def backbones() -> dict[str, Backbone]:
    return {stream: load_backbone("tiny:net", stream) for stream in ("rgb", "flow")}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return videos(tmp_path_factory.mktemp("videos"), count=1, frames=30) / "v0.avi"


def test_features_are_those_of_the_snippets(video: Path, backbones: dict[str, Backbone]) -> None:
    extracted = extract_video(video, backbones, OPTIONS, batch=3)
    (whole,) = snippets(video, OPTIONS, 100)
    for stream, rows in extracted.features.items():
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, backbones[stream](whole.streams[stream]).numpy(), atol=1e-5)
    grid = snippet_grid(np.arange(30) / 25, 1.2, 4)
    np.testing.assert_allclose(extracted.spans, grid.spans, atol=1e-6)


def test_batches_do_not_change_features(video: Path, backbones: dict[str, Backbone]) -> None:
    seen: list[int] = []
    one = extract_video(video, backbones, OPTIONS, batch=1, on_rows=seen.append)
    all_ = extract_video(video, backbones, OPTIONS, batch=100)
    for stream in OPTIONS.streams:
        np.testing.assert_allclose(one.features[stream], all_.features[stream], atol=1e-6)
    assert sum(seen) == len(one.spans)


def test_what_is_recorded(video: Path, backbones: dict[str, Backbone]) -> None:
    info = extract_video(video, backbones, OPTIONS).info
    assert info["duration"] == pytest.approx(30 / 25)
    assert info["fps"] == pytest.approx(25)
    assert info["frames"] == {"decoded": 30, "declared": 30}
    assert info["source"]["name"] == "v0.avi"
    assert info["source"]["bytes"] == video.stat().st_size
    assert info["warnings"] == []


def test_crops_are_averaged_or_kept(video: Path, backbones: dict[str, Backbone]) -> None:
    ten = SnippetOptions(stride=4, short_side=40, crop=32, crops="ten")
    mean = extract_video(video, backbones, ten, batch=3)
    kept = extract_video(video, backbones, ten, batch=2, keep_crops=True)
    centre = extract_video(video, backbones, OPTIONS)
    for stream in ten.streams:
        assert kept.features[stream].shape == (len(kept.spans), 10, 6)
        np.testing.assert_allclose(kept.features[stream].mean(axis=1), mean.features[stream], atol=1e-5)
        # Corners at multiples of a quarter of the slack: the ninth crop is the centre.
        np.testing.assert_allclose(kept.features[stream][:, 8], centre.features[stream], atol=1e-5)


def test_shortest_video(tmp_path: Path, backbones: dict[str, Backbone]) -> None:
    extracted = extract_video(write(tmp_path / "one.avi", pictures(1)), backbones, OPTIONS)
    assert len(extracted.spans) == len(extracted.features["flow"]) == 1
    assert all(np.isfinite(rows).all() for rows in extracted.features.values())


def test_unreadable_video(tmp_path: Path, backbones: dict[str, Backbone]) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(UserError, match=r"text\.mp4 is not a video"):
        extract_video(tmp_path / "text.mp4", backbones, OPTIONS)


def test_backbone_that_does_not_fit(video: Path, backbones: dict[str, Backbone]) -> None:
    with pytest.raises(UserError, match="no backbone for the stream flow"):
        extract_video(video, {"rgb": backbones["rgb"]}, OPTIONS)
    with pytest.raises(UserError, match="takes 3 channels of 32 pixels a side, but snippets have 3 of 24"):
        extract_video(video, backbones, SnippetOptions(short_side=40, crop=24))


def test_recipe_gives_options_and_backbones_back(backbones: dict[str, Backbone]) -> None:
    recipe = recipe_of(backbones, OPTIONS)
    assert dataclasses.replace(snippet_options_of(recipe), streams=OPTIONS.streams, clip_length=6) == OPTIONS
    assert set(snippet_options_of(recipe).streams) == set(OPTIONS.streams)
    again = backbones_of(recipe, {"rgb": None}, trusted=("tiny:net",))
    assert recipe_of(again, snippet_options_of(recipe)) == recipe
    flow = recipe["streams"]["flow"]
    changed = flow | {"backbone": flow["backbone"] | {"weights_sha256": "0"}}
    with pytest.raises(UserError, match=r"streams\.flow\.backbone\.weights_sha256 was 0 and is"):
        backbones_of(recipe | {"streams": {"flow": changed, "rgb": recipe["streams"]["rgb"]}}, trusted=("tiny:net",))
    with pytest.raises(UserError, match="were not extracted from videos by this program"):
        snippet_options_of({"stride": 4})


def test_recipe_leaves_out_what_decides_nothing(backbones: dict[str, Backbone]) -> None:
    def rgb(**changes: object) -> dict[str, object]:
        options = SnippetOptions(stride=4, short_side=40, crop=32, streams=("rgb",), **changes).resolved()  # type: ignore[arg-type]
        return recipe_of(backbones, options)

    assert rgb() == rgb(flow_method="farneback", flow_bound=10.0)
    assert rgb() != rgb(rgb_frame="first")
    assert "flow_quantised" not in recipe_of(backbones, OPTIONS)["snippets"]


def test_flow_that_is_not_quantised_is_another_recipe(video: Path, backbones: dict[str, Backbone]) -> None:
    fine = dataclasses.replace(OPTIONS, flow_quantised=False)
    assert recipe_of(backbones, fine)["snippets"]["flow_quantised"] is False
    assert not snippet_options_of(recipe_of(backbones, fine)).flow_quantised
    eighth, found = (extract_video(video, backbones, options).features for options in (OPTIONS, fine))
    np.testing.assert_array_equal(found["rgb"], eighth["rgb"])
    assert 0 < np.abs(found["flow"] - eighth["flow"]).max() < 0.1 * np.abs(eighth["flow"]).max()


def test_batches_halve_when_memory_runs_out(
    video: Path, backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = extract_video(video, backbones, OPTIONS, batch=5)
    plain = Backbone.__call__

    def small_memory(self: Backbone, pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return plain(self, pixels)

    monkeypatch.setattr(Backbone, "__call__", small_memory)
    found = extract_video(video, backbones, OPTIONS, batch=5)
    for stream, rows in expected.features.items():
        np.testing.assert_allclose(found.features[stream], rows, atol=1e-6)
    assert "4 inputs do not fit into memory: batches of 2 from now on" in capsys.readouterr().err


class OnPretendedGpu:
    """A backbone that says it is on a GPU; keeps how many inputs it was given, and takes no more than ``most``."""

    device = torch.device("cuda")

    def __init__(self, backbone: Backbone, most: int = 1000) -> None:
        self.backbone, self.most = backbone, most
        self.given: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.backbone, name)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        self.given.append(len(pixels))
        return self.backbone(pixels)


def inputs(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(shape) * shape[0])
    return torch.randint(0, 256, (*shape, 3, 32, 32), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("keep_crops", [False, True])
def test_a_gpu_is_given_powers_of_two(backbones: dict[str, Backbone], count: int, keep_crops: bool) -> None:
    gpu, plain = OnPretendedGpu(backbones["rgb"]), Feeder(backbones["rgb"], keep_crops)
    feeder = Feeder(gpu, keep_crops)  # type: ignore[arg-type]
    for pixels in (inputs(count), inputs(count, 10)):
        found, expected = feeder(pixels), plain(pixels)
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert gpu.given == [1 << (count - 1).bit_length(), 1 << (10 * count - 1).bit_length()]


def test_a_gpu_of_little_memory_is_given_powers_of_two(backbones: dict[str, Backbone]) -> None:
    gpu, pixels = OnPretendedGpu(backbones["rgb"], most=4), inputs(13)
    feeder = Feeder(gpu, keep_crops=False)  # type: ignore[arg-type]
    torch.testing.assert_close(feeder(pixels), backbones["rgb"](pixels), rtol=0, atol=1e-6)
    assert gpu.given == [4, 4, 4, 1]


def test_cut_file_says_so(tmp_path: Path, backbones: dict[str, Backbone]) -> None:
    whole = write(tmp_path / "whole.avi", pictures(60))
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert extract_video(whole, backbones, OPTIONS).info["damage"] == ""
    assert extract_video(cut, backbones, OPTIONS).info["damage"]


def test_folder_of_images(video: Path, tmp_path: Path, backbones: dict[str, Backbone]) -> None:
    images = tmp_path / "v0"
    images.mkdir()
    for number, (_, image) in enumerate(frames(video), start=1):
        import_cv2().imwrite(str(images / f"img_{number:05d}.png"), image)
    of_images = extract_video(images, backbones, OPTIONS, fps=25.0)
    of_video = extract_video(video, backbones, OPTIONS)
    np.testing.assert_allclose(of_images.spans, of_video.spans, atol=1e-6)
    for stream, rows in of_video.features.items():
        np.testing.assert_array_equal(of_images.features[stream], rows)
    assert of_images.info["source"]["bytes"] == sum(file.stat().st_size for file in images.iterdir())


def test_threads_of_the_caller_are_left_alone(video: Path, backbones: dict[str, Backbone]) -> None:
    before = torch.get_num_threads()
    extract_video(video, backbones, OPTIONS)
    assert torch.get_num_threads() == before
