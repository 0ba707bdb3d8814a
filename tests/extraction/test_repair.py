"""Telling, verifying, repairing and packing a store that extraction made."""

import dataclasses
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small import arrays, options, videos

from ssn_feat import cli
from ssn_feat.errors import UserError
from ssn_feat.extraction import extract
from ssn_feat.extraction.repair import VerifyOptions, verify_store
from ssn_feat.store import FeatureStore, create_store, open_or_create_store, open_store
from ssn_feat.store.maintenance import PackOptions, StatusOptions, pack_store, print_status

TINY = ("tiny:net", "tiny:medium")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return videos(tmp_path / "videos")


@pytest.fixture
def store(folder: Path, tmp_path: Path) -> Path:
    assert extract(options(folder, tmp_path / "s.zarr")).exit_code == 0
    return tmp_path / "s.zarr"


def damage(store: Path, *ids: str) -> None:
    for video_id in ids:
        chunk = store / "videos" / video_id / "rgb" / "c" / "0" / "0"
        chunk.write_bytes(bytes(b ^ 1 for b in chunk.read_bytes()))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_status_of_a_finished_store(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    print_status(StatusOptions(store))
    told = capsys.readouterr().out
    assert "(videos, growing), recipe" in told
    assert "done     3 videos, 15 snippets, 0.0 MB" in told
    assert "pending" not in told
    assert "failed" not in told


def test_status_of_a_store_that_is_not(folder: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_store(store).remove_video("v1")
    (folder / "v1.avi").write_bytes(b"x" * 100)
    extract(options(folder, store))
    open_store(store).remove_video("v2")
    capsys.readouterr()
    with open_store(store).claims.hold("v2"):
        found = print_status(StatusOptions(store, ids=True))
    assert found.pending == {"v2": 6.0}
    told = capsys.readouterr().out
    assert "failed   1\n  v1: " in told
    assert "(1 try)" in told
    assert "in work  v2 (" in told
    assert "pending  1, about 6 snippets, 0.0 MB\n  v2" in told


def test_verify(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify_store(VerifyOptions(store)) == 0
    damage(store, "v1")
    assert verify_store(VerifyOptions(store)) == 1
    told = capsys.readouterr().out
    assert "3 videos verified, 0 damaged" in told
    assert "3 videos verified, 1 damaged\n  v1: array 'rgb' is damaged" in told


def test_repair_extracts_what_is_damaged_and_only_that(
    store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = arrays(store)
    untouched = (store / "videos" / "v0" / "zarr.json").stat().st_mtime_ns
    damage(store, "v1", "v2")
    monkeypatch.chdir(folder)  # what is on record does not depend on where a command is given
    assert verify_store(VerifyOptions(store, repair=True, trust_modules=TINY)) == 0
    assert arrays(store) == before
    assert (store / "videos" / "v0" / "zarr.json").stat().st_mtime_ns == untouched


@pytest.mark.parametrize("recorded", [{}, {"crop": 224, "short_side": 256}])
def test_repair_takes_sizes_from_the_recipe(
    recorded: dict[str, int], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the record gives those of a network of 224 pixels, as records of defaults once did."""
    store = tmp_path / "m.zarr"
    extract(options(folder, store, backbone=("tiny:medium",)))
    snippets = open_store(store).recipe["snippets"]
    assert (snippets["crop"], snippets["short_side"]) == (64, 73)
    before = arrays(store)
    damage(store, "v1")
    (run,) = open_store(store).runs()
    run["options"]["snippets"] |= recorded
    monkeypatch.setattr(FeatureStore, "runs", lambda _: [run])
    assert verify_store(VerifyOptions(store, repair=True, trust_modules=TINY)) == 0
    assert arrays(store) == before


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: path.unlink(), "its file is not in"),
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "incomplete: "),
        (lambda path: path.write_bytes(path.with_name("v2.avi").read_bytes()), "is not the one that its features"),
    ],
)
def test_what_cannot_be_repaired_stays_and_is_named(
    harm: Callable[[Path], object], reason: str, store: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = open_store(store).read("v1", ["flow"]).features["flow"]
    v2 = open_store(store).read("v2").features["rgb"]
    damage(store, "v1", "v2")
    before = files_of(store / "videos" / "v1")
    harm(folder / "v1.avi")
    assert verify_store(VerifyOptions(store, repair=True, trust_modules=TINY)) == 1
    told = capsys.readouterr().out
    assert "3 videos verified, 1 damaged\n  v1: array 'rgb' is damaged" in told
    assert f"not repaired, it stays as it was: {reason}" in re.sub(r"its file v1\.avi ", "", told)
    assert files_of(store / "videos" / "v1") == before
    np.testing.assert_array_equal(open_store(store).read("v1", ["flow"]).features["flow"], sound)
    np.testing.assert_array_equal(open_store(store).read("v2").features["rgb"], v2)
    assert not store.with_name("s.zarr.staging").exists()


def test_a_new_source_is_taken_where_that_is_asked_for(store: Path, folder: Path) -> None:
    damage(store, "v1")
    (folder / "v1.avi").write_bytes((folder / "v2.avi").read_bytes())
    chosen = VerifyOptions(store, repair=True, accept_new_source=True, trust_modules=TINY)
    assert verify_store(chosen) == 0
    repaired, other = open_store(store).read("v1"), open_store(store).read("v2")
    assert repaired.info["source"]["sha256"] == other.info["source"]["sha256"]
    for stream, rows in other.features.items():
        np.testing.assert_array_equal(repaired.features[stream], rows)


@pytest.mark.parametrize("harm", ["flip", "remove", "swap"])
def test_damaged_attributes_and_times_are_repaired(store: Path, harm: str) -> None:
    before = arrays(store)
    record = store / "videos" / "v1" / "zarr.json"
    if harm == "flip":
        record.write_bytes(record.read_bytes().replace(b'"duration"', b'"duratiom"'))
    elif harm == "remove":
        record.unlink()
    else:
        shutil.rmtree(store / "videos" / "v1" / "time")
    assert verify_store(VerifyOptions(store, repair=True, trust_modules=TINY)) == 0
    assert arrays(store) == before


def test_only_damaged_streams_are_extracted(store: Path) -> None:
    before = {name: (store / "videos" / "v1" / name).stat().st_ino for name in ("flow", "time")}
    damage(store, "v1")
    assert verify_store(VerifyOptions(store, repair=True, trust_modules=TINY)) == 0
    held = sorted(path.name for path in (store / "videos" / "v1").iterdir() if path.is_dir())
    assert held == ["flow", "rgb~2", "time"]
    assert {name: (store / "videos" / "v1" / name).stat().st_ino for name in before} == before


def test_repair_on_a_full_disk_keeps_what_is_there(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    damage(store, "v1")
    before = files_of(store / "videos")
    for name in ("feature_store.write_array", "local_backend.sync_tree", "local_backend.os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(f"ssn_feat.store.{name}", full)
            assert verify_store(VerifyOptions(store, repair=True, trust_modules=TINY)) == 1
        assert "it stays as it was: cannot write to the store" in capsys.readouterr().out
        assert files_of(store / "videos") == before
    assert verify_store(VerifyOptions(store, repair=True, trust_modules=TINY)) == 0


def test_repair_of_what_no_run_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = create_store(tmp_path / "s.zarr", {})
    store.write("v1", {"rgb": np.ones((2, 2))}, [[0, 1], [1, 2]])
    damage(store.path, "v1")
    assert verify_store(VerifyOptions(store.path, repair=True, trust_modules=TINY)) == 1
    assert "it stays as it was: no recorded run extracts its rgb: remove it" in capsys.readouterr().out


def test_pack(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack_store(PackOptions(store, tmp_path / "p.zarr"))
    packed, source = open_store(tmp_path / "p.zarr"), open_store(store)
    assert packed.ids == source.ids
    np.testing.assert_array_equal(packed.read("v1").features["flow"], source.read("v1").features["flow"])
    told = capsys.readouterr().out
    assert "p.zarr: 3 videos, 15 snippets" in told
    assert "not finished" not in told
    source.remove_video("v1")
    pack_store(PackOptions(store, tmp_path / "q.zarr"))
    assert "s.zarr is not finished: 1 video pending" in capsys.readouterr().out
    with pytest.raises(UserError, match="a packed store, which is read-only"):
        extract(options(tmp_path / "videos", packed.path))


def test_damage_of_a_packed_store_is_named_and_not_repaired(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack_store(PackOptions(store, tmp_path / "p.zarr"))
    assert verify_store(VerifyOptions(tmp_path / "p.zarr", repair=True)) == 0
    (shard,) = [p for p in (tmp_path / "p.zarr" / "rgb" / "c").rglob("*") if p.is_file()]
    shard.write_bytes(bytes([shard.read_bytes()[0] ^ 1]) + shard.read_bytes()[1:])
    with pytest.raises(UserError, match=r"repair, the store that it was made from, and pack that one again"):
        verify_store(VerifyOptions(tmp_path / "p.zarr", repair=True))
    assert "3 damaged\n  v0: array 'rgb' is damaged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("function", "kind", "more"),
    [(print_status, StatusOptions, []), (verify_store, VerifyOptions, []), (pack_store, PackOptions, ["out.zarr"])],
)
def test_no_store_is_one_line_and_exit_code_2(
    function: object,
    kind: type,
    more: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["x.py", str(tmp_path / "none.zarr"), *more])
    with pytest.raises(SystemExit) as ended:
        cli.run(cli.Command(function, kind))  # type: ignore[arg-type]
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_shards_make_the_whole(folder: Path, store: Path, tmp_path: Path) -> None:
    parts = [extract(options(folder, tmp_path / "t.zarr", shard=f"{i}/2")).extracted for i in (1, 2)]
    assert [sorted(part) for part in parts] == [["v0", "v2"], ["v1"]]
    assert arrays(tmp_path / "t.zarr") == arrays(store)
    damage(tmp_path / "t.zarr", "v1", "v2")
    assert verify_store(VerifyOptions(tmp_path / "t.zarr", repair=True, trust_modules=TINY)) == 0
    for wrong in ("3/2", "0/2", "1", "a/b"):
        with pytest.raises(UserError, match="shard must be I/N with I from 1 to N"):
            dataclasses.replace(options(folder, store), shard=wrong)


def test_video_in_work_elsewhere_is_left(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_or_create_store(tmp_path / "s.zarr", _recipe(folder, tmp_path))
    with open_store(tmp_path / "s.zarr").claims.hold("v1"):
        report = extract(options(folder, tmp_path / "s.zarr"))
    assert (sorted(report.extracted), report.elsewhere, report.exit_code) == (["v0", "v2"], ("v1",), 0)
    assert "1 video skipped because other runs" in capsys.readouterr().out


def _recipe(folder: Path, tmp_path: Path) -> dict[str, object]:
    extract(options(folder / "v0.avi", tmp_path / "recipe.zarr"))
    return open_store(tmp_path / "recipe.zarr").recipe
