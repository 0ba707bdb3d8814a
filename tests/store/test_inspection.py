"""How far a store is, who is at work on it, and whether it is whole."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from store_writers import rows_of, started

from ssn_feat.store import FeatureStore, StoreWriteError, create_store, open_or_create_store, open_store, status, verify
from ssn_feat.store.backends import group_attributes, group_bytes
from ssn_feat.store.claims import LEASE_SECONDS
from ssn_feat.store.local_backend import LocalClaims


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
