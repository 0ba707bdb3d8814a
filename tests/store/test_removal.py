"""Videos, streams and records of failures leave a store; nothing leaves it by mistake."""

from pathlib import Path

import numpy as np
import pytest

from ssn_feat.errors import UserError
from ssn_feat.store import FeatureStore, create_store, open_store, pack, verify
from ssn_feat.store.removal import RemoveOptions, remove


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FeatureStore:
    path = tmp_path / "s.zarr" if request.param == "folder" else f"memory://bucket/{tmp_path.name}/s.zarr"
    store = create_store(path, {"streams": {"flow": {}, "rgb": {}}})
    for video_id in ("a", "b/c", "d"):
        store.write(video_id, {"rgb": np.ones((2, 5)), "flow": np.ones((2, 3))}, [[0.0, 1.0], [1.0, 2.0]])
    store.record_failure("bad", "no frames")
    store.record_failure("worse", "no video")
    return store


def told(store: FeatureStore, capsys: pytest.CaptureFixture[str], **options: object) -> str:
    remove(RemoveOptions(Path(store.path), **options))  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_videos(store: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(store, capsys, ids=("b/c", "bad", "b/c")) == "removed 2 videos: b/c, bad\n"
    assert (store.ids, list(store.failures())) == (("a", "d"), ["worse"])
    assert verify(open_store(store.path)).damage == {}


def test_failures(store: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(store, capsys, failed=True) == "removed 2 records of failures: bad, worse\n"
    assert (len(store.ids), store.failures()) == (3, {})
    assert told(store, capsys, failed=True) == "removed 0 records of failures\n"


def test_stream(store: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(store, capsys, streams=("flow",)) == "removed stream flow\n"
    left = open_store(store.path)
    assert (left.streams, list(left.read("a").features)) == (("rgb",), ["rgb"])
    assert verify(left).damage == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ids": ("a", "x", "y")}, r"has no video x, y; python extract/status\.py .* --videos lists all"),
        ({"streams": ("flow", "audio")}, r"has no stream audio; it has flow, rgb"),
        ({"streams": ("flow", "rgb")}, r"has no other stream: delete the store instead"),
        ({}, r"nothing to remove: name ids of videos, --streams NAME, or --failed"),
        ({"ids": ("a",), "streams": ("flow",)}, r"streams are removed from all videos"),
    ],
)
def test_what_is_refused_removes_nothing(
    store: FeatureStore, options: dict[str, tuple[str, ...]], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=message):
        told(store, capsys, **options)
    left = open_store(store.path)
    assert (left.ids, left.streams, len(left.failures())) == (("a", "b/c", "d"), ("flow", "rgb"), 2)


def test_video_in_work_is_kept_with_all_others(store: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        open_store(store.path).claims.hold("d"),
        pytest.raises(UserError, match="another process is working on d: nothing was removed"),
    ):
        told(store, capsys, ids=("a", "d"))
    assert store.ids == ("a", "b/c", "d")
    told(store, capsys, ids=("a", "d"))
    assert store.ids == ("b/c",)
    assert store.claims.active() == []


def test_packed_store_is_read_only(store: FeatureStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = pack(store, tmp_path / "p.zarr")
    with pytest.raises(UserError, match="a packed store, which is read-only"):
        told(packed, capsys, ids=("a",))
