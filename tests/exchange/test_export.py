"""What goes out comes back bit for bit, at the same times, and others are told the time base that gives those times."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from foreign import DURATIONS, GRID, annotations, features
from hypothesis import given
from hypothesis import strategies as st

from ssn_feat import files
from ssn_feat.annotations import read_annotations
from ssn_feat.errors import UserError
from ssn_feat.exchange import ExportFeaturesOptions, ImportFeaturesOptions, export_features, import_features
from ssn_feat.exchange.grids import Grid
from ssn_feat.exchange.rescale import rescaled
from ssn_feat.store import FeatureStore, create_store, open_store

ROOT = Path(__file__).resolve().parents[2]


def imported(tmp_path: Path, held: dict[str, np.ndarray], name: str = "s", **options: Any) -> FeatureStore:
    folder = tmp_path / f"{name}_in"
    folder.mkdir()
    for video_id, array in held.items():
        np.save(folder / f"{video_id}.npy", array)
    values: dict[str, Any] = {**GRID, "layout": "actionformer", **options}
    import_features(ImportFeaturesOptions(folder, tmp_path / f"{name}.zarr", annotations(tmp_path), **values))
    return open_store(tmp_path / f"{name}.zarr")


def exported(tmp_path: Path, store: FeatureStore, format: str, **options: Any) -> Path:
    out = tmp_path / f"out_{format}"
    values: dict[str, Any] = {"annotations": annotations(tmp_path), **options}
    export_features(ExportFeaturesOptions(store.path, out, format, **values))  # type: ignore[arg-type]
    return out


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_actionformer_and_back(tmp_path: Path, dtype: str, offset: float) -> None:
    held = features(dtype=dtype)
    store = imported(tmp_path, held, dtype=dtype, offset=offset)
    out = exported(tmp_path, store, "actionformer")
    values = yaml.safe_load((out / "actionformer.yaml").read_text())["dataset"]
    expected = {
        "feat_stride": 4,
        "num_frames": 16 + 2 * offset,
        "default_fps": 25,
        "downsample_rate": 1,
        "input_dim": 6,
    }
    assert {name: values[name] for name in expected} == expected
    assert values["num_classes"] == 1
    for video_id, array in held.items():
        written = np.load(out / "features" / f"{video_id}.npy")
        assert written.dtype == np.float32
        np.testing.assert_array_equal(written, array)
    back = tmp_path / "back.zarr"
    grid = {"fps": "25", "stride": 4.0, "window": float(values["num_frames"]), "offset": 0.0}
    where = str(out / "annotations.json")
    import_features(
        ImportFeaturesOptions(out / "features", back, where, layout="actionformer", dtype=dtype, **grid)  # type: ignore[arg-type]
    )
    for video in open_store(back):
        np.testing.assert_array_equal(video.features["features"], held[video.id])
        np.testing.assert_allclose(video.spans, store.read(video.id).spans, rtol=0, atol=1e-6)


def test_actionformer_times_are_those_of_the_store(tmp_path: Path) -> None:
    store = imported(tmp_path, features())
    values = yaml.safe_load((exported(tmp_path, store, "actionformer") / "actionformer.yaml").read_text())["dataset"]
    spans = store.read("c").spans
    times = (np.arange(len(spans)) * values["feat_stride"] + values["num_frames"] / 2) / values["default_fps"]
    np.testing.assert_allclose(times, spans.mean(axis=1), rtol=0, atol=1e-6)


def test_actionformer_of_rescaled_features(tmp_path: Path) -> None:
    none = dict.fromkeys(("stride", "window", "offset"))
    held = {video_id: np.ones((100, 4), np.float32) for video_id in DURATIONS}
    store = imported(tmp_path, held, fps="", rows_per_video=100, **none)
    values = yaml.safe_load((exported(tmp_path, store, "actionformer") / "actionformer.yaml").read_text())["dataset"]
    assert (values["feat_stride"], values["num_frames"], values["default_fps"]) == (-1, 1, None)
    assert "resize_length': 100" in (exported(tmp_path, store, "opentad") / "opentad.py").read_text()


def test_missing_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = features()
    store = imported(tmp_path, {"a": held["a"], "c": held["c"]})
    out = exported(tmp_path, store, "opentad")
    assert (out / "features" / "missing_files.txt").read_text() == "b\n"
    assert set(read_annotations(str(out / "annotations.json")).videos) == {"a", "b", "c"}
    assert "1 video of" in capsys.readouterr().out
    out = exported(tmp_path, store, "actionformer")
    assert set(read_annotations(str(out / "annotations.json")).videos) == {"a", "c"}


def test_opentad(tmp_path: Path) -> None:
    held = features()
    store = imported(tmp_path, held, dtype="float32")
    out = exported(tmp_path, store, "opentad", files="v_{id}_x")
    found = {
        node.targets[0].id: ast.literal_eval(node.value)  # type: ignore[attr-defined]
        for node in ast.parse((out / "opentad.py").read_text()).body
    }
    data = found["dataset"]
    assert (data["feature_stride"], data["sample_stride"], data["offset_frames"]) == (4, 1, 8)
    assert (found["load_feats"]["prefix"], found["load_feats"]["suffix"], found["in_channels"]) == ("v_", "_x", 6)
    np.testing.assert_array_equal(np.load(out / "features" / "v_a_x.npy"), held["a"])
    # It computes seconds as (row * feature_stride + offset_frames) * duration / frame.
    entry = json.loads((out / "annotations.json").read_text())["database"]["c"]
    spans = store.read("c").spans
    seconds = (np.arange(len(spans)) * 4 + 8) * entry["duration"] / entry["frame"]
    np.testing.assert_allclose(seconds, spans.mean(axis=1), rtol=0, atol=1e-6)
    assert (out / "category_idx.txt").read_text() == "jump\n"


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_bmn_and_back(tmp_path: Path, dtype: str) -> None:
    none = dict.fromkeys(("stride", "window", "offset"))
    rng = np.random.default_rng(0)
    held = {video_id: rng.standard_normal((100, 4)).astype(dtype) for video_id in DURATIONS}
    store = imported(tmp_path, held, fps="", rows_per_video=100, dtype=dtype, **none)
    out = exported(tmp_path, store, "bmn", annotations="")
    assert (out / "csv_mean_100" / "v_a.csv").read_text().partition("\n")[0] == "f0,f1,f2,f3"
    options: dict[str, Any] = {"layout": "bmn", "rows_per_video": 100, "dtype": dtype}
    import_features(
        ImportFeaturesOptions(out / "csv_mean_100", tmp_path / "back.zarr", annotations(tmp_path), **options)
    )
    for video in open_store(tmp_path / "back.zarr"):
        np.testing.assert_array_equal(video.features["features"], held[video.id])
        np.testing.assert_array_equal(video.spans, store.read(video.id).spans)


def test_bmn_rows_are_means_over_time(tmp_path: Path) -> None:
    values = np.array([[0.0], [10.0], [20.0]], np.float32)
    spans = np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 4.0]])
    np.testing.assert_allclose(rescaled(values, spans, 4.0, 2), [[5.0], [20.0]])
    np.testing.assert_allclose(rescaled(values, spans, 3.0, 2), [[10 / 3], [50 / 3]], rtol=1e-6)
    # Nothing lies in the first quarter: the nearest row stands for it.
    np.testing.assert_allclose(rescaled(values[1:], spans[1:], 4.0, 4), [[10.0], [10.0], [20.0], [20.0]])


@given(rows=st.integers(1, 40), wanted=st.integers(1, 60), seed=st.integers(0, 99))
def test_rescaling_keeps_the_mean(rows: int, wanted: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = np.cumsum([0.0, *rng.uniform(0.01, 2, rows)])
    values = rng.standard_normal((rows, 2))
    spans = np.stack([edges[:-1], edges[1:]], axis=1)
    mean = (values * np.diff(edges)[:, None]).sum(axis=0) / edges[-1]
    np.testing.assert_allclose(rescaled(values, spans, edges[-1], wanted).mean(axis=0), mean, atol=1e-5)


def test_streams_side_by_side(tmp_path: Path) -> None:
    store = imported(tmp_path, features(), split=("rgb=0:4", "flow=4:6"), dtype="float32")
    np.testing.assert_array_equal(
        np.load(exported(tmp_path, store, "actionformer") / "features" / "a.npy"), features()["a"]
    )
    out = exported(tmp_path, store, "opentad", streams=("flow",))
    np.testing.assert_array_equal(np.load(out / "features" / "a.npy"), features()["a"][:, 4:])
    with pytest.raises(UserError, match="no stream 'depth'; it has flow, rgb"):
        exported(tmp_path, store, "bmn", streams=("depth",))


def extracted(tmp_path: Path, fps: float, times: np.ndarray) -> FeatureStore:
    """A store as extraction makes one, with snippets of 4 frames at ``times``."""
    store = create_store(tmp_path / "own.zarr", {"snippets": {"stride": 4}, "streams": {"rgb": {}}})
    spans = np.stack([times[:-1], times[1:]], axis=1)
    store.write("a", {"rgb": np.ones((len(spans), 3))}, spans, {"duration": 20.0, "fps": fps})
    return store


def test_own_features(tmp_path: Path) -> None:
    store = extracted(tmp_path, 25.0, np.append(np.arange(0, 20, 0.16), 20.0))
    values = yaml.safe_load((exported(tmp_path, store, "actionformer") / "actionformer.yaml").read_text())["dataset"]
    assert (values["feat_stride"], values["num_frames"], values["default_fps"]) == (4, 4, 25)


def test_frame_rates_that_were_measured_are_one_rate(tmp_path: Path) -> None:
    """They come from the times of frames, and are equal but for their last digits."""
    store = extracted(tmp_path, 24.999999999999996, np.append(np.arange(0, 20, 0.16), 20.0))
    spans = store.read("a").spans
    for video_id, fps in (("b", 25.0), ("c", 25.000001)):
        store.write(video_id, {"rgb": np.ones((len(spans), 3))}, spans, {"duration": 20.0, "fps": fps})
    # The annotations give other durations.
    with pytest.raises(UserError, match=r"differ for 2 of 3 videos: 'c' 33\.0 s and 20\.0 s"):
        exported(tmp_path, store, "actionformer")
    out = exported(tmp_path, store, "actionformer", allow_duration_mismatch=True)
    values = yaml.safe_load((out / "actionformer.yaml").read_text())["dataset"]
    assert values["default_fps"] == pytest.approx(25, abs=1e-5)
    assert Grid(4, 4, {"a": 25.0, "b": 25.001}).common_fps is None


def test_a_variable_frame_rate_is_refused(tmp_path: Path) -> None:
    store = extracted(tmp_path, 25.0, np.append(np.arange(0, 19, 0.2), 20.0))
    with pytest.raises(UserError, match=r"row \d+ is at 1.*constant frame rate of 25.*--tolerance 3\.\d+ exports"):
        exported(tmp_path, store, "actionformer")


def test_taken_folders_and_hostile_ids_are_refused(tmp_path: Path) -> None:
    store = imported(tmp_path, features())
    exported(tmp_path, store, "bmn")
    with pytest.raises(UserError, match="not empty"):
        exported(tmp_path, store, "bmn")
    for video_id in ("../x", "a/b", "nul\0", "x" * 300):
        hostile = create_store(tmp_path / f"h{len(video_id)}{video_id[0]}.zarr", {})
        hostile.write(video_id, {"rgb": np.ones((2, 2))}, [[0, 1], [1, 2]])
        with pytest.raises(UserError, match="cannot be the name of a file"):
            export_features(ExportFeaturesOptions(hostile.path, tmp_path / "hostile", "bmn", files="{id}"))
    assert not (tmp_path / "hostile").exists()


def test_bad_options(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs --annotations"):
        ExportFeaturesOptions(tmp_path, tmp_path, "actionformer")
    with pytest.raises(UserError, match="files must contain"):
        ExportFeaturesOptions(tmp_path, tmp_path, "bmn", files="x")


def test_command(tmp_path: Path) -> None:
    store = imported(tmp_path, features())
    command = [
        *(sys.executable, str(ROOT / "extract" / "export_features.py"), str(store.path), str(tmp_path / "out")),
        *("--format", "actionformer", "--annotations", annotations(tmp_path)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "a row every 4 frames around the middle of 16, at 25 frames a second" in done.stdout


@pytest.mark.parametrize("format", ["actionformer", "opentad", "bmn"])
def test_a_disk_that_fills_up_leaves_only_whole_files(
    tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = imported(tmp_path, features())
    whole = exported(tmp_path, store, format)
    expected = {path.relative_to(whole): path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    for room in range(len(expected)):
        left = room
        shutil.rmtree(whole)

        def sync(handle: int) -> None:
            nonlocal left
            if not left:
                raise OSError(28, "No space left on device")
            left -= 1

        monkeypatch.setattr(files.os, "fsync", sync)
        with pytest.raises(UserError, match=r"cannot write .*: No space left on device"):
            exported(tmp_path, store, format)
        found = {path.relative_to(whole): path.read_bytes() for path in whole.rglob("*") if path.is_file()}
        assert len(found) == room
        assert found.items() <= expected.items()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    store = imported(tmp_path, features())
    (tmp_path / "out_bmn").symlink_to("/proc/self/nowhere")
    with pytest.raises(UserError, match=r"cannot write .*out_bmn"):
        exported(tmp_path, store, "bmn")
