"""How far a store is, who is at work on it, and whether it is whole."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_writers import rows_of, started

from ssn_feat.store import (
    FeatureStore,
    StoreWriteError,
    create_store,
    open_or_create_store,
    open_store,
    pack,
    status,
    verify,
)
from ssn_feat.store.backends import group_attributes, group_bytes
from ssn_feat.store.claims import LEASE_SECONDS
from ssn_feat.store.local_backend import LocalClaims
from ssn_feat.store.maintenance import describe_status
from ssn_feat.store.sources import difference


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = create_store(tmp_path / "s.zarr", {})
    for i, rows in enumerate([4, 6]):
        write(store, f"v{i}", rows)
    return store


def write(store: FeatureStore, video_id: str, rows: int) -> None:
    spans = np.arange(rows)[:, None] + np.array([[0.0, 1.0]])
    store.write(video_id, {"rgb": np.ones((rows, 5))}, spans)


def test_status_counts(store: FeatureStore) -> None:
    plan = {"videos": {"v0": 4.0, "v9": 5.0, "bad": 7.0}, "missing": ["gone", "v1"], "options": {"stride": 4}}
    store.record_run({**plan, "videos": {"other": 1.0}})
    store.record_run(plan)  # the same options: in place of the one before
    store.record_run({"videos": {"v8": 5.0}, "missing": [], "options": {"stride": 5}})
    store.record_failure("bad", "no frames")
    found = status(store)
    assert (found.done, found.rows, found.bytes) == (2, 10, 10 * (5 * 2 + 2 * 8))
    assert found.pending == {"v8": 5.0, "v9": 5.0}
    assert list(found.failures) == ["bad"]
    assert found.missing == ("gone",)
    assert found.pending_bytes == pytest.approx(found.bytes)
    assert (found.rate, found.seconds_left) == (None, None)


def test_rate_is_that_of_late_commits(store: FeatureStore) -> None:
    write(store, "v2", 20)
    now = time.time()
    for video_id, ago in {"v0": 30.0, "v1": 20.0, "v2": 10.0}.items():
        os.utime(store.path / "videos" / video_id / "zarr.json", (now - ago, now - ago))
    store.record_run({"videos": {"v9": 13.0}, "missing": [], "options": {}})
    found = status(store)
    assert found.rate == pytest.approx((6 + 20) / 20, rel=1e-3)
    assert found.seconds_left == pytest.approx(13 / 1.3, rel=1e-3)


def test_verify_names_what_is_damaged(store: FeatureStore) -> None:
    seen: list[None] = []
    assert verify(store, lambda: seen.append(None)).damage == {}
    assert len(seen) == 2
    chunk = store.path / "videos" / "v0" / "rgb" / "c" / "0" / "0"
    chunk.write_bytes(b"\1" + chunk.read_bytes()[1:])
    attributes = store.path / "videos" / "v1" / "zarr.json"
    changed = group_attributes(attributes.read_bytes())
    changed["arrays"]["rgb"]["sha256"] = "0" * 64
    changed["arrays"]["time"].pop("dtype")
    attributes.write_bytes(group_bytes(changed))
    damage = verify(store).damage
    assert sorted(damage) == ["v0", "v1"]
    assert "array 'rgb' is damaged" in damage["v0"][0]
    assert damage["v1"] == (
        "array 'rgb' is damaged (its sha256 differs from the recorded one)",
        "zarr.json lacks the dtype of array 'time'",
    )
    attributes.write_bytes(attributes.read_bytes().replace(b'"duration": 6.0', b'"duration": 7.0'))
    assert "its attributes do not match their checksum" in verify(store).damage["v1"][0]
    attributes.write_text("{}")
    assert "zarr.json is damaged" in verify(store).damage["v1"][0]


def test_claim_excludes_others_and_ends(store: FeatureStore) -> None:
    with store.claims.hold("../x") as held:
        assert held is not None
        with open_store(store.path).claims.hold("../x") as second:
            assert second is None
        (claim,) = store.claims.active()
        assert (claim.id, claim.pid) == ("../x", os.getpid())
        held.renew()
        with store.claims.hold("y") as other:
            assert other is not None
    assert store.claims.active() == []
    assert not store.backend.staging.path.exists()


def test_claim_of_a_dead_process_is_taken_over(store: FeatureStore) -> None:
    code = (
        "import os, signal; from ssn_feat.store import open_store\n"
        f"with open_store({str(store.path)!r}).claims.hold('v'): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (store.claims.claim_store.path / "v").exists()
    assert store.claims.active() == []
    with store.claims.hold("v") as held:
        assert held is not None


def test_claim_of_another_machine_ends_with_its_lease(store: FeatureStore) -> None:
    store.claims.claim_store.path.mkdir(parents=True)
    path = store.claims.claim_store.path / "v"
    path.write_text(json.dumps({"id": "v", "owner": "elsewhere~1~0"}))
    with store.claims.hold("v") as held:
        assert held is None
    assert [claim.host for claim in store.claims.active()] == ["elsewhere"]
    old = time.time() - LEASE_SECONDS - 1
    os.utime(path, (old, old))
    with store.claims.hold("v") as held:
        assert held is not None
    store.claims.claim_store.path.mkdir(parents=True)
    path.write_text("")  # made, not written yet: taken for alive until its lease ends
    with store.claims.hold("v") as held:
        assert held is None
    os.utime(path, (old, old))
    store.claims.clean()
    assert not path.exists()


def test_listing_of_claims_asks_for_the_time_once(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = store.claims.claim_store
    assert isinstance(claims, LocalClaims)
    claims.path.mkdir(parents=True)
    for number in range(5):
        (claims.path / f"v{number}").write_text(json.dumps({"id": f"v{number}", "owner": "elsewhere~1~0"}))
    asked: list[float] = []
    now = LocalClaims.now
    monkeypatch.setattr(LocalClaims, "now", lambda self: asked.append(now(self)) or asked[-1])
    assert len(store.claims.active()) == 5
    assert len(asked) == 1
    store.claims.clean()
    assert len(asked) == 2
    assert len(store.claims.active()) == 5


def files_of(path: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(path / "videos")): p.read_bytes() for p in (path / "videos").rglob("*") if p.is_file()}
    assert sum(name.endswith("c/0/0") for name in found) == 3 * len(open_store(path))
    return found


def wait_for(entries: int, folder: Path) -> None:
    deadline = time.monotonic() + 300
    while len(os.listdir(folder)) < entries:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_store_of_writers_killed_at_random_is_whole(tmp_path: Path) -> None:
    path, rng = tmp_path / "s.zarr", np.random.default_rng(0)
    for _ in range(5):
        writers = [started(path, 10_000, claim=True) for _ in range(4)]
        for _, told in writers:
            assert told.recv() == "ready"
        for writer, _ in writers:
            wait_for(len(os.listdir(path / "videos")) + 1, path / "videos")
            time.sleep(rng.uniform(0, 0.005))  # at any moment of a commit
            assert writer.is_alive()
            writer.kill()
            writer.join()
        assert verify(open_store(path)).damage == {}
    count = len(open_store(path)) + 10
    whole = tmp_path / "whole.zarr"
    for other in (path, whole):  # what is left; all in one go
        last, _ = started(other, count, claim=True)
        last.join()
        assert last.exitcode == 0
    assert len(open_store(path)) == count
    assert files_of(path) == files_of(whole)
    np.testing.assert_array_equal(open_store(path).read("v7").features["flow"], -rows_of(7))
    assert sorted(os.listdir(tmp_path)) == ["s.zarr", "whole.zarr"]


ENDS_AT_THE_LINK = """
import os, signal, sys
from ssn_feat.store import open_store
store, link = open_store(sys.argv[1]), os.link
def killed(*names):
    if sys.argv[2] == "after":
        link(*names)
    os.kill(os.getpid(), signal.SIGKILL)
