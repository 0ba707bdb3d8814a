"""A packed store reads as the one it was made from, whatever the sizes of chunks and shards."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssn_feat.errors import UserError
from ssn_feat.store import (
    FeatureStore,
    PackedStore,
    create_store,
    open_or_create_store,
    open_store,
    pack,
    status,
    verify,
)
from ssn_feat.store import packed as module
from ssn_feat.store.backends import group_attributes, group_bytes

IDS = ["b", "../x", "C", "a" * 300]


def growing(path: Path, counts: list[int], crops: int = 0) -> FeatureStore:
    store = create_store(path, {"stride": 8}, "toy")
    rng = np.random.default_rng(0)
    for i, rows in enumerate(counts):
        shape = (rows, crops, 5) if crops else (rows, 5)
        spans = np.arange(rows)[:, None] + np.array([[0.0, 1.0]])
        features = {"rgb": rng.standard_normal(shape), "flow": rng.standard_normal((rows, 3))}
        store.write(IDS[i] if i < len(IDS) else f"v{i}", features, spans, {"fps": 25.0, "warnings": ["short"]})
    return store


def assert_same(a: FeatureStore, b: FeatureStore) -> None:
    assert (a.ids, a.streams, a.name, a.recipe, a.fingerprint) == (b.ids, b.streams, b.name, b.recipe, b.fingerprint)
    for video_id in a.ids:
        x, y = a.read(video_id), b.read(video_id)
        assert (x.id, x.duration, x.fps, x.info) == (y.id, y.duration, y.fps, y.info)
        np.testing.assert_array_equal(x.spans, y.spans)
        for stream, rows in x.features.items():
            assert rows.dtype == y.features[stream].dtype
            np.testing.assert_array_equal(rows, y.features[stream])
        assert a.rows(video_id) == b.rows(video_id)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    chunk=st.integers(1, 4),
    shard=st.integers(1, 4),
    crops=st.sampled_from([0, 2]),
)
def test_packed_equals_growing(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], chunk: int, shard: int, crops: int
) -> None:
    folder = tmp_path_factory.mktemp("pack")
    source = growing(folder / "s.zarr", counts, crops)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK_BYTES", 10 * chunk)  # of rgb rows without crops, 10 bytes each
        patch.setattr(module, "_SHARD_BYTES", 10 * chunk * shard)
        packed = pack(source, folder / "p.zarr")
    assert isinstance(packed, PackedStore)
    assert_same(source, packed)
    assert verify(packed).damage == {}


def test_layout_is_plain_zarr(tmp_path: Path) -> None:
    source = growing(tmp_path / "s.zarr", [4, 2, 7])
    packed = pack(source, tmp_path / "p.zarr")
    root = zarr.open_group(packed.path, mode="r", use_consolidated=True)
    assert sorted(name for name, _ in root.arrays()) == ["flow", "index", "offsets", "rgb", "time"]
    assert root["rgb"].shape == (13, 5)
    records = json.loads(bytes(root["index"][:]))
    assert [r["id"] for r in records] == list(source.ids)
    first = source.ids[0]
    np.testing.assert_array_equal(root["rgb"][: root["offsets"][1]], source.read(first).features["rgb"])
    assert not packed.backend.staging.path.exists()


def test_packed_store_goes_to_other_processes(tmp_path: Path) -> None:
    packed = pack(growing(tmp_path / "s.zarr", [4, 2]), tmp_path / "p.zarr")
    packed.read("b")
    assert_same(pickle.loads(pickle.dumps(packed)), packed)  # noqa: S301


def test_packed_store_is_read_only(tmp_path: Path) -> None:
    source = growing(tmp_path / "s.zarr", [4])
    source.record_run({"videos": {"b": 4.0, "c": 9.0}, "missing": ["d"], "options": {"stride": 8}})
    packed = pack(source, tmp_path / "p.zarr")
    for call in (
        lambda: packed.write("c", {"rgb": [[1.0]]}, [[0, 1]]),
        lambda: packed.remove_video("b"),
        lambda: packed.record_failure("c", "x"),
        lambda: open_or_create_store(packed.path, packed.recipe),
    ):
        with pytest.raises(UserError, match="is a packed store, which is read-only"):
            call()
    with pytest.raises(UserError, match="no video 'c'; it holds 1 video,"):
        packed.read("c")
    assert packed.runs() == [{"videos": {}, "missing": ["d"], "options": {"stride": 8}}]
    found = status(packed)
    assert (packed.failures(), found.done, found.pending, found.missing) == ({}, 1, {}, ("d",))


def test_what_cannot_be_packed(tmp_path: Path) -> None:
    store = growing(tmp_path / "s.zarr", [4])
    packed = pack(store, tmp_path / "p.zarr")
    with pytest.raises(UserError, match="already exists"):
        pack(store, packed.path)
    with pytest.raises(UserError, match="already a packed store"):
        pack(packed, tmp_path / "q.zarr")
    with pytest.raises(UserError, match="holds no video"):
        pack(create_store(tmp_path / "e.zarr", {}), tmp_path / "q.zarr")
    attributes = store.path / "videos" / "b" / "zarr.json"
    changed = group_attributes(attributes.read_bytes())
    changed["arrays"]["rgb"]["sha256"] = "0" * 64
    attributes.write_bytes(group_bytes(changed))
    with pytest.raises(UserError, match=r"video 'b' .*array 'rgb' is damaged .its sha256.*verify\.py .*--repair"):
        pack(store, tmp_path / "q.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.zarr", "p.zarr", "s.zarr"]


def shard(store: FeatureStore, name: str) -> Path:
    (path,) = [p for p in (store.path / name / "c").rglob("*") if p.is_file()]
    return path


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_damage_is_an_error(tmp_path: Path, harm: str) -> None:
    packed = pack(growing(tmp_path / "s.zarr", [4, 2]), tmp_path / "p.zarr")
    path = shard(packed, "rgb")
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[3] ^= 1
        path.write_bytes(data)
    elif harm == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.unlink()
    again: Any = open_store(packed.path)
    with pytest.raises(UserError, match=r"video 'b' of the packed store .*array 'rgb'.*make it again: .*pack\.py"):
        again.read("b")
    assert sorted(verify(again).damage) == sorted(again.ids)
    again.read("b", ["flow"])


@pytest.mark.parametrize("name", ["index", "offsets"])
def test_damaged_index_is_an_error(tmp_path: Path, name: str) -> None:
    packed = pack(growing(tmp_path / "s.zarr", [4, 2]), tmp_path / "p.zarr")
    shard(packed, name).unlink()
    with pytest.raises(
        UserError, match=rf"packed store .* is damaged: array '{name}' has missing chunks; make it again"
    ):
        _ = open_store(packed.path).ids
