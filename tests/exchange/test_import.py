"""Features of others arrive bit for bit, at the times that were told, and nothing about them is guessed."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from foreign import DURATIONS, GRID, annotations, features, rows

from ssn_feat.errors import UserError
from ssn_feat.exchange import ImportFeaturesOptions, import_features
from ssn_feat.exchange.array_files import read_array_file
from ssn_feat.store import FeatureStore, open_store

ROOT = Path(__file__).resolve().parents[2]


def run(tmp_path: Path, **options: Any) -> FeatureStore:
    values: dict[str, Any] = {"features": tmp_path / "in", **GRID, **options}
    if "annotations" not in values:
        values["annotations"] = annotations(tmp_path)
    import_features(ImportFeaturesOptions(store=tmp_path / "s.zarr", **values))
    return open_store(tmp_path / "s.zarr")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def write(folder: Path, kind: str, held: dict[str, np.ndarray]) -> dict[str, Any]:
    """Write features as ``kind``; the options that read them."""
    if kind == "h5":
        with h5py.File(folder / "all.h5", "w") as file:
            for name, array in held.items():
                file[name] = array
        return {"features": folder / "all.h5", "layout": "tsp"}
    for name, array in held.items():
        if kind == "npy":
            np.save(folder / f"{name}.npy", array)
        elif kind == "npz":
            np.savez(folder / f"{name}.npz", feats=array, other=np.zeros(3))
        elif kind == "pt":
            torch.save(torch.from_numpy(array), folder / f"{name}.pt")
        elif kind == "csv":
            header = ",".join(f"f{i}" for i in range(array.shape[1]))
            np.savetxt(folder / f"{name}.csv", array, fmt="%.9g", delimiter=",", header=header, comments="")
        else:
            (folder / f"{name}.pkl").write_bytes(pickle.dumps(array, protocol=2))
    key = ":feats" if kind == "npz" else ""
    return {"files": (f"features={{id}}.{kind}{key}",), "orientation": "TD", "allow_pickle": kind == "pkl"}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("kind", ["npy", "npz", "pt", "csv", "pkl", "h5"])
def test_every_format_arrives_bit_for_bit(tmp_path: Path, folder: Path, kind: str, dtype: str) -> None:
    held = features(dtype=dtype)
    store = run(tmp_path, **write(folder, kind, held), dtype=dtype)
    assert store.ids == tuple(held)
    assert store.dtype == dtype
    for video in store:
        assert video.features["features"].dtype == dtype
        np.testing.assert_array_equal(video.features["features"], held[video.id])
        assert video.duration == DURATIONS[video.id]


def test_a_row_stands_for_one_stride_around_the_middle_of_its_window(tmp_path: Path, folder: Path) -> None:
    store = run(tmp_path, **write(folder, "npy", features()), offset=2.0)
    video = store.read("a")
    # Row 3 was computed from frames 14 to 30, whose middle is frame 22.
    np.testing.assert_allclose(video.spans[3], [20 / 25, 24 / 25], rtol=0, atol=1e-12)
    assert video.info["time_base"] == {"fps": 25.0, "stride": 4.0, "window": 16.0, "offset": 2.0}
    assert (video.spans >= 0).all()
    assert (video.spans <= 20.0).all()


def test_rescaled_rows_are_shares_of_the_duration(tmp_path: Path, folder: Path) -> None:
    for name in DURATIONS:
        np.savetxt(folder / f"v_{name}.csv", np.ones((100, 4)), delimiter=",", header="f0,f1,f2,f3", comments="")
    none = dict.fromkeys(("stride", "window", "offset"))
    store = run(tmp_path, layout="bmn", rows_per_video=100, fps="", **none)
    for name, duration in DURATIONS.items():
        np.testing.assert_array_equal(store.read(name).spans[:, 0], duration * np.arange(100) / 100)
        np.testing.assert_array_equal(store.read(name).spans[:, 1], duration * np.arange(1, 101) / 100)


def test_rescaled_rows_of_whole_windows(tmp_path: Path, folder: Path) -> None:
    for name in DURATIONS:
        np.save(folder / f"{name}.npy", np.ones((10, 4), np.float32))
    none = dict.fromkeys(("stride", "window", "offset"))
    where = annotations(tmp_path, **{name: {"frame": 500} for name in DURATIONS})
    store = run(tmp_path, annotations=where, layout="opentad", rows_per_video=10, whole_windows=16, fps="", **none)
    assert store.read("a").spans[-1, 1] == pytest.approx(20.0 * 496 / 500)


def test_frame_rates_of_the_annotations(tmp_path: Path, folder: Path) -> None:
    held = {name: np.ones((rows(d), 4), np.float32) for name, d in DURATIONS.items()}
    where = annotations(tmp_path, a={"fps": 25.0}, b={"frame": 12.5 * 25})
    options = {**write(folder, "npy", held), "annotations": where, "fps": "annotations"}
    store = run(tmp_path, **options)
    assert store.ids == ("a", "b")
    assert "neither fps nor the number of frames" in store.failures()["c"].reason
    assert store.read("b").fps == pytest.approx(312 / 12.5)  # frames are whole


@pytest.mark.parametrize("left_out", ["fps", "stride", "window", "offset"])
def test_an_incomplete_time_base_is_refused(tmp_path: Path, folder: Path, left_out: str) -> None:
    with pytest.raises(UserError, match=f"time base is not known: --{left_out} missing"):
        run(tmp_path, layout="actionformer", **{left_out: "" if left_out == "fps" else None})


def test_two_time_bases_are_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match="leave out fps, stride, window, offset"):
        run(tmp_path, layout="bmn", rows_per_video=100)


def test_a_wrong_time_base_is_seen(tmp_path: Path, folder: Path) -> None:
    store = run(tmp_path, **write(folder, "npy", features()))
    assert len(store) == 3
    with pytest.raises(UserError, match=r"time_base.fps is 25.0 there and 26.0 here"):
        run(tmp_path, layout="actionformer", fps="26")
    for wrong in ({"stride": 8.0}, {"fps": "50"}, {"fps": "5"}):
        with pytest.raises(UserError, match=r"none of the 3 videos can be imported.*the time base does not fit"):
            run(tmp_path, layout="actionformer", **wrong)
    held = features()
    held["b"] = held["b"][:30]
    write(folder, "npy", held)
    report = import_features(
        ImportFeaturesOptions(folder, tmp_path / "t.zarr", annotations(tmp_path), layout="actionformer", **GRID)
    )
    assert report.exit_code == 1
    assert "the last of 30 rows would end at 5.28 s of a video of 12.50 s" in report.failures["b"]


def test_orientation(tmp_path: Path, folder: Path) -> None:
    held = features()
    for name, array in held.items():
        np.save(folder / f"{name}.npy", array.T)
    store = run(tmp_path, files=("rgb={id}.npy",), dtype="float32")
    np.testing.assert_array_equal(store.read("c").features["rgb"], held["c"])


def test_ambiguous_orientation_is_refused(tmp_path: Path, folder: Path) -> None:
    count = rows(DURATIONS["a"])
    np.save(folder / "a.npy", np.zeros((count, count), np.float32))
    with pytest.raises(UserError, match=r"either axis fits the time base as rows: give --orientation TD or DT"):
        run(tmp_path, files=("rgb={id}.npy",))
    np.save(folder / "a.npy", np.zeros((7, 9), np.float32))
    with pytest.raises(UserError, match=r"neither axis fits the time base as rows.*correct the time base"):
        run(tmp_path, files=("rgb={id}.npy",))


def test_columns_of_one_array_as_streams(tmp_path: Path, folder: Path) -> None:
    held = features(width=8)
    write(folder, "npy", held)
    store = run(tmp_path, layout="actionformer", split=("rgb=0:4", "flow=4:8"), dtype="float32")
    assert store.streams == ("flow", "rgb")
    np.testing.assert_array_equal(store.read("b").features["flow"], held["b"][:, 4:])
    assert store.recipe["streams"]["flow"] == {"feature_dim": 4, "columns": [4, 8]}
    for bad, message in [
        (("rgb=0:4", "flow=3:8"), "twice"),
        (("rgb=4:4",), "FIRST:END"),
        (("rgb=0:9",), "there are 8"),
    ]:
        with pytest.raises(UserError, match=message):
            run(tmp_path, layout="actionformer", split=bad)


def test_several_files_a_video_and_prefixes(tmp_path: Path, folder: Path) -> None:
    rgb, flow = features(seed=1), features(width=3, seed=2)
    for name in DURATIONS:
        np.save(folder / f"v_{name}_rgb.npy", rgb[name])
        np.save(folder / f"v_{name}_flow.npy", flow[name][: None if name != "b" else -1])
    files = ("rgb=v_{id}_rgb.npy", "flow=v_{id}_flow.npy")
    store = run(tmp_path, files=files, dtype="float32")
    assert store.ids == ("a", "c")
    assert "--shortest" in store.failures()["b"].reason
    store = run(tmp_path, files=files, dtype="float32", shortest=True)
    np.testing.assert_array_equal(store.read("b").features["rgb"], rgb["b"][:-1])


def test_ids_of_annotations_with_a_prefix(tmp_path: Path, folder: Path) -> None:
    write(folder, "npy", {f"x{name}": array for name, array in features().items()})
    with pytest.raises(UserError, match="features have ids such as 'xa', the annotations such as 'a'"):
        run(tmp_path, layout="actionformer")
    assert run(tmp_path, files=("rgb=x{id}.npy",), orientation="TD").ids == ("a", "b", "c")


def test_coverage_is_printed(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = features()
    write(folder, "npy", {"a": held["a"], "b": held["b"], "z": held["a"]})
    run(tmp_path, layout="actionformer")
    text = capsys.readouterr().out
    assert "features 2 of 3 videos" in text
    assert "missing  1: c" in text
    assert "extra    1 that are not in it are ignored: z" in text


def test_another_spelling_of_a_missing_id_is_named(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = features()
    write(folder, "npy", {"a": held["a"], "b": held["b"], " C": held["c"]})
    run(tmp_path, layout="actionformer")
    hint = f"missing  1: c ({folder} has ' C', which differs from 'c' by blanks and case)"
    assert hint in capsys.readouterr().out


def test_import_resumes(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = features()
    write(folder, "npy", {"a": held["a"]})
    run(tmp_path, layout="actionformer")
    write(folder, "npy", held)
    run(tmp_path, layout="actionformer")
    assert "imported 2 videos" in capsys.readouterr().out.splitlines()[-1]


def test_a_stream_is_imported_into_a_store_of_another_one(tmp_path: Path, folder: Path) -> None:
    rgb, flow = features(), {name: array + 1 for name, array in features().items()}
    for name in rgb:
        np.save(folder / f"{name}.rgb.npy", rgb[name])
        np.save(folder / f"{name}.flow.npy", flow[name])
    run(tmp_path, files=("rgb={id}.rgb.npy",), orientation="TD")
    store = run(tmp_path, files=("flow={id}.flow.npy",), orientation="TD")
    assert store.streams == ("flow", "rgb")
    for video in store:
        np.testing.assert_array_equal(video.features["rgb"], rgb[video.id].astype(np.float16))
        np.testing.assert_array_equal(video.features["flow"], flow[video.id].astype(np.float16))
    with pytest.raises(UserError, match=r"time_base\.offset is 0\.0 there and 2\.0 here"):
        run(tmp_path, files=("flow={id}.flow.npy",), orientation="TD", offset=2.0)


def test_float16_overflow_is_a_failure(tmp_path: Path, folder: Path) -> None:
    held = features()
    held["b"][0, 0] = 1e5
    write(folder, "npy", held)
    store = run(tmp_path, layout="actionformer")
    assert "do not fit float16" in store.failures()["b"].reason
    assert store.ids == ("a", "c")


def test_crops_come_first_in_cmcs(tmp_path: Path, folder: Path) -> None:
    for name, d in DURATIONS.items():
        for stream in ("rgb", "flow"):
            np.savez(folder / f"{name}-{stream}.npz", feature=np.ones((10, rows(d), 4), np.float32), frame_cnt=1)
    store = run(tmp_path, layout="cmcs")
    assert store.read("a").features["rgb"].shape == (rows(20.0), 10, 4)


class Evil:
    """What a hostile pickle holds."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("ran",)