os.link = killed
with store.claims.hold("v"):
    pass
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_claim_is_put_up_whole(tmp_path: Path, when: str) -> None:
    store = create_store(tmp_path / "s.zarr", {})
    done = subprocess.run([sys.executable, "-c", ENDS_AT_THE_LINK, str(store.path), when])
    assert done.returncode < 0
    with store.claims.hold("v") as held:
        assert held is not None, "what the killed process left keeps nobody away"
    open_or_create_store(store.path, {})
    assert not store.backend.staging.path.exists()


def test_claims_where_files_cannot_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    store = create_store(tmp_path / "s.zarr", {})
    with store.claims.hold("v") as held:
        assert held is not None
        with open_store(store.path).claims.hold("v") as second:
            assert second is None
        assert [claim.id for claim in store.claims.active()] == ["v"]
    assert not store.backend.staging.path.exists()


def test_folder_that_others_remove_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its being there already and Python's looking at what is there."""
    store, mkdir, removed = create_store(tmp_path / "s.zarr", {}), os.mkdir, []

    def made(path: Path, *arguments: int) -> None:
        name = Path(path).name
        if removed.count(name) < 2 and name in ("claims", "s.zarr.staging") and os.path.isdir(Path(path).parent):
            removed.append(name)
            raise FileExistsError(errno.EEXIST, "File exists")
        mkdir(path, *arguments)

    monkeypatch.setattr("os.mkdir", made)
    with store.claims.hold("v") as held:
        assert held is not None
    assert removed == ["s.zarr.staging", "s.zarr.staging", "claims", "claims"]
    removed.clear()
    with store.backend.staging.folder() as folder:
        assert folder.is_dir()
    assert removed == ["s.zarr.staging", "s.zarr.staging"]
    monkeypatch.undo()
    store.backend.staging.path.mkdir()
    store.backend.staging.path.joinpath("claims").touch()  # nobody's, and for good
    with pytest.raises(StoreWriteError, match="File exists"), store.claims.hold("v"):
        pass


