"""TensorBoard events hold what the log holds; without the package one line says so."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from synthetic_store import quick, write

from ssn_feat.errors import UserError
from ssn_feat.runs.checkpoints import read_run_checkpoint
from ssn_feat.training.fit import fit


@pytest.fixture
def brief(tmp_path):
    data = write(tmp_path, videos=6, dim=6)
    schedule = quick(epochs=3, epoch_multiplier=2, batch_videos=2)
    return data.options(tmp_path / "run", optimisation=schedule, tensorboard=True)


def events_of(folder):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulators.EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return {name: [(e.step, e.value) for e in found.Scalars(name)] for name in found.Tags()["scalars"]}


def test_events_are_the_log(brief):
    pytest.importorskip("tensorboard")
    for options in (replace(brief, seeds=2, out=brief.out / "two"), brief, replace(brief, overwrite=True)):
        fit(options)
    for folder in (brief.out, brief.out / "two" / "seed-1"):
        log, found = read_run_checkpoint(folder / "checkpoint.pt")["log"], events_of(folder)
        assert found.keys() == log[0].keys() - {"epoch"}
        for name, values in found.items():
            assert values == [(line["epoch"], pytest.approx(line[name], rel=1e-6)) for line in log]


def test_without_the_package_one_line_says_what_to_install(brief, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match="needs the package tensorboard: pip install tensorboard"):
        fit(brief)
    assert not brief.out.exists()
    fit(replace(brief, tensorboard=False))


def test_events_that_cannot_be_written_are_one_line(brief):
    pytest.importorskip("tensorboard")
    brief.out.mkdir()
    (brief.out / "tensorboard").touch()
    with pytest.raises(UserError, match=r"cannot write the events in .*tensorboard: (File exists|Not a directory)"):
        fit(brief)