def test_pickles_are_read_only_when_asked_and_never_run(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="--allow-pickle"):
        run(tmp_path, layout="mmaction2")
    with pytest.raises(UserError, match=r"builtins.print, which is not part of an array of numbers"):
        run(tmp_path, layout="mmaction2", allow_pickle=True)
    torch.save(Evil(), folder / "a.pt")
    with pytest.raises(UserError, match="cannot be read"):
        read_array_file(folder / "a.pt")
    np.save(folder / "a.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be read"):
        read_array_file(folder / "a.npy")
    assert "ran\n" not in capsys.readouterr().out


def test_pickled_lists_of_arrays(tmp_path: Path, folder: Path) -> None:
    held = features()
    for name, array in held.items():
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(list(array)))
    store = run(tmp_path, layout="mmaction2", allow_pickle=True, dtype="float32")
    np.testing.assert_array_equal(store.read("a").features["features"], held["a"])


def test_links_out_of_an_hdf5_file_are_not_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["a"] = np.ones((5, 2))
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["a"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "a")
        file["b"] = np.ones((5, 2))
    with pytest.raises(UserError, match="no data set 'a'"):
        read_array_file(tmp_path / "in.h5", "a")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"\x93NUMPY", "cannot be read"),
        ("a.npz", b"PK", "cannot be read"),
        ("a.csv", b"f0,f1\n1,x\n", "cannot be read"),
        ("a.h5", b"junk", "cannot be read"),
        ("a.pt", b"junk", "cannot be read"),
        ("a.bin", b"junk", "features must be in a file that ends in"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_array_file(tmp_path / name)


def test_bad_options(tmp_path: Path, folder: Path) -> None:
    for options, message in [
        ({}, "--layout actionformer"),
        ({"files": ("rgb={id}.npy", "rgb={id}.npz")}, "a stream twice"),
        ({"files": ("rgb.npy",)}, "a pattern must be"),
        ({"layout": "actionformer", "id": "v_"}, "id must contain"),
        ({"layout": "video_features", "split": ("rgb=0:1",)}, "split needs one array"),
        ({"layout": "actionformer", "stride": 0.0}, "positive stride"),
        ({"layout": "actionformer", "fps": "fast"}, "fps must be a number"),
    ]:
        with pytest.raises(UserError, match=message):
            run(tmp_path, **options)
    with pytest.raises(UserError, match="nothing in"):
        run(tmp_path, layout="actionformer")


def test_command(tmp_path: Path, folder: Path) -> None:
    write(folder, "npy", features())
    command = [
        *(sys.executable, str(ROOT / "extract" / "import_features.py"), str(folder), str(tmp_path / "s.zarr")),
        *("--annotations", annotations(tmp_path), "--layout", "actionformer", "--fps", "25"),
        *("--stride", "4", "--window", "16", "--offset", "0", "--compress", "zstd"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "imported 3 videos" in done.stdout
    assert open_store(tmp_path / "s.zarr").compress == "zstd"


def test_real_tsp_vectors(shared: Path, tmp_path: Path) -> None:
    path = shared / "data" / "features" / "thumos14_tsp_r2plus1d34_max_gvf_413x512.h5"
    if not path.is_file():
        pytest.skip(f"no {path}")
    where = tmp_path / "annotations.csv"
    with h5py.File(path) as file:
        ids = sorted(file)[:5]
    where.write_text("video,label,start,end,subset,duration\n" + "".join(f"{i},x,0,1,test,10\n" for i in ids))
    none = dict.fromkeys(("stride", "window", "offset"))
    store = run(
        tmp_path, features=path, annotations=str(where), layout="tsp", rows_per_video=1, dtype="float32", fps="", **none
    )
    with h5py.File(path) as file:
        for video in store:
            np.testing.assert_array_equal(video.features["features"][0], file[video.id][()])
            np.testing.assert_array_equal(video.spans, [[0.0, 10.0]])


def test_real_bmn_features(shared: Path, tmp_path: Path, folder: Path) -> None:
    path = shared / "data" / "features" / "paddlevideo_bmn_example_feat_400x100.npy"
    if not path.is_file():
        pytest.skip(f"no {path}")
    (folder / "a.npy").symlink_to(path)
    none = dict.fromkeys(("stride", "window", "offset"))
    store = run(tmp_path, files=("features={id}.npy",), rows_per_video=100, fps="", dtype="float32", **none)
    np.testing.assert_array_equal(store.read("a").features["features"], np.load(path).astype(np.float32))


@pytest.mark.parametrize("shape", [(0, 6), (0,), (6, 0), (0, 0)])
@pytest.mark.parametrize("orientation", ["auto", "TD", "DT"])
def test_an_empty_array_is_a_failure_of_its_video(
    tmp_path: Path, folder: Path, shape: tuple[int, ...], orientation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    held = features()
    for name, array in held.items():
        np.save(folder / f"{name}.npy", array.T if orientation == "DT" else array)
    np.save(folder / "a.npy", np.zeros(shape, np.float32))  # the first video, which also tells the widths
    store = run(tmp_path, files=("rgb={id}.npy",), orientation=orientation)
    assert store.ids == ("b", "c")
    assert store.failures().keys() == {"a"}
    assert "a.npy: the array is (" in capsys.readouterr().out or "it is empty" in store.failures()["a"].reason


def test_values_that_an_hdf5_file_only_claims_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.bin").write_bytes(b"secret!!" * 8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("claimed", shape=(2**34, 512), dtype="f4", chunks=(1024, 512))
        file.create_dataset("external", shape=(8,), dtype="f8", external=[(str(tmp_path / "other.bin"), 0, 64)])
        layout = h5py.VirtualLayout(shape=(3,), dtype="f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "b.h5"), "x", shape=(3,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("zeros", data=np.zeros((100_000, 4), "f4"), compression="gzip")
    for key, message in (("claimed", "of which 0 are there"), ("external", "other files"), ("virtual", "other files")):
        with pytest.raises(UserError, match=rf"a\.h5: .*{message}"):
            read_array_file(tmp_path / "a.h5", key)
    assert read_array_file(tmp_path / "a.h5", "zeros").shape == (100_000, 4)


def test_a_wrong_time_base_is_explained(tmp_path: Path, folder: Path) -> None:
    write(folder, "npy", features())
    with pytest.raises(UserError, match=r"of the durations, those in the annotations are \d.* times those in the rows"):
        run(tmp_path, layout="actionformer", fps="50")
    with pytest.raises(UserError, match=r"of the durations, those in the rows are \d.* times those in the annotations"):
        run(tmp_path, layout="actionformer", fps="5")


def test_annotations_of_other_durations_are_refused_on_import(tmp_path: Path, folder: Path) -> None:
    options = write(folder, "npy", features())
    assert len(run(tmp_path, **options)) == 3
    longer = {i: {"duration": d * 1.2} for i, d in DURATIONS.items()}
    changed = annotations(tmp_path, **longer)
    with pytest.raises(UserError, match=r"as if 25 frames per second were assumed instead of 30"):
        run(tmp_path, **options | {"annotations": changed, "tolerance": 100.0})
    assert (
        len(run(tmp_path, **options | {"annotations": changed, "tolerance": 100.0, "allow_duration_mismatch": True}))
        == 3
    )
    late = {i: {"annotations": [{"label": "jump", "segment": [1.0, d * 25]}]} for i, d in DURATIONS.items()}
    with pytest.raises(
        UserError, match=r"3 of 3 intervals in the annotations .* are outside their video in the same file"
    ):
        run(tmp_path, **options | {"annotations": annotations(tmp_path, **late)})
