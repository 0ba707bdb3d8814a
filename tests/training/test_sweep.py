"""Grids over options: every combination is a run of its own, and the table says what came out."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from joblib import parallel_config
from synthetic_store import quick, write

from ssn_feat.errors import UserError
from ssn_feat.runs.checkpoints import load_run
from ssn_feat.training import sweep as sweeping
from ssn_feat.training.fit import fit
from ssn_feat.training.presets import PRESETS
from ssn_feat.training.sweep import SWEEP_PRESETS, SweepOptions, combinations, sweep


@pytest.fixture
def brief(tmp_path):
    """Options of a sweep of runs of a few steps."""

    def options(**changes):
        data = write(tmp_path, videos=6, dim=6) if not (tmp_path / "features.zarr").exists() else None
        if data is not None:
            options.made = data.options(
                tmp_path / "out", optimisation=quick(epochs=1, epoch_multiplier=2, batch_videos=2)
            )
        return SweepOptions(**{f.name: getattr(options.made, f.name) for f in fields(options.made)} | changes)

    return options


def test_every_combination_is_a_run(brief, capsys):
    options = brief(vary=("lr=0.001,1e-2", "stpp=[1,1,1],[1,[1,2],1]"), quiet=False)
    results = sweep(options)
    assert [tuple(result["values"].values()) for result in results] == [
        (0.001, [1, 1, 1]), (0.001, [1, [1, 2], 1]), (0.01, [1, 1, 1]), (0.01, [1, [1, 2], 1]),
    ]  # fmt: skip
    for result in results:
        run = load_run(result["out"])
        assert run.config["optimisation"]["lr"] == result["values"]["lr"]
        assert run.finished
    assert [result["out"].removeprefix(f"{options.out}/") for result in results] == [
        f"lr={lr},stpp={stpp}" for lr in (0.001, 0.01) for stpp in ("[1,1,1]", "[1,[1,2],1]")
    ]
    assert json.loads((options.out / "sweep.json").read_text()) == results
    printed = capsys.readouterr().out
    assert "lr" in printed
    assert "accuracy" in printed
    assert sweep(brief(vary=options.vary, resume=True)) == results
    with pytest.raises(UserError, match=r"lr=0\.001,stpp=\[1,1,1\] already holds a run: add --resume"):
        sweep(options)


def test_combinations_of_seeds_side_by_side_have_mean_and_spread(brief, capsys):
    with parallel_config(backend="threading"):  # processes take seconds to start
        results = sweep(brief(vary=("dropout=0.2,0.5",), seeds=2, jobs=2, quiet=False))
    for result in results:
        assert result["summary"]["mean"].keys() == result["summary"]["spread"].keys()
        assert load_run(f"{result['out']}/seed-1").head.options.dropout == result["values"]["dropout"]
    assert " ± " in capsys.readouterr().out


def test_rows_are_sorted_by_map(brief, capsys, monkeypatch):
    def measured(options):
        summary = fit(options)
        return summary | {"final": summary["final"] | {"mAP": options.optimisation.lr}}

    monkeypatch.setattr(sweeping, "fit", measured)
    sweep(brief(vary=("lr=0.125,0.5,0.25",), quiet=False))
    lines = capsys.readouterr().out.rpartition("mAP")[2].splitlines()
    order = [next(at for at, line in enumerate(lines) if f"{lr:.3f}" in line) for lr in (0.5, 0.25, 0.125)]
    assert order == sorted(order)


def test_a_combination_that_fails_leaves_the_others(brief, capsys):
    options = brief(vary=("lr=1e30,0.01", "optimiser=sgd"), quiet=False)
    bad, good = sweep(options)
    assert (bad["values"], "summary" in bad, "summary" in good) == ({"lr": 1e30, "optimiser": "sgd"}, False, True)
    assert "the loss is not finite" in bad["error"]
    assert json.loads((options.out / "sweep.json").read_text()) == [bad, good]
    said = capsys.readouterr()
    assert f"failed: {options.out}/lr=1e+30,optimiser=sgd: the loss is not finite" in said.err
    assert " - " in said.out
    with pytest.raises(UserError, match=r"all combinations failed: .* no stream 'pose'"):
        sweep(brief(vary=("lr=0.01,0.02",), streams=("pose",)))


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ((), "a sweep needs --vary"),
        (("lr",), "takes each option once with its values"),
        (("lr=",), "takes each option once"),
        (("lr=1,2", "lr=3"), "takes each option once"),
        (("lr=[1",), "takes each option once"),
        (("speed=1,2",), "a sweep cannot change 'speed'"),
        (("out=a,b",), "a sweep cannot change 'out'"),
        (("ssn=a,b",), "a sweep cannot change 'ssn'"),
        (("lr=0.1,fast",), "--vary lr: "),
        (("dropout=0.5,1.5",), "dropout must lie in"),
    ],
)
def test_bad_grids_are_refused_before_training(brief, vary, message):
    options = brief(vary=vary)
    with pytest.raises(UserError, match=message):
        sweep(options)
    assert not options.out.exists()
    with pytest.raises(UserError, match="jobs must be at least 1"):
        brief(jobs=0)


def test_names_may_be_written_as_on_the_command_line():
    assert combinations(["weight-decay=0,0.1"]) == [{"weight_decay": 0}, {"weight_decay": 0.1}]


def test_presets_are_those_of_single_runs():
    assert SWEEP_PRESETS.keys() == PRESETS.keys()
    assert SWEEP_PRESETS["small"].optimisation == PRESETS["small"].optimisation
