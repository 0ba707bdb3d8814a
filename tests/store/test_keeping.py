"""How arrays are kept changes nothing about what is read; what type they are of is part of the recipe."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssn_feat.errors import UserError
from ssn_feat.store import FeatureStore, create_store, open_or_create_store, open_store, pack, verify
from ssn_feat.store import packed as module
from ssn_feat.store.backends import group_attributes, group_bytes
from ssn_feat.store.local_backend import LocalBackend
from ssn_feat.store.shards import ShardedRows


def relu(rows: int, width: int = 64, seed: int = 0) -> np.ndarray:
    """Features with zeros among them, as after a ReLU."""
    return np.maximum(np.random.default_rng(seed).standard_normal((rows, width)), 0).astype(np.float32)


def spans(rows: int) -> np.ndarray:
    return np.arange(rows)[:, None] + np.array([[0.0, 1.0]])


def filled(path: Path, compress: Any = None, recipe: Any = None, count: int = 4) -> FeatureStore:
    store = create_store(path, recipe or {"stride": 8}, "toy", compress)
    for i in range(count):
        store.write(f"v{i}", {"rgb": relu(20 + 7 * i, seed=i), "flow": relu(20 + 7 * i, 3, i)}, spans(20 + 7 * i))
    return store


def size(path: Path | str) -> int:
    return sum(p.stat().st_size for p in Path(path).rglob("*") if p.is_file() and "c" in p.parts)


def assert_same(a: FeatureStore, b: FeatureStore) -> None:
    assert (a.ids, a.fingerprint, a.recipe, a.streams) == (b.ids, b.fingerprint, b.recipe, b.streams)
    for x, y in zip(a, b, strict=True):
        assert x.info == y.info
        for stream, rows in x.features.items():
            np.testing.assert_array_equal(rows, y.features[stream])


def test_compressed_stores_hold_the_same(tmp_path: Path) -> None:
    plain, small = filled(tmp_path / "plain.zarr"), filled(tmp_path / "small.zarr", "zstd")
    assert_same(plain, small)
    assert size(small.path) < 0.85 * size(plain.path)
    assert verify(small).damage == {}
    packed = pack(small, tmp_path / "p.zarr")
    assert packed.compress == "zstd"
    assert_same(plain, packed)
    assert size(packed.path) < 0.85 * size(plain.path)
    assert verify(packed).damage == {}
    assert_same(plain, pack(plain, tmp_path / "q.zarr", compress="zstd"))
    assert_same(plain, pack(small, tmp_path / "r.zarr", compress="none"))
    group = zarr.open_group(tmp_path / "small.zarr", mode="r")["videos/v0"]
    np.testing.assert_array_equal(group["rgb"][...], plain.read("v0").features["rgb"])
    np.testing.assert_array_equal(
        zarr.open_array(tmp_path / "p.zarr" / "rgb", mode="r")[:20], plain.read("v0").features["rgb"]
    )


def test_an_open_store_keeps_arrays_as_it_was_made(tmp_path: Path) -> None:
    filled(tmp_path / "s.zarr", "zstd")
    store = open_or_create_store(tmp_path / "s.zarr", {"stride": 8})
    assert store.compress == "zstd"
    with pytest.raises(UserError, match=r"was made with --compress zstd: leave that option out"):
        open_or_create_store(tmp_path / "s.zarr", {"stride": 8}, compress="none")
    assert filled(tmp_path / "t.zarr").compress == "none"


@pytest.mark.parametrize("tier", ["growing", "packed"])
def test_damage_of_compressed_arrays(tmp_path: Path, tier: str) -> None:
    store = filled(tmp_path / "s.zarr", "zstd", count=2)
    if tier == "packed":
        store = pack(store, tmp_path / "p.zarr")
    folder = Path(store.path) / ("rgb" if tier == "packed" else "videos/v0/rgb") / "c"
    (path,) = [p for p in folder.rglob("*") if p.is_file()]
    data = bytearray(path.read_bytes())
    for at in (0, 40, len(data) // 2):
        changed = bytearray(data)
        changed[at] ^= 8
        path.write_bytes(changed)
        with pytest.raises(UserError, match=r"'v0' .*array 'rgb' is damaged"):
            open_store(store.path).read("v0")


def test_float32_is_kept_bit_for_bit(tmp_path: Path) -> None:
    store = filled(tmp_path / "s.zarr", recipe={"dtype": "float32"})
    assert store.dtype == "float32"
    for tier in (store, pack(store, tmp_path / "p.zarr"), pack(store, tmp_path / "q.zarr", compress="zstd")):
        rows = tier.read("v1").features["rgb"]
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, relu(27, seed=1))
        assert verify(tier).damage == {}
    store.write("large", {"rgb": np.full((2, 64), 1e5), "flow": np.ones((2, 3))}, spans(2))
    with pytest.raises(UserError, match="do not fit float32, whose maximum is"):
        store.write("over", {"rgb": np.full((2, 64), 1e300), "flow": np.ones((2, 3))}, spans(2))
    with pytest.raises(UserError, match=r"dtype is float32 there and \(absent\) here"):
        open_or_create_store(tmp_path / "s.zarr", {})


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), compress=st.sampled_from(["none", "zstd"]), codecs=st.booleans())
def test_any_rows_of_a_packed_array(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, compress: Any, codecs: bool
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    counts = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    store = create_store(folder / "s.zarr", {}, compress=compress)
    for i, count in enumerate(counts):
        store.write(f"v{i}", {"rgb": relu(count, 5, i)}, spans(count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK_BYTES", 10 * data.draw(st.integers(1, 4)))
        patch.setattr(module, "_SHARD_BYTES", 10 * data.draw(st.integers(1, 12)))
        pack(store, folder / "p.zarr")
    whole = np.concatenate([relu(count, 5, i) for i, count in enumerate(counts)]).astype(np.float16)
    rows = ShardedRows(LocalBackend(folder / "p.zarr"), "rgb")
    assert rows._codec is not None
    if codecs:  # as if another program had written it
        rows._codec = None
    for _ in range(4):
        start = data.draw(st.integers(0, len(whole) - 1))
        stop = data.draw(st.integers(start + 1, len(whole)))
        read = rows.read(start, stop)
        np.testing.assert_array_equal(read, whole[start:stop])
        read[...] = 7  # the reader's own rows stay as they are


def test_videos_one_after_the_other(tmp_path: Path) -> None:
    store = filled(tmp_path / "s.zarr")
    assert [video.id for video in store] == list(store.ids)
    assert [video.id for video in store.read_all(["v2", "v0"], ["rgb"])] == ["v2", "v0"]
    assert all(list(video.features) == ["rgb"] for video in store.read_all(streams=["rgb"]))
    with pytest.raises(UserError, match="no video 'x'"):
        list(store.read_all(["v0", "x"]))


def test_a_store_says_what_it_is(tmp_path: Path) -> None:
    store = filled(tmp_path / "s.zarr")
    what = f"4 videos, flow 3 + rgb 64 float16, growing, recipe {store.fingerprint[:12]}"
    assert repr(store) == f"<FeatureStore 'toy' at {store.path}: {what}>"
    assert "4 videos" in repr(pack(store, tmp_path / "p.zarr"))
    assert "0 videos, growing" in repr(create_store(tmp_path / "e.zarr", {}))
    (tmp_path / "s.zarr" / "videos").rename(tmp_path / "away")
    assert "cannot be read" in repr(store)


def test_what_was_probably_meant(tmp_path: Path) -> None:
    store = filled(tmp_path / "data" / "s.zarr")
    with pytest.raises(UserError, match=rf"exists but is not a feature store; did you mean {store.path}\?"):
        open_store(tmp_path / "data")
    for inside in ("videos", "videos/v0"):
        with pytest.raises(UserError, match=rf"not a feature store.*did you mean {store.path}\?"):
            open_store(tmp_path / "data" / "s.zarr" / inside)
    with pytest.raises(UserError, match=r"does not exist; python extract/run\.py VIDEOS"):
        open_store(tmp_path / "other" / "t.zarr")


@pytest.mark.parametrize("tier", ["growing", "packed"])
def test_names_of_arrays_do_not_lead_out_of_a_store(tmp_path: Path, tier: str) -> None:
    store = filled(tmp_path / "far" / "s.zarr", count=1)
    zarr.create_array(tmp_path / "secret", data=relu(20).astype(np.float16), chunks=(20, 64))
    name = "../../../../secret" if tier == "growing" else "../../secret"
    record = store.path / "videos" / "v0" / "zarr.json"
    attributes = group_attributes(record.read_bytes())
    attributes["arrays"][name] = attributes["arrays"]["rgb"]
    attributes["fingerprints"][name] = store.fingerprint_of(name)
    if tier == "growing":
        record.write_bytes(group_bytes(attributes))
    else:
        store = pack(store, tmp_path / "far" / "p.zarr")
        store._index["v0"][1].update(attributes)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="is not the name of an array"):
        store.read("v0")
    store.read("v0", ["rgb"])
    assert any("is not the name of an array" in line for line in store.check("v0").values())
