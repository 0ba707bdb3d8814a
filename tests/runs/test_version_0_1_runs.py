"""Runs that version 0.1 wrote, and runs whose options this version does not have: read, scored, resumed, repeated."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from version_0_1 import V0_1, expected, sha256

from ssn_feat.cli import load_yaml, parse
from ssn_feat.commands import fit_ssn
from ssn_feat.detection.scoring import score_store
from ssn_feat.errors import UserError
from ssn_feat.runs.checkpoints import Run, actionness_scores, load_run, read_run_checkpoint
from ssn_feat.store import open_store
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import FitOptions

RUNS = expected()["runs"]
PARTS = ("activity", "completeness", "regression")


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the files of 0.1, which is the current folder."""
    folder = tmp_path / "v0_1"
    shutil.copytree(V0_1, folder, ignore=shutil.ignore_patterns("*.webm", "packed.zarr", "*.py", "model"))
    monkeypatch.chdir(folder)
    return folder


def facts(run: Run) -> dict[str, Any]:
    standard = run.standardisation
    return {
        "kind": run.kind,
        "labels": list(run.labels),
        "streams": list(run.streams),
        "epoch": run.epoch,
        "finished": run.finished,
        "feature_dim": run.head.feature_dim,
        "fingerprint": run.fingerprint,
        "reg_stats": None if run.reg_stats is None else run.reg_stats.tolist(),
        "standardisation": standard and {"mean": standard.mean.tolist(), "scale": standard.scale.tolist()},
        "weights": {name: sha256(value.numpy()) for name, value in run.head.state_dict().items()},
    }


def assert_scores(run: Run, known: dict[str, Any], tolerance: float = 1e-5) -> None:
    """Scores of one video are those that 0.1 computed."""
    store, scored = open_store(V0_1 / "growing.zarr"), expected()["scored"]
    if run.kind == "actionness":
        features = store.read(scored["video"]).features
        np.testing.assert_allclose(actionness_scores(run, features), known["logits"], atol=tolerance)
        return
    (scores,) = score_store(store, {scored["video"]: np.array(scored["intervals"])}, [run])
    for part in PARTS:
        np.testing.assert_allclose(getattr(scores, part), known[part], atol=tolerance)


@pytest.mark.parametrize("name", RUNS)
def test_every_run_is_read_and_scores_as_before(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run, known = load_run(V0_1 / name), RUNS[name]
    assert facts(run) == {key: known[key] for key in facts(run)}
    assert run.augmentation == (0.5, 0.5)
    assert_scores(run, known)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("seed", [0, 1])
def test_the_shape_of_a_head_is_read(seed: int) -> None:
    run = load_run(V0_1 / f"runs/ssn-standardised/seed-{seed}")
    assert run.head.options.stpp == (1, (1, 2), 1)


def resumed() -> FitOptions:
    return replace(load_yaml(FitOptions, Path("runs/interrupted/config.yaml")), resume=True)


def assert_resumed(summary: dict[str, Any]) -> None:
    """The result of the interrupted run, resumed, is what 0.1 came to."""
    known = expected()["interrupted"]["resumed"]
    assert summary["steps"] == known["steps"]
    assert summary["final"] == pytest.approx(known["final"], abs=1e-4)
    run = load_run(Path("runs/interrupted"))
    assert (run.epoch, run.finished) == (known["epoch"], True)
    assert_scores(run, known, tolerance=1e-3)


def test_an_interrupted_run_is_resumed_with_the_same_result(copied: Path) -> None:
    before = [read_run_checkpoint(copied / "runs/interrupted/checkpoint.pt")[name] for name in ("epoch", "step")]
    assert before == [expected()["interrupted"][name] for name in ("epoch", "step")]
    assert_resumed(fit(resumed()))


def change_config(run: Path, change: Any) -> None:
    """Apply ``change`` to the options in both files of a run."""
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    change(saved["config"])
    torch.save(saved, run / "checkpoint.pt")
    values = yaml.safe_load((run / "config.yaml").read_text())
    change(values)
    (run / "config.yaml").write_text(yaml.safe_dump(values))


def rename_options(config: dict[str, Any]) -> None:
    """Options that other versions have, and others that they lack."""
    config["warp"] = "fast"
    config["optimisation"]["spin"] = [1, 2]
    config["groups"]["lost"] = 3
    del config["background_videos"], config["losses"]["label_smoothing"]


def test_options_of_another_version_do_not_matter_to_scoring(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_config(copied / "runs/ssn", lambda config: (rename_options(config), config.pop("ssn")))
    run = load_run(copied / "runs/ssn")
    assert facts(run) == {key: RUNS["runs/ssn"][key] for key in facts(run)}
    assert_scores(run, RUNS["runs/ssn"])
    assert capsys.readouterr().err == ""


def test_an_unknown_option_of_the_head_is_ignored_with_a_note(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = copied / "runs/ssn/checkpoint.pt"
    saved = torch.load(file, weights_only=True)
    saved["head"]["options"]["colour"] = "blue"
    torch.save(saved, file)
    assert_scores(load_run(copied / "runs/ssn"), RUNS["runs/ssn"])
    assert "the head has options that this version does not have: colour" in capsys.readouterr().err


def test_a_run_of_another_version_is_resumed_with_a_note(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_config(copied / "runs/interrupted", rename_options)
    assert_resumed(fit(resumed()))
    said = capsys.readouterr().err
    assert "runs/interrupted/config.yaml has options that this version does not have: " in said
    for name in ("warp", "optimisation.spin", "groups.lost"):
        assert name in said


def test_a_run_of_another_version_is_repeated_with_a_note(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_config(copied / "runs/ssn", rename_options)
    options = parse(fit_ssn(), ["runs/ssn/config.yaml", "--out", "again"], "fit head ssn")
    assert (options.out, options.optimisation.lr) == (Path("again"), 0.02)
    assert "config.yaml has options that this version does not have: " in capsys.readouterr().err


def test_a_mistyped_option_in_a_file_of_the_user_is_an_error(copied: Path) -> None:
    shutil.copy("runs/ssn/config.yaml", "mine.yaml")
    values = yaml.safe_load(Path("mine.yaml").read_text()) | {"stream": ["rgb"]}
    Path("mine.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match="stream"):
        load_yaml(FitOptions, Path("mine.yaml"))
