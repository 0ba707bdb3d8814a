"""Steps prepared by a second thread, and steps from fixed buffers as a GPU plays them, against plain ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from interruption import interrupt
from synthetic_store import quick, write

from ssn_feat.errors import UserError
from ssn_feat.heads.ssn import SSNOptions
from ssn_feat.runs.checkpoints import read_run_checkpoint
from ssn_feat.training import fit as fitting
from ssn_feat.training.cuda_graph import CapturedSteps
from ssn_feat.training.fit import fit
from ssn_feat.training.prepare import prepare
from ssn_feat.training.steps import InputPrefetcher


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture
def brief(data, tmp_path):
    """Options of a run of 3 epochs of 6 steps."""
    return data.options(tmp_path / "run", optimisation=quick(epochs=3, epoch_multiplier=5), threads=1)


def state(folder):
    return read_run_checkpoint(folder / "checkpoint.pt")


def assert_close(one, other, tolerance):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=tolerance, rtol=0)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("head", ["ssn", "actionness"])
def test_a_second_thread_changes_nothing(brief, tmp_path, monkeypatch, head, seeds):
    whole = replace(brief, head=head, seeds=seeds)
    fit(whole)
    parts = replace(whole, threads=2, out=tmp_path / "parts")
    interrupt(parts, monkeypatch, at=8)
    fit(replace(parts, resume=True))
    for name in [""] if seeds == 1 else [f"seed-{seed}" for seed in range(seeds)]:
        one, other = state(whole.out / name), state(parts.out / name)
        assert_close(one["model"], other["model"], 0)
        assert one["log"] == other["log"]
        assert torch.equal(one["generator"], other["generator"])


def test_prefetched_inputs_that_are_discarded_leave_the_generators_as_they_were(brief):
    training = prepare(brief)
    plan, prefetcher, other = training.task.plan(0), InputPrefetcher(training.task), prepare(brief)
    prefetcher.inputs(plan, 0, training.generators)
    prefetcher.discard()
    prefetcher.close()
    other.task.inputs(plan, 0, other.generators)
    assert torch.equal(training.generators[0].get_state(), other.generators[0].get_state())


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize(("head", "optimiser"), [("ssn", "sgd"), ("ssn", "adamw"), ("actionness", "sgd")])
def test_steps_from_fixed_buffers_equal_plain_ones(brief, tmp_path, monkeypatch, head, optimiser, seeds):
    schedule = replace(brief.optimisation, optimiser=optimiser, warmup_steps=4, ema=0.9)
    plain = replace(brief, head=head, seeds=seeds, optimisation=schedule)
    fit(plain)
    fixed = replace(plain, out=tmp_path / "fixed")
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "steps_of", CapturedSteps)
        fit(fixed)
    for name in [""] if seeds == 1 else ["seed-0", "seed-1"]:
        one, other = state(plain.out / name), state(fixed.out / name)
        for kind in ("model", "trained"):
            assert_close(one[kind], other[kind], 1e-6)
        for ours, theirs in zip(one["log"], other["log"], strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5)
        rates = [[group["lr"] for group in saved["optimiser"]["param_groups"]] for saved in (one, other)]
        assert rates[0] == pytest.approx(rates[1])
    # What fixed buffers left can be gone on with plainly, and the other way round.
    assert fit(replace(fixed, resume=True))["seconds"] >= 0


def test_a_loss_that_is_not_finite_is_found_later_but_named_right(brief, monkeypatch):
    wild = replace(brief, optimisation=replace(brief.optimisation, optimiser="sgd", schedule="step", lr=1e30))
    with pytest.raises(UserError) as plain:
        fit(wild)
    monkeypatch.setattr(fitting, "steps_of", CapturedSteps)
    with pytest.raises(UserError) as fixed:
        fit(replace(wild, overwrite=True))
    assert str(fixed.value).partition(":")[0] == str(plain.value).partition(":")[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_gpu_learns_what_the_processor_learns(brief, tmp_path, optimiser, seeds):
    schedule = replace(brief.optimisation, optimiser=optimiser, ema=0.9, lr=0.001)
    options = replace(brief, seeds=seeds, optimisation=schedule, ssn=SSNOptions(dropout=0.0))
    fit(options)
    fit(replace(options, device="cuda", out=tmp_path / "gpu"))
    for name in [""] if seeds == 1 else ["seed-0", "seed-1"]:
        assert_close(state(options.out / name)["model"], state(tmp_path / "gpu" / name)["model"], 1e-4)
