"""Folders whose files are checked: every changed bit is named, and no kill makes a whole file look damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ssn_feat import hashes
from ssn_feat.errors import UserError
from ssn_feat.files import replacing
from ssn_feat.hashes import HASHES, HashedFolder, check_files, read_checked, recorded_hashes


def test_a_changed_file_is_named(tmp_path: Path) -> None:
    folder = HashedFolder(tmp_path)
    folder.write("a.bin", b"first")
    folder.write("a.bin", b"second")
    folder.write("b.bin", b"other")
    assert read_checked(tmp_path / "a.bin") == b"second"
    check_files(tmp_path)
    (tmp_path / "b.bin").write_bytes(b"othes")
    for check in (lambda: read_checked(tmp_path / "b.bin"), lambda: check_files(tmp_path)):
        with pytest.raises(UserError, match=r"b\.bin is damaged or was changed: its SHA-256 .*hashes\.json"):
            check()
    assert read_checked(tmp_path / "a.bin") == b"second"


def test_what_is_not_recorded_is_not_checked(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"old")
    assert read_checked(tmp_path / "a.bin") == b"old"
    HashedFolder(tmp_path).write("b.bin", b"new")
    assert read_checked(tmp_path / "a.bin") == b"old"
    check_files(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_checked(tmp_path / "gone")


@pytest.mark.parametrize("bit", range(8))
def test_a_damaged_record_is_named_or_says_the_same(tmp_path: Path, bit: int) -> None:
    HashedFolder(tmp_path).write("a.bin", b"content")
    record = tmp_path / HASHES
    whole, recorded = record.read_bytes(), recorded_hashes(tmp_path)
    for at in range(len(whole)):
        record.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
        try:
            found = recorded_hashes(tmp_path)
        except UserError as error:
            said = str(error)
        else:
            said = "nothing: hashes.json is damaged in white space" if found == recorded else "other hashes"
        assert "hashes.json is damaged" in said


class Killed(BaseException):
    """Ends a write like a kill: nothing after it happens."""


@pytest.mark.parametrize("step", ["record", "rename"])
@pytest.mark.parametrize("recorded", [False, True])
def test_a_write_that_is_killed_leaves_files_that_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, recorded: bool
) -> None:
    if recorded:
        HashedFolder(tmp_path).write("a.bin", b"old")
    else:
        (tmp_path / "a.bin").write_bytes(b"old")
    for content in (b"killed", b"killed again"):  # by two processes one after the other
        with monkeypatch.context() as patch:
            if step == "record":
                patch.setattr(hashes, "write_text", kill)
            else:
                patch.setattr(HashedFolder, "_record", record_and_be_killed)
            with pytest.raises(Killed):
                HashedFolder(tmp_path).write("a.bin", content)
        assert read_checked(tmp_path / "a.bin") == b"old"
    folder = HashedFolder(tmp_path)
    for content in (b"new", b"newer"):
        folder.write("a.bin", content)
        assert read_checked(tmp_path / "a.bin") == content
    (tmp_path / "a.bin").write_bytes(b"old")
    with pytest.raises(UserError, match="is damaged"):
        read_checked(tmp_path / "a.bin")


def kill(*arguments: object) -> None:
    raise Killed


def record_and_be_killed(folder: HashedFolder, recorded: dict[str, list[str]]) -> None:
    content = {"files": recorded, "sha256": hashes._digest_of(recorded)}
    with replacing(folder.path / HASHES) as part:
        part.write_text(json.dumps(content))
    raise Killed


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, reads = HashedFolder(tmp_path), 0
    folder.write("a.bin", b"0")
    real = Path.read_bytes

    def read(path: Path) -> bytes:
        nonlocal reads
        content = real(path)
        if path.name == "a.bin" and reads < 2:  # the writer is two files ahead when the record is read
            reads += 1
            folder.write("a.bin", b"%d" % (2 * reads - 1))
            folder.write("a.bin", b"%d" % (2 * reads))
        return content

    monkeypatch.setattr(Path, "read_bytes", read)
    assert read_checked(tmp_path / "a.bin") == b"4"


def test_removed_files_are_forgotten(tmp_path: Path) -> None:
    folder = HashedFolder(tmp_path)
    folder.write("a.bin", b"1")
    folder.write("b.bin", b"2")
    folder.forget(["a.bin"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.bin", HASHES]
    (tmp_path / "a.bin").write_bytes(b"of another program")
    check_files(tmp_path)
    folder.forget(["b.bin"])
    assert not (tmp_path / HASHES).exists()


def test_the_content_before_the_last_is_damage_once_another_file_is_written(tmp_path: Path) -> None:
    folder = HashedFolder(tmp_path)
    folder.write("log.jsonl", b"one\n")
    folder.write("log.jsonl", b"one\ntwo\n")
    folder.write("summary.json", b"{}")
    (tmp_path / "log.jsonl").write_bytes(b"one\n")  # cut at the end of a line
    with pytest.raises(UserError, match=r"log\.jsonl is damaged"):
        check_files(tmp_path)
