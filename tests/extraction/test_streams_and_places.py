"""Streams of every kind from end to end, networks per stream, devices and precision, dask, the lazy package."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import HERE, arrays, options, videos

from ssn_feat import cli
from ssn_feat.backbones import load_backbone
from ssn_feat.errors import UserError
from ssn_feat.extraction import ExtractOptions, backbones_of, extract, extract_video, snippet_options_of
from ssn_feat.extraction import worker_pools as pools
from ssn_feat.extraction.extract import resolve_defaults
from ssn_feat.extraction.extract_video import resolve_snippets
from ssn_feat.extraction.worker_pools import WorkerContext
from ssn_feat.progress import about
from ssn_feat.store import open_store
from ssn_feat.video import SnippetOptions, snippets

MODULE: Any = sys.modules["ssn_feat.extraction.extract"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return videos(tmp_path_factory.mktemp("source") / "toyset")


def test_every_stream_with_networks_of_its_own(folder: Path, tmp_path: Path) -> None:
    chosen = options(
        folder,
        tmp_path / "s.zarr",
        streams=("rgb", "flow", "rgbdiff", "clip"),
        backbone=("rgb=tiny:net", "flow=tiny:net", "rgbdiff=tiny:net", "clip=tiny:clips"),
    )
    assert extract(chosen).exit_code == 0
    store = open_store(tmp_path / "s.zarr")
    recipe = store.recipe["snippets"]
    assert (recipe["crop"], recipe["short_side"]) == (32, 37)
    assert (recipe["stream_crops"], recipe["clip_length"]) == (["clip=16"], 8)
    cut = snippet_options_of(store.recipe)
    found = extract_video(folder / "v1.avi", backbones_of(store.recipe, trusted=("tiny:net", "tiny:clips")), cut)
    stored = store.read("v1")
    for stream in cut.streams:
        np.testing.assert_array_equal(stored.features[stream], found.features[stream].astype(np.float16))
    (whole,) = snippets(folder / "v1.avi", cut, 100)
    clips = whole.streams["clip"].unflatten(1, (8, 3)).transpose(1, 2)
    by_hand = load_backbone("tiny:clips", "clip")(clips)
    np.testing.assert_allclose(by_hand.numpy(), found.features["clip"], atol=1e-5)


def test_differences_of_frames_have_no_mean_and_keep_the_colours_apart() -> None:
    backbone = load_backbone("tiny:net", "rgbdiff")
    pixels = torch.randint(0, 256, (2, 18, 32, 32), dtype=torch.uint8)
    found = backbone.preprocess(pixels)
    assert found.shape == (2, *backbone.input_shape) == (2, 15, 32, 32)
    frames = pixels.float().unflatten(1, (6, 3)).flip(2) / 255  # the network's order is RGB
    torch.testing.assert_close(found, (frames[:, 1:] - frames[:, :-1]).flatten(1, 2))
    still = pixels[:, :3].repeat(1, 6, 1, 1)
    assert not backbone.preprocess(still).any()


def test_clips_need_a_network_of_clips(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the stream clip needs a video model"):
        extract(options(folder, tmp_path / "s.zarr", streams=("clip",)))
    with pytest.raises(UserError, match="use the stream clip"):
        extract(options(folder, tmp_path / "s.zarr", streams=("rgb",), backbone=("tiny:clips",)))
    with pytest.raises(UserError, match="takes clips of RGB frames, not the stream 'flow'"):
        extract(options(folder, tmp_path / "s.zarr", streams=("flow",), backbone=("tiny:clips",)))


def test_a_video_model_of_torchvision(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    chosen = options(
        folder / "v0.avi",
        tmp_path / "s.zarr",
        streams=("clip",),
        backbone=("torchvision:mc3_18",),
        weights=("clip=random:0",),
        stride=12,
        crop=32,
    )
    assert extract(chosen).exit_code == 0
    store = open_store(tmp_path / "s.zarr")
    assert store.read("v0").features["clip"].shape == (2, 512)
    assert store.recipe["snippets"]["clip_length"] == 16


def test_an_explicit_crop_is_the_networks_input(folder: Path, tmp_path: Path) -> None:
    extract(options(folder, tmp_path / "s.zarr", crop=48, short_side=56, streams=("rgb",)))
    recipe = open_store(tmp_path / "s.zarr").recipe
    assert (recipe["snippets"]["crop"], recipe["streams"]["rgb"]["backbone"]["input_size"]) == (48, 48)
    with pytest.raises(UserError, match=r"short_side must be 0 .no scaling. or at least 32"):
        extract(options(folder, tmp_path / "t.zarr", short_side=20))


def test_half_precision_is_in_the_recipe_and_close(folder: Path, tmp_path: Path) -> None:
    for name in ("float32", "bfloat16"):
        extract(options(folder, tmp_path / name, precision=name))
    full, half = (open_store(tmp_path / name) for name in ("float32", "bfloat16"))
    assert "precision" not in full.recipe["streams"]["rgb"]["backbone"]
    assert half.recipe["streams"]["rgb"]["backbone"]["precision"] == "bfloat16"
    assert full.fingerprint != half.fingerprint
    one, other = full.read("v0").features["rgb"], half.read("v0").features["rgb"]
    assert 0 < np.abs(one - other).max() < 0.05 * np.abs(one).max()
    # On a CPU one more video is extracted in float32, whatever the recipe says.
    assert backbones_of(half.recipe, trusted=("tiny:net",))["rgb"].precision == "float32"


def test_features_beyond_float16_name_the_precision(folder: Path, tmp_path: Path) -> None:
    report = extract(options(folder, tmp_path / "s.zarr", precision="float16", backbone=("tiny:large",)))
    assert set(report.failures) == {"v0", "v1", "v2"}
    assert "exceeds the range of float16: choose the precision bfloat16 or float32" in report.failures["v0"]


def test_what_is_left_open_is_settled_by_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "usable_device", torch.device)
    plain = ExtractOptions(Path("v"), Path("s"))
    gpus = resolve_defaults(ExtractOptions(Path("v"), Path("s"), device=("cuda:0", "cuda:1")))
    assert (gpus.precision, gpus.jobs, gpus.batch) == ("float16", 2, 64)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cpu = resolve_defaults(plain)
    assert (cpu.device, cpu.precision, cpu.batch) == (("cpu",), "float32", 16)
    for device, method in (("cuda:1", "tvl1_fixed"), ("cpu", "dis")):
        assert resolve_snippets(SnippetOptions(), {}, device).flow_method == method
    assert resolve_snippets(SnippetOptions(flow_method="farneback"), {}, "cuda").flow_method == "farneback"


def test_one_word_in_yaml_is_a_list_of_one() -> None:
    written = {
        "videos": "v",
        "store": "s.zarr",
        "device": "cpu",
        "backbone": "bninception",
        "weights": ["rgb=a", "flow=b"],
    }
    read = cli.from_dict(ExtractOptions, written, "options")
    assert (read.device, read.backbone, read.weights) == (("cpu",), ("bninception",), ("rgb=a", "flow=b"))
    with pytest.raises(UserError, match="3 is not text"):
        cli.from_dict(ExtractOptions, {**written, "device": [3]}, "options")


def test_a_device_that_is_not_there_is_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="device 'cuda:77' cannot be used"):
        extract(options(folder, tmp_path / "s.zarr", device=("cpu", "cuda:77")))


def test_processes_are_dealt_out_to_devices(tmp_path: Path) -> None:
    fresh = pools._slot.__wrapped__
    assert [fresh(tmp_path) for _ in range(3)] == [0, 1, 2]  # three processes
    place = WorkerContext(1, 0, tmp_path)
    assert [place.device(("a", "b")) for _ in range(2)] == ["b", "b"]  # a fourth one keeps its number
    assert WorkerContext(1).device(("only",)) == "only"


def test_flow_weights_that_cannot_be_used_stop_the_run(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="raft flow needs weights: give flow_weights"):
        options(folder, tmp_path / "s.zarr", flow_method="raft")
    with pytest.raises(UserError, match="flow_weights are for the flow_method raft, not for dis"):
        options(folder, tmp_path / "s.zarr", flow_method="dis", flow_weights="x.pth")
    pytest.importorskip("torchvision")
    for content, message in ((None, "cannot read the RAFT weights"), ({"x": torch.ones(1)}, "is not a state dict of")):
        if content is not None:
            torch.save(content, tmp_path / "raft.pth")
        with pytest.raises(UserError, match=message):
            extract(options(folder, tmp_path / "s.zarr", flow_method="raft", flow_weights=str(tmp_path / "raft.pth")))
    assert not (tmp_path / "s.zarr").exists()


def test_what_is_told_of_the_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ssn_feat.extraction.plan._FORECAST_FROM", 5)
    many = videos(tmp_path / "long", count=2, frames=60)
    (many / "bad.avi").write_bytes(b"no video")
    extract(options(many, tmp_path / "s.zarr", dry_run=True))
    assert re.search(r"(?m)^time +less than a minute at [\d,.]+ snippets/s", capsys.readouterr().out)
    extract(options(folder, tmp_path / "s.zarr", dry_run=True))  # too short to tell
    assert not re.search(r"^time ", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "less than a minute"), (61, "about 1 minute"), (3700, "about 62 minutes"), (9000, "about 2.5 hours")],
)
def test_times_in_words(seconds: float, told: str) -> None:
    assert about(seconds) == told


def test_the_package_imports_what_is_heavy_when_it_is_used() -> None:
    script = """