def test_an_answer_that_was_lost_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def twice(*names: Path) -> None:
        link(*names)
        link(*names)

    monkeypatch.setattr("os.link", twice)
    store = create_store(tmp_path / "s.zarr", {})
    with store.claims.hold("v") as held:
        assert held is not None


def recorded(path: Path, sha256: str = "0a") -> dict[str, Any]:
    """What extraction records of a file."""
    found = path.stat()
    return {"source": {"name": path.name, "bytes": found.st_size, "modified": found.st_mtime, "sha256": sha256}}


@pytest.fixture
def extracted(tmp_path: Path) -> FeatureStore:
    """A store of the files v0 to v3 in a folder, with the record of the run that made it."""
    folder = tmp_path / "videos"
    folder.mkdir()
    store = create_store(tmp_path / "e.zarr", {})
    paths = {f"v{number}": folder / f"v{number}.mp4" for number in range(4)}
    for video_id, path in paths.items():
        path.write_bytes(b"film")
        store.write(video_id, {"rgb": np.ones((2, 5))}, [[0.0, 1.0], [1.0, 2.5]], recorded(path))
    plan = {"videos": dict.fromkeys(paths, 2.0), "missing": [], "options": {"videos": str(folder)}}
    store.record_run(plan | {"paths": {video_id: str(path) for video_id, path in paths.items()}})
    return store


def states(store: FeatureStore) -> dict[str, tuple[str, str]]:
    return {video.id: (video.state, video.note) for video in status(store).videos.values()}


def test_videos_of_a_packed_store_are_not_orphans(extracted: FeatureStore, tmp_path: Path) -> None:
    packed = pack(extracted, tmp_path / "packed.zarr")
    assert states(packed) == dict.fromkeys(("v0", "v1", "v2", "v3"), ("done", ""))
    (tmp_path / "videos" / "v2.mp4").unlink()
    assert states(packed)["v2"] == ("orphan", "its file is gone")
    told = describe_status(packed, status(packed))
    assert "orphan   1; change the store that this one was packed from, and pack that one again" in told
    assert "remove.py" not in told


def test_videos_whose_files_changed_or_are_gone_are_named(extracted: FeatureStore, tmp_path: Path) -> None:
    done = ("done", "")
    assert states(extracted) == dict.fromkeys(("v0", "v1", "v2", "v3"), done)
    folder = tmp_path / "videos"
    (folder / "v0.mp4").write_bytes(b"another")
    os.utime(folder / "v1.mp4", (1, 1))
    (folder / "v2.mp4").unlink()
    write(extracted, "w", 3)
    assert states(extracted) == {
        "v0": ("changed", "its file has 7 bytes, not 4"),
        "v1": ("changed", "its file was written again with the same size"),
        "v2": ("orphan", "its file is gone"),
        "v3": done,
        "w": ("orphan", "no recorded run extracts it"),
    }
    told = describe_status(extracted, status(extracted))
    assert "done     5 videos" in told
    assert "changed  2; extract/run.py compares their content" in told
    assert f"orphan   2; python extract/remove.py {extracted.path} ID removes one\n  v2: its file is gone" in told
    folder.rename(tmp_path / "elsewhere")  # a disk that is not mounted says nothing
    assert {state for state, _ in states(extracted).values()} == {"done", "orphan"}
    assert states(extracted)["v2"] == done


