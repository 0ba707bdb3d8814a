"""Several processes learn what one learns; one that is killed ends the run, which then goes on from its checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from conftest import ROOT
from small_films import brief, write_films
from test_end_to_end import losses

from ssn_feat.cli import save_yaml
from ssn_feat.finetuning.end_to_end import fit_end_to_end
from ssn_feat.runs.checkpoints import read_run_checkpoint

STEPS = 24


def test_two_processes_one_of_which_is_killed(tmp_path: Path) -> None:
    films = write_films(tmp_path, streams=("rgb",))
    schedule = {"optimisation": brief(epochs=STEPS, lr=0.05)}
    fit_end_to_end(films.options(tmp_path / "one", schedule))
    two = films.options(tmp_path / "two", schedule, save_every=0.0)
    save_yaml(two, tmp_path / "two.yaml")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
        "FILMS_DIE_AFTER": "22",
        "OMP_NUM_THREADS": "1",
    }
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--monitor-interval", "0.1")
    done = subprocess.run(
        [sys.executable, *torchrun, ROOT / "train" / "fit.py", "end-to-end", tmp_path / "two.yaml"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode != 0
    assert "error: " in done.stderr, done.stderr[-2000:]
    assert "--resume to continue from the last checkpoint" in done.stderr, done.stderr[-2000:]
    assert read_run_checkpoint(tmp_path / "two" / "checkpoint.pt")["epoch"] >= 20
    begun = losses(tmp_path / "two")
    assert 20 <= len(begun) < STEPS
    np.testing.assert_allclose(begun, losses(tmp_path / "one", len(begun)), rtol=1e-4, atol=1e-5)
    fit_end_to_end(replace(two, fit=replace(two.fit, resume=True)))
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-4, atol=1e-5)
