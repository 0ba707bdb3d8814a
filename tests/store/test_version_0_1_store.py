"""Stores that version 0.1 wrote are read, array by array, and unknown keys of other versions are ignored."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from version_0_1 import V0_1, expected, sha256

from ssn_feat.store import open_store, pack, status, verify
from ssn_feat.store.backends import group_attributes, group_bytes

STORES = ("growing.zarr", "packed.zarr")


@pytest.mark.parametrize("name", STORES)
def test_stores_are_read_bit_for_bit(name: str) -> None:
    store, known = open_store(V0_1 / name), expected()["stores"][name]
    assert (store.tier, store.name, store.fingerprint) == (known["tier"], known["name"], known["fingerprint"])
    assert store.recipe == known["recipe"]
    assert list(store.ids) == known["ids"]
    assert list(store.streams) == known["streams"]
    assert {stream: store.feature_dim(stream) for stream in store.streams} == known["feature_dim"]
    for video in store:
        content = known["videos"][video.id]
        assert (video.duration, video.fps) == (content["duration"], content["fps"])
        assert store.rows(video.id) == content["rows"]
        for array, described in content["arrays"].items():
            values = video.spans if array == "time" else video.features[array]
            assert [list(values.shape), values.dtype.name] == [described["shape"], described["dtype"]]
            assert sha256(values) == described["sha256"]
    failures = {f.id: {"reason": f.reason, "tries": f.tries} for f in store.failures().values()}
    assert failures == known["failures"]
    assert store.runs() == known["runs"]


@pytest.mark.parametrize("name", STORES)
def test_stores_are_verified(name: str) -> None:
    result = verify(open_store(V0_1 / name))
    assert (result.videos, result.damage) == (6, {})


def test_packing_gives_the_arrays_that_0_1_packed(tmp_path: Path) -> None:
    packed = pack(open_store(V0_1 / "growing.zarr"), tmp_path / "packed.zarr")
    known = expected()["stores"]["packed.zarr"]["videos"]
    for video in packed:
        assert {stream: sha256(rows) for stream, rows in video.features.items()} == {
            stream: known[video.id]["arrays"][stream]["sha256"] for stream in video.features
        }


def _add_to_group(path: Path, **unknown: Any) -> None:
    """Add attributes to a group of a store, with a valid checksum, as another version would."""
    path.write_bytes(group_bytes({**group_attributes(path.read_bytes()), **unknown}))


def test_keys_that_this_version_does_not_know_are_ignored(tmp_path: Path) -> None:
    shutil.copytree(V0_1 / "growing.zarr", tmp_path / "s.zarr")
    before = open_store(tmp_path / "s.zarr")
    (run,) = before.runs()
    for name in ("zarr.json", "videos/train_a/zarr.json", "failed/broken/zarr.json"):
        _add_to_group(tmp_path / "s.zarr" / name, newer=[1, 2])
    (record,) = (tmp_path / "s.zarr/runs").glob("*/zarr.json")
    _add_to_group(record, newer=[1, 2], options={**run["options"], "newer": {"deep": True}})
    store = open_store(tmp_path / "s.zarr")
    assert store.fingerprint == before.fingerprint
    assert store.read("train_a").info["newer"] == [1, 2]
    assert store.failures() == before.failures()
    assert store.runs()[0]["videos"] == run["videos"]
    assert status(store) == status(before)
    assert verify(store).damage == {}
