"""A committed video changes in one step: streams are added, replaced and removed, and nothing else is touched."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssn_feat.errors import UserError
from ssn_feat.store import FeatureStore, StoreWriteError, create_store, open_or_create_store, open_store, pack, verify
from ssn_feat.store.backends import group_attributes, group_bytes

RGB: dict[str, Any] = {"stride": 8, "streams": {"rgb": {"backbone": "a"}}}
BOTH: dict[str, Any] = {"stride": 8, "streams": {"rgb": {"backbone": "a"}, "flow": {"backbone": "b"}}}
SPANS = np.arange(4)[:, None] + np.array([[0.0, 1.0]])


def rows(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((4, 3)).astype(np.float16)


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "s.zarr") if request.param == "folder" else f"memory://changes/{tmp_path.name}/s.zarr"


@pytest.fixture
def store(place: str) -> FeatureStore:
    store = create_store(place, RGB, "toy")
    for at, video_id in enumerate(("a", "b")):
        store.write(video_id, {"rgb": rows(at)}, SPANS, {"fps": 25.0})
    return store


def add_flow(store: FeatureStore, video_id: str, seed: int = 5) -> None:
    with store.claims.hold(video_id) as claim:
        assert claim is not None
        store.add_streams(video_id, {"flow": rows(seed)}, SPANS, claim)


def folders(store: FeatureStore, video_id: str) -> list[str]:
    return sorted(store.backend.arrays(f"videos/{video_id}"))


def assert_nothing_left(store: FeatureStore) -> None:
    assert store.backend.noted_changes() == {}
    if not store.backend.is_remote:
        assert not store.backend.staging.path.exists()  # type: ignore[attr-defined]


def test_a_stream_is_added(store: FeatureStore, tmp_path: Path) -> None:
    before = {stream: store.fingerprint_of(stream) for stream in store.streams}
    reader = open_store(store.path)
    wider = open_or_create_store(store.path, BOTH)
    assert wider.streams == open_store(store.path).streams == ("flow", "rgb")
    assert wider.fingerprints.items() > before.items()
    with pytest.raises(
        UserError, match=r"no stream 'flow' yet, like 2 of 2 videos; .*run\.py VIDEOS .* --streams flow"
    ):
        wider.read("a", ["flow"])
    with pytest.raises(UserError, match=r"no video of the store .* has a stream 'flow'"):
        wider.feature_dim("flow")
    assert list(wider.read("a").features) == ["rgb"]
    add_flow(wider, "a")
    assert folders(wider, "a") == ["flow~2", "rgb", "time"]
    np.testing.assert_array_equal(wider.read("a", ["flow"]).features["flow"], rows(5))
    np.testing.assert_array_equal(wider.read("a").features["rgb"], rows(0))
    assert wider.read("a").fps == 25.0
    with pytest.raises(UserError, match=r"video 'b' .* no stream 'flow' yet, like 1 of 2 videos"):
        wider.read("b", ["flow"])
    partly = pack(wider, tmp_path / "partly.zarr")
    assert (partly.streams, partly.fingerprints) == (("rgb",), before)
    add_flow(wider, "b")
    assert wider.feature_dim("flow") == 3
    assert verify(wider).damage == {}
    packed = pack(wider, tmp_path / "packed.zarr")
    assert packed.streams == ("flow", "rgb")
    np.testing.assert_array_equal(packed.read("b").features["flow"], rows(5))
    assert verify(packed).damage == {}
    np.testing.assert_array_equal(reader.read("a").features["rgb"], rows(0))  # opened before there was flow
    assert_nothing_left(wider)


def test_streams_that_do_not_fit_the_stored_ones_are_refused(store: FeatureStore) -> None:
    wider = open_or_create_store(store.path, BOTH)
    with wider.claims.hold("a") as claim:
        assert claim is not None
        with pytest.raises(UserError, match=r"snippets differ .* 4 rows to 4.000 s there, 3 rows to 3.000 s now"):
            wider.add_streams("a", {"flow": rows()[:3]}, SPANS[:3], claim)
        with pytest.raises(UserError, match="has no stream 'clip'"):
            wider.add_streams("a", {"clip": rows()}, SPANS, claim)
        with pytest.raises(UserError, match="its stream rgb would be lost"):
            wider.replace_video("a", {"flow": rows()}, SPANS, None, claim)
    assert folders(wider, "a") == ["rgb", "time"]
    with pytest.raises(UserError, match="stride is 8 there and 6 here"):
        open_or_create_store(store.path, {**BOTH, "stride": 6})
    other = {"stride": 8, "streams": {"rgb": {"backbone": "c"}, "flow": {"backbone": "b"}}}
    with pytest.raises(UserError, match=r"streams\.rgb\.backbone is a there and c here"):
        open_or_create_store(store.path, other)


def test_a_video_and_its_streams_are_replaced(store: FeatureStore) -> None:
    reader = open_store(store.path)
    attributes = reader.attributes("a")
    with store.claims.hold("a") as claim:
        assert claim is not None
        store.add_streams("a", {"rgb": rows(7)}, SPANS, claim)
        assert folders(store, "a") == ["rgb~2", "time"]
        np.testing.assert_array_equal(store.read("a").features["rgb"], rows(7))
        store.replace_video("a", {"rgb": rows(8)[:3]}, SPANS[:3], {"fps": 30.0, "source": {"bytes": 1}}, claim)
        assert folders(store, "a") == ["rgb~3", "time~3"]
    video = store.read("a")
    assert (video.fps, video.duration, video.info["source"], len(video.spans)) == (30.0, 3.0, {"bytes": 1}, 3)
    assert verify(store).damage == {}
    # A reader that has read the old attributes finds the old arrays gone and looks again, once.
    given = iter([attributes])
    reader.attributes = lambda name: next(given, None) or open_store(store.path).attributes(name)  # type: ignore
    np.testing.assert_array_equal(reader.read("a").features["rgb"], rows(8)[:3])
    assert_nothing_left(store)


def test_a_stream_is_removed(store: FeatureStore) -> None:
    wider = open_or_create_store(store.path, BOTH)
    add_flow(wider, "a")
    add_flow(wider, "b")
    wider.write("c", {"flow": rows()}, SPANS)
    with wider.claims.hold("b"):
        assert wider.remove_stream("flow") == ("b",)
    assert wider.streams == ("rgb",)
    assert list(wider.read("b").features) == ["rgb"]
    assert wider.ids == ("a", "b"), "a video without another stream is gone"
    assert wider.remove_stream("flow") == ()
    assert folders(wider, "b") == ["rgb", "time"]
    assert open_store(store.path).fingerprints == store.fingerprints
    with pytest.raises(UserError, match="has no stream 'flow'; it has rgb"):
        wider.remove_stream("flow")
    with pytest.raises(UserError, match="'rgb' is the only stream"):
        wider.remove_stream("rgb")
    assert verify(wider).damage == {}
    assert_nothing_left(wider)


def test_a_stream_of_another_recipe_takes_the_place_of_a_removed_one(store: FeatureStore) -> None:
    wider = open_or_create_store(store.path, BOTH)
    add_flow(wider, "a")
    with wider.claims.hold("a"):  # so that it keeps its flow
        wider.remove_stream("flow")
    other = {"stride": 8, "streams": {"rgb": {"backbone": "a"}, "flow": {"backbone": "c"}}}
    again = open_or_create_store(store.path, other)
    with pytest.raises(UserError, match="'flow' is of another recipe"):
        again.read("a", ["flow"])
    add_flow(again, "a", seed=9)
    np.testing.assert_array_equal(again.read("a", ["flow"]).features["flow"], rows(9))
    assert verify(again).damage == {}


def test_video_of_another_store_is_refused(tmp_path: Path) -> None:
    store, other = create_store(tmp_path / "s.zarr", RGB), create_store(tmp_path / "t.zarr", {**RGB, "stride": 6})
    for each in (store, other):
        each.write("a", {"rgb": rows()}, SPANS)
    shutil.rmtree(tmp_path / "s.zarr/videos/a")
    shutil.copytree(tmp_path / "t.zarr/videos/a", tmp_path / "s.zarr/videos/a")
    ours, theirs = store.fingerprint_of("rgb")[:12], other.fingerprint_of("rgb")[:12]
    message = rf"'rgb' is of another recipe \(fingerprint {theirs}, that of the store is {ours}\)"
    for attempt in (lambda: store.read("a"), lambda: store.attributes("a"), lambda: pack(store, tmp_path / "p.zarr")):
        with pytest.raises(UserError, match=message):
            attempt()
    result = verify(store)
    assert ours in result.damage["a"][0]
    assert result.arrays == {"a": ("rgb",)}
    record = tmp_path / "s.zarr/videos/a/zarr.json"
    attributes = group_attributes(record.read_bytes())
    attributes.pop("fingerprints")
    record.write_bytes(group_bytes(attributes))
    with pytest.raises(UserError, match=r"fingerprint \(absent\)"):
        store.read("a")


def test_store_that_was_replaced_takes_nothing(tmp_path: Path) -> None:
    store = create_store(tmp_path / "s.zarr", RGB)
    store.write("a", {"rgb": rows()}, SPANS)
    shutil.rmtree(tmp_path / "s.zarr")
    other = create_store(tmp_path / "s.zarr", {**RGB, "stride": 6})
    for attempt in (
        lambda: store.write("b", {"rgb": rows()}, SPANS),
        lambda: store.record_failure("b", "no frames", ["rgb"]),
    ):
        with pytest.raises(StoreWriteError, match=r"was replaced while this run .*fingerprint of stream 'rgb' is"):
            attempt()
    assert other.ids == ()
    assert other.failures() == {}


def test_stores_without_fingerprints_are_read_and_extended(tmp_path: Path) -> None:
    store = create_store(tmp_path / "s.zarr", RGB)
    store.write("a", {"rgb": rows()}, SPANS)
    for name in ("zarr.json", "videos/a/zarr.json"):
        path = tmp_path / "s.zarr" / name
        attributes = group_attributes(path.read_bytes())
        attributes.pop("fingerprints")
        path.write_bytes(group_bytes(attributes))
    wider = open_or_create_store(store.path, BOTH)
    wider.write("b", {"rgb": rows()}, SPANS)
    add_flow(wider, "b")
    wider.remove_stream("flow")
    assert verify(open_store(store.path)).damage == {}


KILLED = """
import os, signal, sys
import numpy as np
from ssn_feat.store import open_store
count, at = [], int(sys.argv[2])
def hook(event, arguments):
    if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir") and sys.argv[1] in str(arguments[0]):
        count.append(event)
        if len(count) == at:
            os.kill(os.getpid(), signal.SIGKILL)