def test_a_time_that_was_verified_is_no_change(extracted: FeatureStore, tmp_path: Path) -> None:
    path = tmp_path / "videos" / "v1.mp4"
    os.utime(path, (1, 1))
    (run,) = extracted.runs()
    for sha256, expected in (("other", "changed"), ("0a", "done")):
        extracted.record_run(run | {"verified": {"v1": {"bytes": 4, "modified": 1.0, "sha256": sha256}}})
        assert states(extracted)["v1"][0] == expected


def test_record_without_a_time_is_compared_by_size(extracted: FeatureStore, tmp_path: Path) -> None:
    old = {name: value for name, value in extracted.attributes("v1")["source"].items() if name != "modified"}
    path = tmp_path / "videos" / "v1.mp4"
    os.utime(path, (1, 1))
    assert difference(old, path) == ""
    path.write_bytes(b"longer")
    assert difference(old, path) == "its file has 6 bytes, not 4"
    assert difference({"rgb": "v1.npy"}, path) == ""  # of imported features


def test_video_that_lacks_a_stream_of_a_run_is_pending(tmp_path: Path) -> None:
    store = create_store(tmp_path / "s.zarr", {"streams": {"flow": {}, "rgb": {}}})
    spans = [[0.0, 1.0]]
    store.write("a", {"rgb": np.ones((1, 5)), "flow": np.ones((1, 4))}, spans)
    store.write("b", {"rgb": np.ones((1, 5))}, spans)
    videos = {"videos": {"a": 1.0, "b": 1.0}, "missing": []}
    store.record_run(videos | {"options": {"snippets": {"streams": ["rgb"]}}})
    assert status(store).pending == {}
    store.record_run(videos | {"options": {"snippets": {"streams": ["rgb", "flow"]}}})
    assert (status(store).pending, status(store).streams) == ({"b": 1.0}, {"flow": 1, "rgb": 2})
    assert states(store) == {"a": ("done", ""), "b": ("pending", "lacks flow")}
    assert "streams  flow of 1, rgb of 2 of 2 videos" in describe_status(store, status(store))


def test_every_video_is_listed_with_its_state(extracted: FeatureStore, tmp_path: Path) -> None:
    (run,) = extracted.runs()
    extracted.record_run(run | {"videos": run["videos"] | {"bad": 2.0, "next": 2.0, "now": 2.0}, "missing": ["lost"]})
    gaps = [[10.0, -2.5], [20.0, 7.25]]
    extracted.write("w", {"rgb": np.ones((1, 5))}, [[0.0, 1.0]], {"gaps": gaps, "duration": 3600.0})
    extracted.record_failure("bad", "no frames")
    (extracted.path / "videos" / "v2" / "zarr.json").write_text("{}")
    with extracted.claims.hold("now"):
        found = status(extracted)
        told = describe_status(extracted, found, videos=True)
    assert {video.id: video.state for video in found.videos.values()} == {
        **dict.fromkeys(("v0", "v1", "v3"), "done"),
        "v2": "damaged",
        "w": "orphan",
        "bad": "failed",
        "next": "pending",
        "now": "in work",
        "lost": "missing",
    }
    assert (found.done, found.rows, sorted(found.pending)) == (5, 7, ["next", "now"])
    assert "gaps     2 jumps of the clock in 1 video\n  w: +7.25 s after 20.00 s\n  w: -2.50 s after 10.00 s" in told
    lines = told[told.index("videos   9") :].splitlines()
    assert lines[1:] == [
        "  failed   bad: no frames (1 try)",
        "  missing  lost",
        "  pending  next",
        lines[4],
        "  done     v0: rgb, 2 rows, 2.5 s",
        "  done     v1: rgb, 2 rows, 2.5 s",
        lines[7],
        "  done     v3: rgb, 2 rows, 2.5 s",
        "  orphan   w: rgb, 1 rows, 3,600.0 s; 2 gaps, the largest +7.25 s after 20.00 s; no recorded run extracts it",
    ]
    assert lines[4].startswith("  in work  now: ")
    assert lines[7].startswith("  damaged  v2: ")
