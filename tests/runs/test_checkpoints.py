"""Run folders: what is read back is what was written, and nothing of a bad file is trusted."""

from __future__ import annotations

import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from synthetic_store import quick, write

from ssn_feat.cli import load_yaml
from ssn_feat.errors import UserError
from ssn_feat.files import write_torch
from ssn_feat.runs.checkpoints import actionness_scores, load_run, read_run_checkpoint
from ssn_feat.runs.folders import RunFolder
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import FitOptions


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each head."""
    folder = tmp_path_factory.mktemp("runs")
    data = write(folder, videos=6, dim=6)
    schedule = quick(epochs=2, epoch_multiplier=2, batch_videos=2)
    for head in ("ssn", "actionness"):
        fit(data.options(folder / head, head=head, optimisation=schedule))
    return folder


def test_a_run_folder_holds_what_it_says(runs):
    folder = runs / "ssn"
    assert {p.name for p in folder.iterdir()} == {
        "config.yaml",
        "environment.json",
        "log.jsonl",
        "checkpoint.pt",
        "summary.json",
        "hashes.json",
    }
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1]
    assert lines[0].keys() == {"epoch", "lr", "loss", "activity", "completeness", "regression", "accuracy"}
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["final"] == lines[-1]
    assert json.loads((folder / "environment.json").read_text())["torch"] == torch.__version__
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert saved["store"]["recipe"] == {"backbone": "synthetic", "streams": ["rgb", "flow"]}


def test_a_run_says_which_features_it_takes(runs):
    run = load_run(runs / "ssn")
    assert (run.streams, run.head.feature_dim, run.head.training) == (("rgb",), 6, False)
    rows = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float16)
    np.testing.assert_array_equal(run.prepare({"rgb": rows, "flow": rows + 1}), run.prepare(rows))
    assert run.prepare(rows).dtype == torch.float32
    with pytest.raises(UserError, match=r"features \(T, 6\) of rgb, these are \(4, 5\)"):
        run.prepare(rows[:, :5])
    with pytest.raises(UserError, match="no stream 'rgb' among the features; there are flow"):
        run.prepare({"flow": rows})
    run.require_features({**run.fingerprints, "flow": "1" * 64}, "it")
    with pytest.raises(UserError, match=r"of the stream rgb, the store x .* extract with the same options"):
        run.require_features({"rgb": "0" * 64}, "the store x")


def test_actionness_comes_from_an_actionness_run(runs):
    rows = np.zeros((3, 6), dtype=np.float16)
    assert actionness_scores(load_run(runs / "actionness"), rows).shape == (3, 2)
    with pytest.raises(UserError, match="actionness"):
        actionness_scores(load_run(runs / "ssn"), rows)


def test_a_checkpoint_file_is_as_good_as_its_folder(runs):
    assert load_run(runs / "ssn" / "checkpoint.pt").labels == load_run(str(runs / "ssn")).labels


def test_what_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no run at .*: it has no checkpoint\.pt"):
        load_run(tmp_path)
    with pytest.raises(UserError, match=r"no run at .*nowhere"):
        load_run(tmp_path / "nowhere")
    for content in (b"", b"not a checkpoint", pickle.dumps({"a": 1}, protocol=2)):
        (tmp_path / "checkpoint.pt").write_bytes(content)
        with pytest.raises(UserError, match="is not a checkpoint"):
            load_run(tmp_path)
    torch.save({"state_dict": {}}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="not a checkpoint of this program"):
        load_run(tmp_path)


def test_a_damaged_or_newer_checkpoint_is_refused(runs, tmp_path):
    whole = (runs / "ssn" / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="is damaged"):
        load_run(tmp_path)
    saved = read_run_checkpoint(runs / "ssn" / "checkpoint.pt")
    torch.save(saved | {"version": 99}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="checkpoint version 99, this program reads 1"):
        load_run(tmp_path)
    torch.save({k: v for k, v in saved.items() if k != "labels"}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="is damaged: 'labels'"):
        load_run(tmp_path)
    torch.save(saved | {"model": {}}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="is damaged: Error"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["climb"]}, "it has 1 labels for 3 classes"),
        ({"labels": ["climb", "climb", "run"]}, "not different names"),
        ({"labels": ["climb", 1, "run"]}, "not different names"),
        ({"streams": []}, "not different names"),
        ({"reg_stats": torch.zeros(3)}, "reg_stats are not"),
        ({"reg_stats": torch.full((2, 2), float("nan"))}, "reg_stats are not"),
        ({"standardisation": {"mean": torch.zeros(5), "scale": torch.ones(5)}}, r"standardises \(5,\) features"),
        ({"head": {"kind": "ssn", "feature_dim": 10**9, "classes": 10**9, "options": {}}}, "overflowed"),
        ({"head": {"kind": "ssn", "feature_dim": 10**6, "classes": 10**6, "options": {}}}, "size mismatch"),
        ({"head": {"kind": "actionness", "feature_dim": 10**9, "dropout": 0.5}}, "Missing key|size mismatch"),
        ({"store": {"recipe": 3, "fingerprint": "x"}}, "not iterable"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(runs, tmp_path, change, message):
    saved = read_run_checkpoint(runs / "ssn" / "checkpoint.pt")
    write_torch(tmp_path / "checkpoint.pt", saved | change)
    with pytest.raises(UserError, match=rf"is damaged: .*({message})"):
        load_run(tmp_path)


@pytest.mark.parametrize("name", ["checkpoint.pt", "config.yaml", "environment.json", "log.jsonl", "summary.json"])
def test_a_flipped_bit_in_any_file_of_a_run_is_named(runs, tmp_path, name):
    shutil.copytree(runs / "ssn", tmp_path / "run")
    path = tmp_path / "run" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} is damaged or was changed.*Restore it"):
        load_run(tmp_path / "run")
    (tmp_path / "run" / "hashes.json").unlink()
    if name != "checkpoint.pt":
        load_run(tmp_path / "run")


class Evil:
    def __reduce__(self):
        return print, ("code of the file was run",)


def test_code_in_a_checkpoint_is_never_run(tmp_path, capsys):
    torch.save({"format": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="is not a checkpoint"):
        load_run(tmp_path)
    assert "code of the file" not in capsys.readouterr().out


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.save({"a": 1})
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*: No space left on device"):
        folder.save({"a": 2})
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint.pt", "hashes.json"}


def test_a_folder_that_cannot_be_written_is_refused(runs, tmp_path):
    (tmp_path / "file").write_text("")
    options = load_yaml(FitOptions, runs / "ssn" / "config.yaml")
    with pytest.raises(UserError, match="cannot write the run folder"):
        RunFolder(tmp_path / "file" / "run").create(options)
