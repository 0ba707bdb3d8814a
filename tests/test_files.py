"""Files are complete or not there."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssn_feat.errors import UserError
from ssn_feat.files import replacing, write_npy, write_npz, write_text, write_torch


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_come_back_and_nothing_else(tmp_path: Path, compressed: bool) -> None:
    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "words": np.array(["x", "longer"]),
        "empty": np.zeros((0, 2), np.uint8),
    }
    write_npz(tmp_path / "new" / "s.npz", arrays, compressed)
    with np.load(tmp_path / "new" / "s.npz", allow_pickle=False) as held:
        assert sorted(held.files) == sorted(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(held[name], array)
            assert held[name].dtype == array.dtype
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["s.npz"]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    write_npz(tmp_path / "s.npz", {"a": np.ones(3)})
    with pytest.raises(ValueError, match="allow_pickle"):
        write_npz(tmp_path / "s.npz", {"a": np.array([{}], dtype=object)})
    with pytest.raises(UserError, match="cannot write"):
        write_half(tmp_path / "s.npz")
    assert np.load(tmp_path / "s.npz")["a"].sum() == 3
    assert [p.name for p in tmp_path.iterdir()] == ["s.npz"]


def test_a_file_in_place_of_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*s\.npz"):
        write_npz(tmp_path / "file" / "s.npz", {"a": np.ones(3)})


def write_half(path: Path) -> None:
    with replacing(path) as part:
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")


TOO_LARGE = """
import gc, resource, signal, sys
from pathlib import Path
import numpy as np
from ssn_feat.errors import UserError
from ssn_feat.files import write_npz
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_npz(Path(sys.argv[1]), {"a": np.random.default_rng(0).random((400, 400))})
except UserError as error:
    print(error)
gc.collect()
"""


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", TOO_LARGE, tmp_path / "s.npz"], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("cannot write")
    assert run.stdout.count("\n") == 1
    assert not run.stderr
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_system_behind_that_of_a_writer_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*c\.pt: No space left on device"):
        write_as_pytorch(tmp_path / "c.pt")
    with pytest.raises(RuntimeError, match="of the program"), replacing(tmp_path / "c.pt"):
        raise RuntimeError("of the program")
    assert not list(tmp_path.iterdir())


def write_as_pytorch(path: Path) -> None:
    with replacing(path) as part:
        try:
            part.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        finally:
            raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_umask_decides_who_may_read_a_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_torch(tmp_path / "c.pt", {"a": 1})
        write_npz(tmp_path / "s.npz", {"a": np.ones(3)})
        write_npy(tmp_path / "a.npy", np.ones(3))
        write_text(tmp_path / "t.txt", "text\n")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o666 & ~umask}
    assert np.load(tmp_path / "a.npy").sum() == 3


def test_text_that_utf_8_cannot_hold_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*t\.txt: '\\ud800' is not valid text, in 'jump\\ud800'"):
        write_text(tmp_path / "t.txt", "jump\ud800")
    assert not list(tmp_path.iterdir())
