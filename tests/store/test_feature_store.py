"""What is committed reads back; what is not whole, finite or of the same recipe is refused in plain words."""

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from store_writers import rows_of, started

from ssn_feat.errors import UserError
from ssn_feat.store import FeatureStore, StoreWriteError, create_store, fingerprint, open_or_create_store, open_store
from ssn_feat.store.backends import group_attributes, group_bytes
from ssn_feat.store.keys import key_of

RECIPE: dict[str, Any] = {"stride": 8, "streams": {"rgb": {"backbone": "tiny"}, "flow": {"backbone": "tiny"}}}
HOSTILE = ["../x", "/etc/x", "a/b", "nul\0byte", "a" * 300, ".", "..", "V_x", "v_x", "con"]


def made(rows: int = 7, seed: int = 0, **widths: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Random features and spans of ``rows`` snippets."""
    rng = np.random.default_rng(seed)
    widths = widths or {"rgb": 5, "flow": 3}
    edges = np.cumsum(rng.uniform(0.1, 1, rows + 1))
    features = {s: rng.standard_normal((rows, d)).astype(np.float32) for s, d in widths.items()}
    return features, np.stack([edges[:-1], edges[1:]], 1)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return create_store(tmp_path / "s.zarr", RECIPE, "toy")


def chunk(store: FeatureStore, video_id: str, array: str) -> Path:
    return store.path / "videos" / key_of(video_id) / array / "c" / "0" / "0"


def test_round_trip(store: FeatureStore) -> None:
    features, spans = made()
    info = {"duration": 9.5, "fps": 25, "frames": {"decoded": 200, "declared": 201}, "warnings": ["short"]}
    assert store.write("a", features, spans, info)
    video = open_store(store.path).read("a")
    assert (video.id, video.duration, video.fps) == ("a", 9.5, 25.0)
    assert video.info["frames"] == info["frames"]
    np.testing.assert_array_equal(video.spans, spans)
    for stream, values in features.items():
        assert video.features[stream].dtype == np.float16
        np.testing.assert_array_equal(video.features[stream], values.astype(np.float16))
    assert store.streams == ("flow", "rgb")
    assert (store.feature_dim("rgb"), store.feature_dim("flow"), store.rows("a")) == (5, 3, 7)
    assert list(store.read("a", ["flow"]).features) == ["flow"]


def test_duration_defaults_to_the_end_of_the_last_span(store: FeatureStore) -> None:
    features, spans = made()
    store.write("a", features, spans)
    assert store.read("a").duration == spans[-1, 1]
    assert store.read("a").fps is None


def test_crops_are_kept(store: FeatureStore) -> None:
    crops = np.arange(2 * 10 * 4, dtype=np.float32).reshape(2, 10, 4)
    store.write("a", {"rgb": crops}, [[0, 1], [1, 2]])
    np.testing.assert_array_equal(store.read("a").features["rgb"], crops)
    assert store.feature_dim("rgb") == 4


def test_any_zarr_library_reads_it_and_lists_only_videos(store: FeatureStore) -> None:
    features, spans = made()
    for video_id in HOSTILE:
        store.write(video_id, features, spans)
    store.record_failure("bad", "no frames")
    root = zarr.open_group(store.path, mode="r")
    assert root.attrs["recipe"] == RECIPE
    assert root.attrs["fingerprint"] == fingerprint(RECIPE)
    groups = dict(root["videos"].groups())
    assert sorted(g.attrs["id"] for g in groups.values()) == sorted(HOSTILE)
    for group in groups.values():
        assert sorted(name for name, _ in group.arrays()) == ["flow", "rgb", "time"]
        assert group["rgb"].chunks == group["rgb"].shape
        np.testing.assert_array_equal(group["rgb"][...], features["rgb"].astype(np.float16))
    assert [g.attrs["reason"] for _, g in root["failed"].groups()] == ["no frames"]


@pytest.mark.parametrize("video_id", HOSTILE)
def test_hostile_ids_stay_inside_the_store(store: FeatureStore, video_id: str) -> None:
    outside = set(store.path.parent.rglob("*")) - set(store.path.rglob("*"))
    features, spans = made()
    store.write(video_id, features, spans)
    store.record_failure(video_id + "2", "x")
    assert set(store.path.parent.rglob("*")) - set(store.path.rglob("*")) - outside <= {store.backend.staging.path}
    assert store.ids == (video_id,)
    assert video_id in store
    assert store.read(video_id).id == video_id


def test_ids_are_sorted_whatever_the_order_of_writing(store: FeatureStore) -> None:
    features, spans = made()
    for video_id in ["b", "C", "a", "ä", "z" * 300]:
        store.write(video_id, features, spans)
    assert store.ids == tuple(sorted(["b", "C", "a", "ä", "z" * 300]))
    assert len(store) == 5


def test_second_write_changes_nothing(store: FeatureStore) -> None:
    assert store.write("a", *made(seed=0))
    before = {p: p.read_bytes() for p in store.path.rglob("*") if p.is_file()}
    assert not store.write("a", *made(seed=1))
    assert before == {p: p.read_bytes() for p in store.path.rglob("*") if p.is_file()}
    assert not list(store.backend.staging.path.glob("*"))


def test_a_writer_that_loses_the_race_at_the_rename(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    features, spans = made(seed=0)
    rival = open_store(store.path)
    rename = os.rename

    def late(source: str, target: str) -> None:
        monkeypatch.setattr(os, "rename", rename)
        rival.write("a", *made(seed=1))
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    assert not store.write("a", features, spans)
    np.testing.assert_array_equal(store.read("a").features["rgb"], made(seed=1)[0]["rgb"].astype(np.float16))
    assert not list(store.backend.staging.path.glob("*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rgb": np.full((7, 5), np.nan, np.float32)}, "'a', stream 'rgb': 35 of 35 features are not finite"),
        ({"rgb": np.full((7, 5), 7e4, np.float32)}, "35 of 35 features do not fit float16.*65504.*70000"),
        ({"rgb": np.zeros((6, 5), np.float32)}, "'rgb' has 6 rows but there are 7 spans"),
        ({"rgb": np.zeros((7, 0), np.float32)}, "no empty axis"),
        ({"rgb": np.zeros((7, 5), np.uint8)}, "floating-point numbers, not uint8"),
        ({"../rgb": np.zeros((7, 5), np.float32)}, "cannot be the name of a stream"),
        ({"time": np.zeros((7, 5), np.float32)}, "no stream may be called 'time'"),
    ],
)
def test_bad_features_are_refused(store: FeatureStore, change: dict[str, np.ndarray], message: str) -> None:
    features, spans = made()
    with pytest.raises(UserError, match=message):
        store.write("a", features | change, spans)
    assert store.ids == ()


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        (np.zeros((0, 2)), "at least one row"),
        (np.array([[0, 1], [2, 1.0]]), r"span 1 of 2 is \[2.0, 1.0\] seconds"),
        (np.array([[0, 1], [np.nan, 2.0]]), "span 1 of 2"),
        (np.array([[1, 2], [0.5, 3.0]]), "must be finite, ascend"),
    ],
)
def test_bad_spans_are_refused(store: FeatureStore, spans: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        store.write("a", {"rgb": np.zeros((len(spans) or 2, 4), np.float32)}, spans)


def test_other_layout_than_the_videos_there_is_refused(store: FeatureStore) -> None:
    store.write("a", *made())
    with pytest.raises(UserError, match=r"'b': rows of the stream 'rgb' are \[6\], those of 'a' .* are \[5\]"):
        store.write("b", *made(rgb=6, flow=3))
    with pytest.raises(UserError, match=r"the recipe of the store .* has no stream 'depth'; it has rgb, flow"):
        store.write("b", *made(rgb=5, depth=5))


def test_damaged_video_does_not_keep_others_out(store: FeatureStore) -> None:
    for name in ("a", "b"):
        store.write(name, *made())
        (store.path / "videos" / name / "zarr.json").write_text("{}")
    assert open_store(store.path).write("c", *made())
    fresh = open_store(store.path)
    with pytest.raises(UserError, match=r"those of 'c' in the store"):
        fresh.write("d", *made(rgb=4, flow=3))
    with pytest.raises(UserError, match=r"video 'a' .* zarr.json is damaged"):
        open_store(store.path).learn_layout("a")


def test_information_that_json_cannot_hold_is_refused(store: FeatureStore) -> None:
    with pytest.raises(UserError, match="plain values"):
        store.write("a", *made(), {"fps": float("nan")})
    with pytest.raises(UserError, match="names arrays"):
        store.write("a", *made(), {"arrays": 1})


@pytest.mark.parametrize("array", ["rgb", "time"])
def test_missing_chunk_is_an_error(store: FeatureStore, array: str) -> None:
    store.write("a", *made())
    chunk(store, "a", array).unlink()
    with pytest.raises(UserError, match=rf"video 'a' of the store .*array '{array}' lacks its chunk.*verify.py"):
        store.read("a")


@pytest.mark.parametrize("where", [0, 17, -1])
def test_flipped_bit_is_an_error(store: FeatureStore, where: int) -> None:
    store.write("a", *made())
    path = chunk(store, "a", "rgb")
    data = bytearray(path.read_bytes())
    data[where] ^= 4
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"video 'a' .*array 'rgb' is damaged.*verify.py .*--repair"):
        store.read("a")
    store.read("a", ["flow"])


@pytest.mark.parametrize("left", [0, 3, 40])
def test_truncated_chunk_is_an_error(store: FeatureStore, left: int) -> None:
    store.write("a", *made())
    path = chunk(store, "a", "flow")
    os.truncate(path, left)
    with pytest.raises(UserError, match=r"video 'a' .*array 'flow' is damaged"):
        store.read("a")


def test_damaged_metadata_is_an_error(store: FeatureStore) -> None:
    store.write("a", *made())
    store.write("b", *made())
    folder = store.path / "videos" / "a"
    (folder / "rgb" / "zarr.json").unlink()
    with pytest.raises(UserError, match=r"'a' .*array 'rgb' is missing"):
        store.read("a")
    (folder / "zarr.json").write_text("{")
    with pytest.raises(UserError, match=r"'a' .*zarr\.json is damaged"):
        store.read("a")
    (folder / "zarr.json").unlink()
    with pytest.raises(UserError, match=r"'a' .*zarr\.json is missing"):
        store.read("a")
    (folder / "zarr.json").write_bytes((store.path / "videos" / "b" / "zarr.json").read_bytes())
    with pytest.raises(UserError, match="belongs to video 'b'"):
        store.read("a")


def test_array_of_another_shape_is_an_error(store: FeatureStore) -> None:
    store.write("a", *made())
    store.write("b", *made(rows=3))
    (store.path / "videos" / "a" / "rgb").rename(store.path / "away")
    (store.path / "videos" / "b" / "rgb").rename(store.path / "videos" / "a" / "rgb")
    with pytest.raises(UserError, match=r"array 'rgb' is float16 \(3, 5\), recorded was float16 \(7, 5\)"):
        store.read("a")


def test_missing_chunk_reads_as_nan_in_other_libraries(store: FeatureStore) -> None:
    store.write("a", *made())
    chunk(store, "a", "rgb").unlink()
    assert np.isnan(zarr.open_array(store.path / "videos" / "a" / "rgb", mode="r")[...]).all()


def test_arrays_with_other_codecs_read_through_zarr(store: FeatureStore) -> None:
    features, spans = made()
    store.write("a", features, spans)
    values = store.read("a").features["rgb"]
    folder = store.path / "videos" / "a"
    again = zarr.create_array(folder, name="rgb", data=values, chunks=(2, 5), overwrite=True)
    np.testing.assert_array_equal(store.read("a").features["rgb"], values)
    (folder / "rgb" / "c" / "1" / "0").unlink()
    with pytest.raises(UserError, match=r"array 'rgb' lacks 1 of 4 chunks"):
        store.read("a")
    again[...] = values + 1
    assert store.check("a") == {"rgb": "array 'rgb' is damaged (its sha256 differs from the recorded one)"}


def test_features_may_be_changed_in_memory(store: FeatureStore) -> None:
    store.write("a", *made())
    store.read("a").features["rgb"][:] = 0
    assert store.read("a").features["rgb"].any()


def test_array_of_zeros_is_not_missing(store: FeatureStore) -> None:
    store.write("a", {"rgb": np.zeros((2, 3), np.float32)}, [[0, 0], [0, 0]])
    np.testing.assert_array_equal(store.read("a").features["rgb"], 0)


def test_unknown_video_and_stream(store: FeatureStore) -> None:
    store.write("a", *made())
    with pytest.raises(UserError, match="no video 'b'; it holds 1 video,"):
        store.read("b")
    with pytest.raises(UserError, match="no stream 'depth'; it has flow, rgb"):
        store.read("a", ["depth"])
    with pytest.raises(UserError, match="no stream 'time'"):
        store.feature_dim("time")


def test_another_recipe_is_refused_with_each_field(store: FeatureStore) -> None:
    other = {"stride": 6, "streams": {"rgb": {"backbone": "tiny"}, "flow": {"backbone": "other"}}, "crop": "ten"}
    with pytest.raises(UserError) as caught:
        open_or_create_store(store.path, other, "toy")
    text = str(caught.value)
    assert "stride is 8 there and 6 here" in text
    assert "crop is (absent) there and ten here" in text
    assert "streams.flow.backbone is tiny there and other here" in text
    assert "streams.rgb" not in text
    assert open_or_create_store(store.path, dict(reversed(RECIPE.items())), "toy").fingerprint == store.fingerprint


def test_tuples_and_lists_are_one_recipe(tmp_path: Path) -> None:
    create_store(tmp_path / "s.zarr", {"size": (3, 4)})
    open_or_create_store(tmp_path / "s.zarr", {"size": [3, 4]})
    with pytest.raises(UserError, match="plain values"):
        create_store(tmp_path / "t.zarr", {"size": {3, 4}})


def test_what_is_no_store(tmp_path: Path, store: FeatureStore) -> None:
    with pytest.raises(UserError, match=r"does not exist; python extract/run\.py VIDEOS"):
        open_store(tmp_path / "none.zarr")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    for opens in (open_store, lambda p: open_or_create_store(p, RECIPE)):
        with pytest.raises(UserError, match="exists but is not a feature store"):
            opens(tmp_path / "folder")
    zarr.create_group(tmp_path / "other.zarr", attributes={"a": 1})
    with pytest.raises(UserError, match="not a feature store"):
        open_store(tmp_path / "other.zarr")
    with pytest.raises(UserError, match="already exists"):
        create_store(store.path, RECIPE)
    root = store.path / "zarr.json"
    root.write_bytes(group_bytes({**group_attributes(root.read_bytes()), "format_version": 9}))
    with pytest.raises(UserError, match="format version 9, this program reads version 1"):
        open_store(store.path)


def test_failures_count_tries_and_end_with_success(store: FeatureStore) -> None:
    store.record_failure("b", "no frames")
    store.record_failure("b", "cut short")
    store.record_failure("../a", "x")
    failures = store.failures()
    assert list(failures) == ["../a", "b"]
    assert (failures["b"].reason, failures["b"].tries) == ("cut short", 2)
    store.write("b", *made())
    assert list(store.failures()) == ["../a"]
    (store.path / "failed" / key_of("../a") / "zarr.json").write_text("")
    assert store.failures() == {}


def test_discarded_video_is_pending_again(store: FeatureStore) -> None:
    store.write("a", *made(seed=0))
    store.remove_video("a")
    store.remove_video("a")
    assert store.ids == ()
    assert store.write("a", *made(seed=1))


def test_store_deleted_during_a_run_is_not_made_again_in_part(store: FeatureStore) -> None:
    features, spans = made(rgb=4)
    for video_id in ("t", "u"):
        store.write(video_id, features, spans)
    shutil.rmtree(store.path)
    for attempt in (
        lambda: store.record_failure("v", "bad"),
        lambda: store.record_run({"videos": {}, "missing": [], "options": {}}),
        lambda: store.write("v", features, spans),
    ):
        with pytest.raises(StoreWriteError, match=r"was deleted or moved during this run: move it back, or run"):
            attempt()
    assert not store.path.exists()
    assert not store.backend.staging.path.exists()


def test_what_is_left_of_a_deleted_store_is_named(store: FeatureStore) -> None:
    store.record_failure("v", "bad")
    shutil.rmtree(store.path / "videos")
    (store.path / "zarr.json").unlink()
    for attempt in (lambda: open_store(store.path), lambda: open_or_create_store(store.path, store.recipe)):
        with pytest.raises(UserError, match=r"has lost its zarr\.json; if it was deleted on purpose"):
            attempt()


def test_staging_of_the_dead_is_removed_and_of_the_living_kept(store: FeatureStore) -> None:
    child = subprocess.run(
        [sys.executable, "-c", "from ssn_feat.store.staging import Owner; print(Owner.me().name)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    with store.backend.staging.folder() as mine:
        dead = store.backend.staging.path / (child.stdout.strip() + "~0123")
        elsewhere = store.backend.staging.path / "elsewhere~1~0~0123"
        unknown = store.backend.staging.path / "notes"
        for folder in (dead, elsewhere, unknown):
            (folder / "rgb").mkdir(parents=True)
        open_or_create_store(store.path, RECIPE)
        assert [f.exists() for f in (mine, dead, elsewhere, unknown)] == [True, False, True, True]


def test_process_number_given_anew_is_not_the_dead_one() -> None:
    from ssn_feat.store.staging import Owner

    assert not Owner.me().is_dead()
    assert dataclasses.replace(Owner.me(), started="1").is_dead()


def test_interrupted_write_leaves_nothing(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ssn_feat.store.local_backend.sync_tree", stop)
    with pytest.raises(KeyboardInterrupt):
        store.write("a", *made())
    assert store.ids == ()
    assert not list(store.backend.staging.path.glob("*"))


def test_opening_needs_neither_torch_nor_opencv(store: FeatureStore) -> None:
    store.write("a", *made())
    code = (
        "import sys; from ssn_feat.store import open_store; "
        f"open_store({str(store.path)!r}).read('a'); "
        "print([m for m in ('torch', 'cv2', 'torchvision') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_several_writers_of_the_same_videos(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    workers = [started(path, 12, claim=False) for _ in range(3)]
    won = [told.recv() for _, told in workers if told.recv() == "ready"]
    for worker, _ in workers:
        worker.join()
    assert [worker.exitcode for worker, _ in workers] == [0, 0, 0]
    assert sum(won) == 12
    store = open_store(path)
    assert store.ids == tuple(sorted(f"v{i}" for i in range(12)))
    for i in range(12):
        np.testing.assert_array_equal(store.read(f"v{i}").features["rgb"], rows_of(i))


def test_full_disk(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)], capture_output=True)
    if done.returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        store = create_store(mount / "s.zarr", RECIPE)
        store.write("a", *made(rows=100))
        with pytest.raises(
            StoreWriteError, match=r"cannot write to the store .*No space left on device; committed videos are safe"
        ):
            store.write("b", *made(rows=60000, rgb=5, flow=3))
        assert store.ids == ("a",)
        store.read("a")
        assert store.write("b", *made(rows=100))
    finally:
        subprocess.run(["umount", str(mount)], check=True)


READ_ONLY = """
import os, sys
from ssn_feat.store import create_store, open_or_create_store, open_store
from ssn_feat.errors import UserError
create_store(sys.argv[3], {}).write("a", {"rgb": [[1.0]]}, [[0, 1]])  # imports all while that is allowed
if os.getuid() == 0:
    os.setuid(65534)
try:
    if sys.argv[2] == "write":
        open_store(sys.argv[1]).write("a", {"rgb": [[1.0]]}, [[0, 1]])
    else:
        open_or_create_store(sys.argv[1] + "2", {})
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("what", ["write", "make"])
def test_read_only_target(store: FeatureStore, what: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = store.path.parent
    folder.chmod(0o555)
    temporary = Path(tempfile.gettempdir()).resolve()
    for parent in folder.resolve().parents:  # pytest's own folders are closed to others
        if parent == temporary or parent == Path(parent.anchor):
            break
        parent.chmod(parent.stat().st_mode | 0o055)
    try:
        other = tmp_path_factory.mktemp("other") / "s.zarr"
        command = [sys.executable, "-c", READ_ONLY, str(store.path), what, str(other)]
        done = subprocess.run(command, capture_output=True, text=True)
    finally:
        folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert "cannot write to the store" in done.stdout
    assert "Permission denied" in done.stdout


@pytest.mark.parametrize("depth", [150, 5000, 200_000])
@pytest.mark.parametrize("kind", ["list", "record", "recipe"])
def test_metadata_nested_without_end(store: FeatureStore, depth: int, kind: str) -> None:
    deep = {"list": "[" * depth + "]" * depth, "record": '{"a":' * depth + "1" + "}" * depth}.get(kind)
    if deep is None:
        inner = '{"a":' * depth + "1" + "}" * depth
        deep = '{"node_type": "group", "attributes": {"format": "ssn_feat feature store", "recipe": ' + inner + "}}"
    store.write("a", *made())
    for name in ("videos/a/zarr.json", "zarr.json"):
        (store.path / name).write_text(deep)
        with pytest.raises(UserError, match=r"zarr\.json is damaged|is not a feature store"):
            open_store(store.path).read("a")
    claims = store.claims
    assert claims.claim_store.create("v", deep.encode())
    with claims.hold("v") as held:
        assert held is None
