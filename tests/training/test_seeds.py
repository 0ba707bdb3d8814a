"""Several seeds at once: each head is the one that its own run would give, in a run folder of its own."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from interruption import interrupt
from synthetic_store import quick, write

from ssn_feat.cli import load_yaml, to_dict
from ssn_feat.errors import UserError
from ssn_feat.heads.losses import Groups, LossOptions
from ssn_feat.heads.ssn import SSNOptions
from ssn_feat.runs.checkpoints import load_run, read_run_checkpoint
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import FitOptions
from ssn_feat.training.seeds import part_of, stack_parts


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture
def brief(data, tmp_path):
    """Options of three runs of 18 steps."""
    return data.options(tmp_path / "seeds", seeds=3, seed=4, optimisation=quick(epochs=3, epoch_multiplier=5))


def state(folder):
    return read_run_checkpoint(folder / "checkpoint.pt")


def assert_close(one, other, tolerance=1e-5):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=tolerance, rtol=0)


@pytest.mark.parametrize(("head", "optimiser"), [("ssn", "sgd"), ("ssn", "adamw"), ("actionness", "sgd")])
def test_seeds_at_once_equal_runs_of_their_own_after_50_steps(data, tmp_path, head, optimiser):
    schedule = quick(epochs=1, epoch_multiplier=37, optimiser=optimiser, lr=0.001)
    options = data.options(
        tmp_path / "all", head=head, seeds=3, random_windows=3, optimisation=schedule,
        ssn=SSNOptions(stpp=(1, (1, 2), 1)), groups=Groups(2, 3, 1), losses=LossOptions(ohem_ratio=0.4),
    )  # fmt: skip
    summary = fit(options)
    for seed in range(3):
        own = fit(replace(options, seeds=1, seed=seed, out=tmp_path / str(seed)))
        assert own["steps"] == 50
        one, other = state(tmp_path / "all" / f"seed-{seed}"), state(tmp_path / str(seed))
        assert_close(one["model"], other["model"])
        assert torch.equal(one["generator"], other["generator"])
        assert own["final"]["loss"] == pytest.approx(summary["seeds"][str(seed)]["final"]["loss"], abs=1e-5)
    odd = (state(tmp_path / "all" / f"seed-{seed}")["model"] for seed in (0, 1))
    assert any(not torch.equal(*pair) for pair in zip(*(own.values() for own in odd), strict=True))


def test_each_seed_is_a_run_and_the_summary_is_of_all(brief, capsys):
    summary = fit(replace(brief, quiet=False))
    finals = []
    for seed in (4, 5, 6):
        folder = brief.out / f"seed-{seed}"
        run = load_run(folder)
        assert run.finished
        assert run.config == to_dict(replace(brief, seed=seed, seeds=1, out=folder, quiet=False))
        finals.append(json.loads((folder / "summary.json").read_text())["final"]["loss"])
    mean = sum(finals) / 3
    assert summary["mean"]["loss"] == pytest.approx(mean)
    assert summary["spread"]["loss"] == pytest.approx((sum((f - mean) ** 2 for f in finals) / 2) ** 0.5)
    assert json.loads((brief.out / "summary.json").read_text()) == summary
    assert load_yaml(FitOptions, brief.out / "config.yaml") == replace(brief, quiet=False)
    assert " ± " in capsys.readouterr().out


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_interrupted_seeds_go_on_as_if_nothing_had_happened(brief, tmp_path, monkeypatch, optimiser):
    whole = replace(brief, optimisation=replace(brief.optimisation, optimiser=optimiser))
    fit(whole)
    parts = replace(whole, out=tmp_path / "parts")
    interrupt(parts, monkeypatch, at=8)
    assert load_yaml(FitOptions, parts.out / "config.yaml") == parts
    fit(replace(parts, resume=True))
    for seed in (4, 5, 6):
        one, other = (state(out / f"seed-{seed}") for out in (whole.out, parts.out))
        assert one["log"] == other["log"]
        assert_close(one["model"], other["model"], 0)
    # One seed alone goes on too: its checkpoint is an ordinary one.
    assert fit(replace(parts, seeds=1, out=parts.out / "seed-4", resume=True))["steps"] == 18


def test_seeds_at_different_points_are_not_mixed(brief):
    fit(brief)
    (brief.out / "seed-5" / "checkpoint.pt").unlink()
    with pytest.raises(UserError, match=r"are at different steps: finish each separately"):
        fit(replace(brief, resume=True))


def test_a_single_run_is_not_replaced_by_seeds(brief):
    fit(replace(brief, seeds=1))
    with pytest.raises(UserError, match="holds a run of one seed"):
        fit(replace(brief, overwrite=True))
    fit(replace(brief, out=brief.out / "several"))
    with pytest.raises(UserError, match="holds runs of several heads: choose another --out for a single one"):
        fit(replace(brief, seeds=1, out=brief.out / "several"))
    with pytest.raises(UserError, match="seeds and eval_every must be at least 1"):
        replace(brief, seeds=0)


def test_a_loss_that_is_not_finite_stops_all_seeds(brief):
    schedule = replace(brief.optimisation, optimiser="sgd", schedule="step", lr=1e30)
    with pytest.raises(UserError, match=r"not finite in epoch \d+, step \d+: loss \S+, activity"):
        fit(replace(brief, optimisation=schedule))


def test_states_are_taken_apart_and_put_together():
    whole = {"a": torch.arange(6.0).view(3, 2), "state": {0: {"step": torch.tensor(5.0)}}, "groups": [{"lr": 1}]}
    parts = [part_of(whole, at) for at in range(3)]
    assert torch.equal(parts[1]["a"], torch.tensor([2.0, 3.0]))
    again = stack_parts(parts)
    assert torch.equal(again["a"], whole["a"])
    assert (again["state"], again["groups"]) == (whole["state"], whole["groups"])
