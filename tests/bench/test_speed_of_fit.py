"""The bench of training in its smallest form: what it prints, and that the plain way is the same training."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from bench.speed import fit as bench
from bench.speed import plain_fit
from bench.speed.figures import Figure
from bench.speed.fit import FitSpeedOptions, measure_fit
from bench.speed.made_up import THUMOS14, make_up
from ssn_feat.errors import UserError
from ssn_feat.heads.losses import Groups, LossOptions, Scores, ssn_loss
from ssn_feat.heads.ssn import SSNHead, SSNOptions
from ssn_feat.proposals import Proposals
from ssn_feat.store import open_store
from ssn_feat.training.presets import PRESETS


def test_every_figure_is_printed_and_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "_COPIED", 1000)
    monkeypatch.setattr(bench, "_SQUARE", 10)
    for name in ("thumos14", "activitynet1.2"):
        few = replace(PRESETS[name].optimisation, batch_videos=2, epoch_multiplier=1)
        monkeypatch.setitem(PRESETS, name, replace(PRESETS[name], optimisation=few))
    options = FitSpeedOptions(
        videos=8, width=16, schedule_steps=1, plain_steps=1, plain_workers=0, seeds=2, anet_videos=4,
        end_to_end_frames=0, folder=tmp_path, json=tmp_path / "out.json",
    )  # fmt: skip
    figures = measure_fit(options)
    written = json.loads((tmp_path / "out.json").read_text())
    assert [each["name"] for each in written["figures"]] == [each.name for each in figures]
    assert written["machine"]["torch"] == torch.__version__
    assert all(each.value > 0 for each in figures if "memory" not in each.name)
    assert sum(each.bar is not None for each in figures) == 8
    assert "the same result" in next(each.note for each in figures if "sample by sample" in each.name)
    printed = capsys.readouterr().out
    assert "THUMOS14 schedule" in printed
    assert "ActivityNet" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json"]


def test_made_up_videos_have_the_size_of_real_ones(tmp_path):
    data = make_up(tmp_path / "data", THUMOS14, 25, 4, 0)
    assert data.rows == pytest.approx(5 * data.seconds, rel=0.01)
    assert 100 < data.seconds / 25 < 400
    proposals = Proposals.load(data.proposals)
    assert sum(map(len, proposals.intervals.values())) == pytest.approx(data.seconds * 250 / 209, rel=0.1)
    store, packed = open_store(data.store), open_store(data.packed)
    assert tuple(store.ids) == tuple(packed.ids)


@pytest.mark.parametrize("by_row", [False, True])
def test_plain_items_are_the_rows_of_the_store(tmp_path, by_row):
    data = make_up(tmp_path / "data", THUMOS14, 4, 8, 0)
    store = open_store(data.store)
    video = store.ids[2]
    others = [torch.ones(1, 2), torch.ones(1), torch.ones(1, 2)]
    items = plain_fit.ProposalItems(data.packed, "rgb", [(video, [0, 3, 3])], others, by_row)
    assert torch.equal(items[0][0], torch.from_numpy(store.read(video).features["rgb"])[[0, 3, 3]].float())


def test_the_plain_head_and_losses_are_the_heads_own():
    torch.manual_seed(0)
    head, groups = SSNHead(8, 3, SSNOptions(dropout=0.0)), Groups()
    plain = plain_fit.PlainHead(8, 3).eval()
    layers = (plain.activity, plain.completeness, plain.regression)
    for own, other in zip(layers, (head.activity_fc, head.completeness_fc, head.regressor_fc), strict=True):
        other.load_state_dict(own.state_dict())
    segments, scaling = torch.randn(32, 9, 8), torch.rand(32, 2)
    labels, targets = torch.randint(1, 4, (4, 8)), torch.randn(4, 8, 2)
    labels[:, 7] = 0
    scores: Scores = head.group_scores(segments, scaling, groups)
    loss = plain_fit.losses(*plain(segments, scaling), labels.view(-1), targets.view(-1, 2))
    torch.testing.assert_close(loss, ssn_loss(scores, labels, targets, groups, LossOptions()).total)


def test_bars_are_met_or_not():
    assert Figure("a", 2.0, "s").met is None
    assert Figure("a", 2.0, "s", 2.0).met
    assert not Figure("a", 2.0, "s", 3.0, "at least").met
    with pytest.raises(UserError, match="videos must be at least 1"):
        FitSpeedOptions(videos=0)
