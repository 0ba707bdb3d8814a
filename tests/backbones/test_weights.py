"""Files of weights are read as data: nothing in them is run, and damage is said in one line."""

from __future__ import annotations

import os
import pickle
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssn_feat.backbones import read_weights
from ssn_feat.backbones.weights import save_state, state_sha256
from ssn_feat.errors import UserError


class Payload:
    """An object that would run a command when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


def test_code_in_a_file_of_weights_is_not_run(tmp_path: Path) -> None:
    for write in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))):
        write({"state_dict": {"a": torch.zeros(1)}, "x": Payload(tmp_path / "ran")}, tmp_path / "evil.pth")
        with pytest.raises(UserError, match=r"evil\.pth cannot be read as weights"):
            read_weights(tmp_path / "evil.pth")
        assert not (tmp_path / "ran").exists()


def test_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(1000.0)}, tmp_path / "good.pth")
    whole = (tmp_path / "good.pth").read_bytes()
    for content in (b"", b"not weights at all", whole[: len(whole) // 2], whole[:20]):
        (tmp_path / "bad.pth").write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.pth cannot be read as weights") as error:
            read_weights(tmp_path / "bad.pth")
        assert "\n" not in str(error.value)
    for content, message in (
        ([torch.zeros(1)], "holds a list"),
        ({"epoch": 1}, "holds no weights"),
        ({"a": torch.tensor([1.0, float("nan")])}, "the weights a hold values that are not finite"),
        ({"a": torch.zeros(1), "reg_stats": torch.zeros(3)}, "reg_stats must be a tensor of shape"),
    ):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(UserError, match=message):
            read_weights(tmp_path / "other.pth")
    with pytest.raises(UserError, match="no file of weights at"):
        read_weights(tmp_path)


def test_the_old_file_format_is_read(tmp_path: Path) -> None:
    state = {"module.base_model.a": torch.ones(2), "module.activity_fc.weight": torch.ones(3)}
    torch.save({"state_dict": state}, tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False)
    checkpoint = read_weights(tmp_path / "old.pth.tar")
    assert (list(checkpoint.backbone), list(checkpoint.heads)) == (["a"], ["activity_fc.weight"])


def test_the_hash_of_a_state_depends_on_names_dtypes_shapes_and_values() -> None:
    state = {"a": torch.ones(4), "b": torch.tensor(1)}
    others = [
        {"a": torch.ones(4), "c": torch.tensor(1)},
        {"a": torch.ones(2, 2), "b": torch.tensor(1)},
        {"a": torch.ones(4).half(), "b": torch.tensor(1)},
        {"a": torch.ones(4), "b": torch.tensor(2)},
    ]
    assert state_sha256(state) == state_sha256(dict(reversed(state.items())))
    assert len({state_sha256(s) for s in [state, *others]}) == 5


def test_any_small_file_is_refused_in_one_line(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    contents = [bytes([first]) * size for first in range(256) for size in (1, 2, 9)]
    contents += [generator.bytes(int(size)) for size in generator.integers(1, 200, 200)]
    contents += [b"\x80\x02" + generator.bytes(int(size)) for size in generator.integers(1, 60, 200)]
    for content in contents:
        (tmp_path / "small.pth").write_bytes(content)
        with pytest.raises(UserError, match=r"small\.pth (cannot be read as weights|holds)") as refused:
            read_weights(tmp_path / "small.pth")
        assert "\n" not in str(refused.value)


def test_no_message_advises_to_load_untrusted_files(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    for content in (b"x" * 50, pickle.dumps(Path, 2)):
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read as weights") as raised:
            read_weights(path)
        assert "weights_only" not in str(raised.value)
        assert "safe_globals" not in str(raised.value)


def test_weights_are_written_for_everyone_and_leave_nothing_behind(tmp_path: Path) -> None:
    save_state(tmp_path / "w.pth", {"a": torch.ones(2)}, {"backbone": "x"})
    assert stat.S_IMODE((tmp_path / "w.pth").stat().st_mode) == 0o666 & ~umask()
    assert read_weights(tmp_path / "w.pth").about == {"backbone": "x"}
    assert [path.name for path in tmp_path.iterdir()] == ["w.pth"]


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
