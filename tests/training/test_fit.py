"""Training from end to end on features that tell the classes apart: it learns, repeats, stops and goes on."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from interruption import interrupt
from synthetic_store import assert_same, quick, weights, write

from ssn_feat.cli import Command, parse, run, to_dict
from ssn_feat.errors import UserError
from ssn_feat.heads.dense import score_dense
from ssn_feat.heads.losses import Groups, LossOptions
from ssn_feat.heads.ssn import SSNOptions
from ssn_feat.heads.stages import row_ranges, stages
from ssn_feat.proposals import Proposals
from ssn_feat.runs.checkpoints import actionness_scores, load_run, read_run_checkpoint
from ssn_feat.sampling.pools import Candidates, candidates_of
from ssn_feat.store import create_store, open_store
from ssn_feat.training.actionness_task import rows_inside
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import ActionnessOptions, FitOptions
from ssn_feat.training.prepare import prepare
from ssn_feat.training.presets import PRESETS


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture
def brief(data, tmp_path):
    """Options of a run of some 20 steps."""
    return data.options(tmp_path / "run", optimisation=quick(epochs=3, epoch_multiplier=5))


# ---------------------------------------------------------------------- it learns


def test_actionness_is_learned(data, tmp_path):
    summary = fit(data.options(tmp_path / "run", head="actionness", proposals=None))
    assert summary["final"]["accuracy"] > 0.85  # with dropout
    trained, store = load_run(tmp_path / "run"), open_store(data.store)
    assert (trained.kind, trained.reg_stats, trained.labels) == ("actionness", None, data.dataset.labels)
    right = total = 0
    for video in data.dataset.subset("testing").videos.values():
        stored = store.read(video.id)
        logits = actionness_scores(trained, stored.features)
        assert logits.shape == (len(stored.spans), 2)
        assert logits.dtype == np.float32
        centres = stored.spans.mean(axis=1)
        inside = np.zeros(len(centres), dtype=bool)
        for start, end in video.intervals():
            inside |= (centres >= start) & (centres < end)
        right, total = right + ((logits[:, 1] > logits[:, 0]) == inside).sum(), total + len(inside)
    assert right / total > 0.95


def test_actionness_is_learned_from_proposals_as_the_original_does(data, tmp_path):
    options = data.options(
        tmp_path / "run", head="actionness", standardise=False, random_windows=20,
        actionness=ActionnessOptions(actionness_sampling="proposals"),
    )  # fmt: skip
    training = prepare(options)
    task, plan = training.task, training.task.plan(0)
    assert plan.rows.shape == (task.steps, 8 * (3 + 9) * 5)
    rows = plan.rows.view(-1, 5).numpy()
    assert (np.diff(rows, axis=1) >= 0).all()
    inside = rows_inside(data.dataset.only(task.table.ids), task.table)[rows].mean(axis=1).reshape(-1, 12)
    assert inside[:, :3].mean() > 0.8
    assert inside[:, 3:].mean() < 0.05
    assert fit(options)["final"]["accuracy"] > 0.85
    with pytest.raises(
        UserError, match="the actionness head with these options learns from proposals: add --proposals"
    ):
        fit(replace(options, proposals=None, overwrite=True))


def test_ssn_is_learned(data, tmp_path):
    options = data.options(
        tmp_path / "run",
        streams=("rgb", "flow"),
        background_videos=True,
        ssn=SSNOptions(dropout=0.2),
        optimisation=quick(epochs=10),
    )
    summary = fit(options)
    assert summary["final"]["accuracy"] > 0.95
    assert summary["videos"] == 12
    trained = load_run(tmp_path / "run")
    assert (trained.kind, trained.streams, trained.finished) == ("ssn", ("rgb", "flow"), True)
    activity, completeness, regression, c = dense_scores(trained, data)
    good, bad = (c.tiou > 0.7) & ~c.truth, (c.tiou < 0.3) & (c.overlap > 0.5)
    assert (activity[good].argmax(axis=1) == c.labels[good] + 1).mean() > 0.95
    own = np.arange(len(c)), np.maximum(c.labels, 0)
    assert np.median(completeness[own][good]) > np.median(completeness[own][bad]) + 1
    assert np.corrcoef(regression[own][good, 0], c.targets[good, 0])[0, 1] > 0.5


def dense_scores(trained, data):
    """Scores of all proposals of the test videos, (N, K + 1), (N, K), (N, K, 2), and what is true of the proposals."""
    store, dataset = open_store(data.store), data.dataset.subset("testing")
    proposals, parts = Proposals.load(data.proposals), []
    for video in dataset.videos.values():
        one = candidates_of(dataset.only([video.id]), proposals.intervals, {video.id: video.duration})
        stored, made = store.read(video.id), stages(one.intervals, video.duration)
        rows = torch.from_numpy(row_ranges(stored.spans, made))
        scores = score_dense(trained.head, trained.prepare(stored.features), rows, torch.from_numpy(made.scaling))
        parts.append((*(score.numpy() for score in scores), one))
    *scores, candidates = zip(*parts, strict=True)
    return (*map(np.concatenate, scores), Candidates.concatenate(candidates))


# ---------------------------------------------------------------------- runs repeat, stop and go on


@pytest.mark.parametrize("head", ["ssn", "actionness"])
def test_a_seed_decides_a_run_and_a_saved_configuration_makes_it_again(brief, tmp_path, head):
    first = replace(brief, head=head)
    fit(first)
    again = parse(Command(fit, FitOptions), [str(tmp_path / "run" / "config.yaml"), "--out", str(tmp_path / "again")])
    assert again == replace(first, out=tmp_path / "again")
    fit(again)
    assert_same(weights(tmp_path / "run"), weights(tmp_path / "again"))
    fit(replace(first, out=tmp_path / "other", seed=1))
    odd = weights(tmp_path / "other")
    assert any(not torch.equal(odd[name], value) for name, value in weights(tmp_path / "run").items())


@pytest.mark.parametrize("head", ["ssn", "actionness"])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("steps", [3, 6, 7])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(brief, tmp_path, monkeypatch, head, optimiser, steps):
    """6 steps make an epoch here: within one, at its end, at the start of the next."""
    whole = replace(brief, head=head, optimisation=replace(brief.optimisation, optimiser=optimiser))
    fit(whole)
    parts = replace(whole, out=tmp_path / "parts")
    interrupt(parts, monkeypatch, at=steps)
    assert not load_run(parts.out).finished
    fit(replace(parts, resume=True))
    one, other = (read_run_checkpoint(folder / "checkpoint.pt") for folder in (whole.out, parts.out))
    assert one["log"] == other["log"]
    assert other["finished"]
    assert_same(one["model"], other["model"])
    assert torch.equal(one["generator"], other["generator"])
    assert (whole.out / "log.jsonl").read_text() == (parts.out / "log.jsonl").read_text()


def test_resuming_a_finished_run_changes_nothing(brief):
    summary = fit(brief)
    before = (brief.out / "checkpoint.pt").read_bytes()
    assert fit(replace(brief, resume=True)) == summary
    assert (brief.out / "checkpoint.pt").read_bytes() == before


def test_resuming_a_run_killed_before_its_summary_writes_it(brief):
    summary = fit(brief)
    before = read_run_checkpoint(brief.out / "checkpoint.pt")["model"]
    (brief.out / "summary.json").unlink()
    again = fit(replace(brief, resume=True))
    assert again["final"] == summary["final"]
    assert again["steps"] == summary["steps"]
    assert_same(before, read_run_checkpoint(brief.out / "checkpoint.pt")["model"])


def test_a_run_begun_before_an_option_existed_is_resumed(brief, tmp_path, monkeypatch):
    fit(replace(brief, out=tmp_path / "whole"))
    interrupt(brief, monkeypatch, at=1)
    saved = read_run_checkpoint(brief.out / "checkpoint.pt")
    for place, name in ((saved["config"], "seeds"), (saved["config"]["losses"], "label_smoothing"), (saved, "best")):
        del place[name]
    torch.save(saved, brief.out / "checkpoint.pt")
    (brief.out / "hashes.json").unlink()
    fit(replace(brief, resume=True))
    assert_same(weights(tmp_path / "whole"), weights(brief.out))


def test_resuming_what_is_not_there_starts_a_run(brief):
    assert fit(replace(brief, resume=True))["steps"] == 18


def test_standardisation_groups_and_skipped_videos_are_options(data, brief, tmp_path):
    store = create_store(tmp_path / "part.zarr", {}, "part")
    full = open_store(data.store)
    for name in list(data.dataset.subset("training").videos)[:5]:
        stored = full.read(name)
        store.write(name, stored.features, stored.spans, {"duration": stored.duration})
    options = replace(
        brief,
        store=store.path,
        missing="skip",
        standardise=False,
        groups=Groups(2, 3, 0),
        augmentation=(0.25, 1.0),
        losses=LossOptions(ohem_ratio=0.4),
    )
    assert fit(options)["videos"] == 5
    trained = load_run(options.out)
    assert trained.standardisation is None
    assert trained.config == to_dict(options)
    with pytest.raises(UserError, match=r"lacks 6 of 11 training videos"):
        fit(replace(options, missing="refuse", overwrite=True))


def test_random_windows_give_background_where_proposals_are_all_actions(data, brief, tmp_path):
    truth = {video.id: video.intervals() for video in data.dataset.videos.values()}
    Proposals(truth, {name: np.zeros(len(own)) for name, own in truth.items()}, "truth").save(tmp_path / "truth.npz")
    options = replace(brief, proposals=tmp_path / "truth.npz")
    with pytest.raises(UserError, match="no incomplete proposals: none of"):
        fit(options)
    one, other = (replace(options, random_windows=20, out=tmp_path / name) for name in "ab")
    fit(one)
    fit(other)
    assert_same(weights(one.out), weights(other.out))


# ---------------------------------------------------------------------- what a batch holds


def test_a_batch_reads_rows_of_its_proposals(brief):
    training = prepare(replace(brief, standardise=False))
    task, plan = training.task, training.task.plan(0)
    scaling, labels, targets = plan.others
    # Seven whole proposals of each of eight videos, and the course of one of background.
    assert plan.rows.shape == (6, 8 * (7 * 9 + 5))
    assert (scaling.shape, labels.shape, targets.shape) == ((6, 8 * 7, 2), (6, 8, 8), (6, 8, 8, 2))
    assert (labels[..., :7] > 0).all()
    assert (labels[..., 7] == 0).all()
    assert ((plan.rows >= 0) & (plan.rows < len(task.table.rows))).all()
    # All rows of a proposal are of one video, in order of time.
    rows = plan.rows[:, : 8 * 7 * 9].reshape(-1, 9).numpy()
    videos = np.searchsorted(task.table.offsets, rows, side="right")
    assert (videos == videos[:, :1]).all()
    assert (np.diff(rows[:, 2:7], axis=1) >= 0).all()


def test_targets_of_training_are_normalised(brief):
    training = prepare(brief)
    c, pools = training.task.targets, training.task.pools
    proposals = pools.foreground.members
    used = c[proposals][np.abs(c[proposals] - (0 - pools.target_stats[0]) / pools.target_stats[1]).sum(axis=1) > 1e-6]
    np.testing.assert_allclose(used.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(used.std(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(training.facts[0]["reg_stats"], pools.target_stats)


def test_the_command_line_trains_with_a_preset(data, tmp_path, monkeypatch, capsys):
    arguments = ["fit.py", "small", "--store", str(data.store), "--annotations"]
    arguments += [data.annotations, "--out", str(tmp_path / "run"), "--epochs", "2", "--epoch-multiplier", "3"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as end:
        run(Command(fit, FitOptions, PRESETS, fixed={"head": "actionness"}))
    assert end.value.code == 0
    assert f"{tmp_path / 'run'}: loss 0." in capsys.readouterr().out
    made = load_run(tmp_path / "run").config
    assert (made["random_windows"], made["background_videos"]) == (PRESETS["small"].random_windows, True)


def test_the_number_of_threads_is_given_back(brief):
    before = torch.get_num_threads()
    fit(replace(brief, threads=before + 1))
    assert torch.get_num_threads() == before
