import sys

import numpy as np
import pytest
from films import pictures, skip_start, write, write_at, write_with_audio

from ssn_feat.video import frames


def decoded(path):
    film = frames(path)
    for _ in film:
        pass
    return film.decoded


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".webm"])
def test_whole_files_are_complete(tmp_path, suffix):
    found = decoded(write(tmp_path / f"a{suffix}", pictures(60)))
    assert (found.frames, found.incomplete, found.damage) == (60, False, "")


def test_a_file_that_was_cut_off(tmp_path):
    pytest.importorskip("av")
    found = decoded(cut(write(tmp_path / "a.avi", pictures(60)), 0.5))
    assert found.incomplete
    assert "cut off at" in found.damage
    assert found.frames < 40


def test_a_cut_matroska_file(tmp_path):
    pytest.importorskip("av")
    found = decoded(cut(write_at(tmp_path / "a.mkv", pictures(60), [40 * i for i in range(60)]), 0.6))
    assert found.incomplete
    assert "s of 2.4" in found.damage


def test_damage_in_the_middle(tmp_path):
    pytest.importorskip("av")
    path = write(tmp_path / "a.mp4", pictures(60))
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    middle = start + (len(data) - start) // 3
    data[middle : middle + len(data) // 2] = bytes(len(data) // 2)
    path.write_bytes(data)
    found = decoded(path)
    # Whether the decoder conceals the damage or stops is its own; what is not delivered must not go unnoticed.
    assert found.frames > 55 or found.incomplete


def test_frames_lost_in_the_middle(shared, tmp_path):
    pytest.importorskip("av")
    data = bytearray((shared / "data" / "videos" / "v_ApplyEyeMakeup_g01_c01.avi").read_bytes())
    for at in np.random.default_rng(0).integers(len(data) // 10, len(data) * 9 // 10, 200):
        data[at] ^= 0xFF
    path = tmp_path / "flipped.avi"
    path.write_bytes(data)
    found = decoded(path)
    assert found.frames < 164
    assert found.incomplete


def test_sound_that_is_longer_than_the_picture_is_no_damage(tmp_path):
    pytest.importorskip("av")
    found = decoded(write_with_audio(tmp_path / "a.mkv", pictures(25), seconds=3))
    assert found.frames == 25
    assert not found.incomplete


def test_an_edit_list_is_no_damage(tmp_path):
    pytest.importorskip("av")
    found = decoded(skip_start(write(tmp_path / "a.mp4", pictures(60)), seconds=0.96))
    assert found.frames == 36
    assert (found.declared_frames, found.incomplete) == (60, False)


def test_without_pyav_a_suspect_is_incomplete(tmp_path, monkeypatch):
    path = cut(write(tmp_path / "a.avi", pictures(60)), 0.5)
    monkeypatch.setitem(sys.modules, "av", None)
    found = decoded(path)
    assert found.incomplete
    assert "pip install av" in found.damage
