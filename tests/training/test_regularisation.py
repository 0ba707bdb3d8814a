"""Options beyond the original: accumulation, averaged weights, balanced classes. None changes a run without it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from interruption import interrupt
from synthetic_store import quick, write

from ssn_feat.errors import UserError
from ssn_feat.heads.losses import Groups, LossOptions
from ssn_feat.heads.ssn import SSNOptions
from ssn_feat.runs.checkpoints import load_run, read_run_checkpoint
from ssn_feat.sampling.draws import draw
from ssn_feat.sampling.pools import CandidatePool
from ssn_feat.training import steps as loop
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import OptimisationOptions
from ssn_feat.training.prepare import prepare
from ssn_feat.training.ssn_task import class_frequencies


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture
def brief(data, tmp_path):
    """Options of a run of 3 epochs of 6 steps."""
    return data.options(tmp_path / "run", optimisation=quick(epochs=3, epoch_multiplier=5))


def changed(options, **changes):
    return replace(options, optimisation=replace(options.optimisation, **changes))


def state(folder):
    return read_run_checkpoint(folder / "checkpoint.pt")


def weights(training):
    return {name: value.clone() for name, value in training.task.head.state_dict().items()}


def test_accumulation_steps_along_the_mean_gradient_also_at_the_end_of_an_epoch(brief):
    plain = {"optimiser": "sgd", "momentum": 0.0, "weight_decay": 0.0, "bias_lr": 1.0, "lr": 0.1, "schedule": "step"}
    options = replace(changed(brief, accumulate=4, **plain), ssn=SSNOptions(dropout=0.0))
    training = prepare(options)
    task, plan = training.task, training.task.plan(0)
    assert task.steps == 6
    training.sums = torch.zeros(len(task.terms), 1, dtype=torch.float64)
    for steps in ((0, 1, 2, 3), (4, 5)):
        before, gradients = weights(training), []
        for step in steps:
            assert list(training.group) == list(steps)
            loss = task.losses(task.head, *task.inputs(plan, step, training.generators))[0]
            gradients.append(torch.autograd.grad(loss, list(task.head.parameters())))
            assert all(torch.equal(before[name], value) for name, value in task.head.state_dict().items())
            loop.train_step(training, plan)
            training.step += 1
        for at, (name, value) in enumerate(task.head.named_parameters()):
            mean = torch.stack([own[at] for own in gradients]).mean(dim=0)
            torch.testing.assert_close(value.detach(), before[name] - 0.1 * mean, atol=1e-6, rtol=0)


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("press", [3, 5, 9])
def test_a_run_with_accumulation_and_averages_is_resumed_as_if_nothing_had_happened(
    brief, tmp_path, monkeypatch, seeds, press
):
    whole = replace(changed(brief, accumulate=4, ema=0.9), seeds=seeds)
    fit(whole)
    parts = replace(whole, out=tmp_path / "parts")
    taken = interrupt(parts, monkeypatch, at=press)
    assert taken in (4, 6, 10)
    fit(replace(parts, resume=True))
    for name in [""] if seeds == 1 else ["seed-0", "seed-1"]:
        one, other = state(whole.out / name), state(parts.out / name)
        assert one["log"] == other["log"]
        for kind in ("model", "trained"):
            assert all(torch.equal(value, other[kind][key]) for key, value in one[kind].items())


def test_the_average_of_the_weights_is_kept(brief, tmp_path):
    training = prepare(changed(brief, ema=0.9))
    training.sums = torch.zeros(len(training.task.terms), 1, dtype=torch.float64)
    expected, plan = weights(training), training.task.plan(0)
    for batches in range(1, 7):
        loop.train_step(training, plan)
        training.step += 1
        decay = min(0.9, (1 + batches) / (10 + batches))
        expected = {n: decay * expected[n] + (1 - decay) * v for n, v in training.task.head.state_dict().items()}
    for name, value in training.states()[0]["model"].items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5)
    # Learning goes on from the weights themselves: they are those of a run without averages.
    fit(changed(brief, ema=0.9))
    fit(replace(brief, out=tmp_path / "plain"))
    one, plain = state(brief.out), state(tmp_path / "plain")["model"]
    assert all(torch.equal(one["trained"][name], value) for name, value in plain.items())
    kept = load_run(brief.out).head.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in one["model"].items())
    assert not torch.equal(kept["activity_fc.weight"], plain["activity_fc.weight"])


def test_class_frequencies_are_those_of_the_draws():
    generator = np.random.default_rng(0)
    pool = CandidatePool("foreground", np.array([0, 2, 3, 5, 6]), np.array([0, 1, 1, 5]))
    labels = np.array([0, 9, 1, 1, 9, 2, 1])
    drawn = labels[draw(pool, np.tile(np.arange(3), 20000), 1, generator)[:, 0]]
    expected = class_frequencies(pool, labels, 4)
    assert expected.sum() == pytest.approx(1)
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / len(drawn), expected, atol=0.01)


def test_balanced_classes_weigh_the_same_in_the_activity_loss(brief):
    options = replace(brief, losses=LossOptions(class_weights="balanced"), groups=Groups(1, 6, 2))
    task = prepare(options).task
    drawn = np.concatenate([[2.0], class_frequencies(task.pools.foreground, task.labels - 1, 3)])
    products = drawn * task.class_weights[0].numpy()
    np.testing.assert_allclose(products, products[0], rtol=1e-5)
    assert prepare(brief).task.class_weights == ()


def test_all_of_them_together_train_several_seeds(brief, tmp_path):
    options = replace(
        changed(brief, accumulate=2, ema=0.8),
        losses=LossOptions(class_weights="balanced", label_smoothing=0.1),
        ssn=SSNOptions(class_agnostic=True),
        random_windows=40,
    )
    fit(replace(options, seeds=2))
    fit(replace(options, seed=1, out=tmp_path / "own"))
    one, other = state(options.out / "seed-1")["model"], state(tmp_path / "own")["model"]
    assert one["regressor_fc.weight"].shape == (2, 3 * 24)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=1e-5, rtol=0)
    assert load_run(options.out / "seed-1").head.options.class_agnostic


@pytest.mark.parametrize("values", [{"ema": 1.0}, {"ema": -0.1}, {"accumulate": 0}])
def test_options_out_of_range_are_refused(values):
    with pytest.raises(UserError, match=next(iter(values))):
        OptimisationOptions(**values)