import sys, ssn_feat
heavy = {"torch", "cv2", "zarr", "torchvision"} & sys.modules.keys()
assert not heavy, heavy
assert ssn_feat.store.FeatureStore and ssn_feat.video.frames and callable(ssn_feat.extract)
assert "torchvision" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    import ssn_feat

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ssn_feat.nothing


def test_dask_workers_make_the_same_also_when_one_dies(folder: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    many = videos(tmp_path / "videos", count=6)
    extract(options(many, tmp_path / "whole.zarr"))
    own = {"PYTHONPATH": f"{HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "TINY_DELAY": "0.1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setenv(name, value)
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as here:
            killer = [0]
            victim = here.workers[1].pid

            def kill_once(*_: object) -> None:
                if not killer[0]:
                    killer[0] = victim
                    os.kill(victim, 9)

            patch.setattr(MODULE.Progress, "video", kill_once)
            report = extract(options(many, tmp_path / "s.zarr", dask=here.scheduler_address))
    assert (report.exit_code, len(report.extracted), killer) == (0, 6, [victim])
    assert arrays(tmp_path / "s.zarr") == arrays(tmp_path / "whole.zarr")


def test_scheduler_that_stops_is_one_line(folder: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    client = logging.getLogger("distributed.client")
    stopped = r"the dask scheduler at tcp://\S+ stopped: committed videos are safe; start it"
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
    ) as here:
        chosen = options(folder, tmp_path / "s.zarr", dask=here.scheduler_address)

        def lose() -> None:
            with pools.worker_pool(chosen, 3):
                assert client.level == logging.CRITICAL  # its tracebacks are not shown
                raise distributed.CancelledError("batch cancelled for reason: scheduler-connection-lost")

        with pytest.raises(UserError, match=stopped):
            lose()
    assert client.level < logging.CRITICAL


def test_no_scheduler_is_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("ssn_feat.extraction.worker_pools._CONNECT_SECONDS", 1)
    with pytest.raises(UserError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:9"):
        extract(options(folder, tmp_path / "s.zarr", dask="tcp://127.0.0.1:9"))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"pip install ssn-feat\[dask\]"):
        extract(options(folder, tmp_path / "s.zarr", dask="tcp://127.0.0.1:9"))
