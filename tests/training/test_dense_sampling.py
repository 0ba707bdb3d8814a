"""Training on all snippets of each stage: it sees what dense scoring sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_store import quick, write

from ssn_feat.errors import UserError
from ssn_feat.heads.dense import score_dense
from ssn_feat.heads.losses import Groups, LossOptions
from ssn_feat.heads.ssn import SSNOptions
from ssn_feat.heads.stages import row_ranges, stages
from ssn_feat.heads.stpp import BlockSums, RowSums
from ssn_feat.runs.checkpoints import load_run
from ssn_feat.sampling.draws import epoch_candidates, epoch_generator
from ssn_feat.training.fit import fit
from ssn_feat.training.prepare import prepare
from ssn_feat.training.training_data import read_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("synthetic"))


@pytest.mark.parametrize("stpp", [(1, 1, 1), (1, (1, 2), 1), ((1, 2), (1, 2, 4), (1, 2))])
def test_a_head_is_trained_on_what_dense_scoring_gives_it(data, tmp_path, stpp):
    options = data.options(
        tmp_path / "run", sampling="dense", ssn=SSNOptions(stpp=stpp, segments=(2, 5, 2), dropout=0.0),
        groups=Groups(1, 3, 2), losses=LossOptions(ohem_ratio=0.4), standardise=False,
    )  # fmt: skip
    training = prepare(options)
    task = training.task
    head, table = task.head, task.table
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    plan, step = task.plan(0), 2
    activity, parts, labels, *_ = task.inputs(plan, step, training.generators)
    found = head.score_groups(activity, parts, task.groups)
    drawn = epoch_candidates(
        task.pools, len(table.ids), task.multiplier, task.batch_videos, task.groups, epoch_generator(0, 0)
    )[step]
    candidates = read_data(options, options.proposals).candidates(0, 0)
    scores = []
    for at in drawn.ravel():
        video = candidates.video[at]
        own = table.rows_of(video)
        placed = stages(candidates.intervals[[at]], table.durations[video])
        rows = torch.from_numpy(row_ranges(table.spans[own], placed))
        scores.append(score_dense(head, table.rows[own], rows, torch.from_numpy(placed.scaling)))
    whole = [torch.cat(each).view(*drawn.shape, *each[0].shape[1:]) for each in zip(*scores, strict=True)]
    kinds = (task.groups.for_activity, task.groups.for_completeness, task.groups.for_regression)
    for ours, kind, theirs in zip(found, kinds, whole, strict=True):
        torch.testing.assert_close(ours.detach(), kind(theirs), atol=1e-5, rtol=1e-5)
    assert labels.shape == drawn.shape


@pytest.mark.parametrize("seeds", [1, 2])
def test_dense_training_learns(data, tmp_path, seeds):
    options = data.options(tmp_path / "run", sampling="dense", seeds=seeds, ssn=SSNOptions(dropout=0.2))
    options = replace(options, features="mapped", optimisation=quick(epochs=8))
    summary = fit(options)
    final = summary["mean"] if seeds > 1 else summary["final"]
    assert final["accuracy"] > 0.95
    fit(replace(options, features="memory", out=tmp_path / "again"))
    runs = [load_run(folder / ("seed-1" if seeds > 1 else "")) for folder in (tmp_path / "run", tmp_path / "again")]
    states = [run.head.state_dict() for run in runs]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@given(st.integers(1, 200), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_sums_in_blocks_give_the_means_of_whole_sums(rows, seed):
    generator = np.random.default_rng(seed)
    table = torch.from_numpy(generator.normal(3, 10, (rows, 3))).half()
    ends = torch.from_numpy(np.sort(generator.integers(0, rows + 1, (20, 2)), axis=1))
    sums = BlockSums(table, torch.empty(rows + 1, 3))
    torch.testing.assert_close(sums.means(*ends.T), RowSums(table).means(*ends.T).float(), atol=1e-4, rtol=1e-6)


def test_sums_in_blocks_stay_right_in_long_tables():
    table = torch.full((100_003, 2), 60.0).half()
    sums = BlockSums(table, torch.empty(len(table) + 1, 2))
    begin = torch.arange(0, 100_000, 997)
    assert torch.equal(sums.means(begin, begin + 1), torch.full((len(begin), 2), 60.0))
    table[70_000, 1] = float("inf")
    with pytest.raises(UserError, match="not finite"):
        BlockSums(table, torch.empty(len(table) + 1, 2))