store = open_store(sys.argv[1])
store.read("a")
rows = np.full((4, 3), 2.0, np.float16)
spans = np.arange(4)[:, None] + np.array([[0.0, 1.0]])
import zarr
with store.claims.hold("a") as claim:
    sys.addaudithook(hook)
    store.add_streams("a", {"rgb": rows}, spans, claim)
print(len(count))
"""


def test_killed_at_any_operation_leaves_the_old_or_the_new_video(tmp_path: Path) -> None:
    store = create_store(tmp_path / "s.zarr", RGB)
    store.write("a", {"rgb": rows()}, SPANS)
    shutil.copytree(store.path, tmp_path / "before")

    def run(at: int) -> str:
        return subprocess.run(
            [sys.executable, "-c", KILLED, str(store.path), str(at)], capture_output=True, text=True
        ).stdout

    operations = int(run(0))
    seen = set()
    for at in np.linspace(1, operations, 12).astype(int):
        shutil.rmtree(store.path)
        shutil.copytree(tmp_path / "before", store.path)
        assert run(int(at)) == ""
        assert verify(store).damage == {}
        seen.add(bool((store.read("a").features["rgb"] == 2).all()))
        again = open_or_create_store(store.path, RGB)
        arrays = json.loads((store.path / "videos/a/zarr.json").read_text())["attributes"]["arrays"]
        assert folders(again, "a") == sorted(each.get("folder", name) for name, each in arrays.items())
        assert_nothing_left(again)
    assert seen == {False, True}
