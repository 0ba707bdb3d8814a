"""Videos whose files changed after they were extracted are named, and extracted again with --update."""

import os
from pathlib import Path

import pytest
from films import encode
from small import arrays, options, pictures, videos, write

from ssn_feat.extraction import extract, sources
from ssn_feat.store import open_store, status, verify
from ssn_feat.store.maintenance import StatusOptions, print_status


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return videos(tmp_path / "videos")


@pytest.fixture
def store(folder: Path, tmp_path: Path) -> Path:
    assert extract(options(folder, tmp_path / "s.zarr")).exit_code == 0
    return tmp_path / "s.zarr"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read to compare them."""
    names: list[str] = []
    digest = sources.source_sha256

    def noted(path: Path) -> str:
        names.append(path.name)
        return digest(path)

    monkeypatch.setattr("ssn_feat.extraction.changed_sources.source_sha256", noted)
    return names


def change(path: Path, seed: int = 9, frames: int = 30) -> None:
    """Another video under the same name."""
    path.unlink()
    write(path, pictures(frames, seed=seed))


def test_changed_file_is_named_and_kept_without_update(
    folder: Path, store: Path, hashed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = arrays(store)
    change(folder / "v1.avi")
    capsys.readouterr()
    for dry_run in (True, False):
        report = extract(options(folder, store, dry_run=dry_run))
        assert (list(report.changed), report.extracted, report.exit_code) == (["v1"], {}, 0)
        told = capsys.readouterr().out
        assert "changed  1 video since extraction: --update extracts changed videos again" in told
        assert "\n  v1: its file has " in told
    assert "1 video changed since extraction: v1; --update extracts changed videos again" in told
    assert (arrays(store), hashed) == (before, [])  # another size says enough


def test_update_replaces_what_changed_and_only_that(folder: Path, store: Path, tmp_path: Path) -> None:
    untouched = (store / "videos" / "v0" / "zarr.json").read_bytes()
    change(folder / "v1.avi")
    report = extract(options(folder, store, update=True))
    assert (list(report.extracted), report.changed, report.done_before) == (["v1"], {}, 2)
    extract(options(folder, tmp_path / "anew.zarr"))
    held, anew = open_store(store), open_store(tmp_path / "anew.zarr")
    for stream, rows in anew.read("v1").features.items():
        assert rows.tobytes() == held.read("v1").features[stream].tobytes()
    assert held.attributes("v1")["source"] == anew.attributes("v1")["source"]
    assert (store / "videos" / "v0" / "zarr.json").read_bytes() == untouched
    assert verify(held).damage == {}
    assert extract(options(folder, store, update=True)).extracted == {}


def test_update_that_fails_keeps_the_video(folder: Path, store: Path) -> None:
    before = arrays(store)
    (folder / "v1.avi").write_bytes(b"no video")
    report = extract(options(folder, store, update=True))
    assert (list(report.failures), report.exit_code) == (["v1"], 1)
    assert arrays(store) == before


def test_file_that_was_only_touched_is_hashed_once(folder: Path, store: Path, hashed: list[str]) -> None:
    os.utime(folder / "v1.avi", (1, 1))
    assert status(open_store(store)).videos["v1"].state == "changed"
    for _ in range(3):
        report = extract(options(folder, store, update=True))
        assert (report.changed, report.extracted) == ({}, {})
    assert hashed == ["v1.avi"]
    assert {video.state for video in status(open_store(store)).videos.values()} == {"done"}


def test_same_size_and_another_content_is_a_change(folder: Path, store: Path, hashed: list[str]) -> None:
    path = folder / "v1.avi"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    report = extract(options(folder, store))
    assert report.changed == {"v1": "its file has the same size but different content"}
    assert hashed == ["v1.avi"]


def test_nothing_is_hashed_where_nothing_changed(folder: Path, store: Path, hashed: list[str]) -> None:
    assert extract(options(folder, store)).changed == {}
    assert hashed == []


def test_moved_folder_is_no_change(folder: Path, store: Path, hashed: list[str]) -> None:
    folder.rename(folder.with_name("moved"))
    assert extract(options(folder.with_name("moved"), store)).changed == {}
    assert hashed == []
    assert {video.state for video in status(open_store(store)).videos.values()} == {"done"}


def test_file_that_is_gone_makes_an_orphan(folder: Path, store: Path) -> None:
    (folder / "v1.avi").unlink()
    assert status(open_store(store)).videos["v1"].note == "its file is gone"
    extract(options(folder, store))  # the record of the run no longer has it
    assert status(open_store(store)).videos["v1"].note == "no recorded run extracts it"


def test_update_with_one_of_two_streams_keeps_the_video(folder: Path, store: Path) -> None:
    before = arrays(store)
    change(folder / "v1.avi")
    report = extract(options(folder, store, streams=("rgb",), update=True))
    assert "stream flow must be extracted in the same run" in report.failures["v1"]
    assert arrays(store) == before


def test_jump_of_the_clock_is_in_the_log_and_in_the_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also in a folder with a link to itself."""
    folder = tmp_path / "videos"
    folder.mkdir()
    encode(folder / "a.ts", pictures(50), times=[k / 25 + 30 * (k >= 25) for k in range(50)])
    (folder / "again").symlink_to(folder)
    store = tmp_path / "s.zarr"
    assert list(extract(options(folder, store)).extracted) == ["a"]
    assert "the timestamps jump by +30.00 s after 0.96 s: no row spans that gap" in capsys.readouterr().out
    ((time, seconds),) = status(open_store(store)).videos["a"].gaps
    assert (time, seconds) == (pytest.approx(0.96), pytest.approx(30.0, abs=0.05))
    print_status(StatusOptions(store))
    assert "gaps     1 jump of the clock in 1 video\n  a: +30.00 s after 0.96 s" in capsys.readouterr().out
