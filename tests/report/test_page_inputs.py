"""What a page is made of: inputs told apart, logs read, actionness of runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from report.pages import dataset_of, inputs_in
from training.synthetic_store import quick, write

from ssn_feat.annotations import read_annotations
from ssn_feat.errors import UserError
from ssn_feat.heads.one_stage import OneStageHead
from ssn_feat.proposals import action_probability
from ssn_feat.report.page_inputs import read_log, sort_inputs
from ssn_feat.report.report_options import ReportOptions
from ssn_feat.report.training import term_title
from ssn_feat.report.videos import actionness_of
from ssn_feat.runs.checkpoints import CHECKPOINT, FORMAT, FORMAT_VERSION, actionness_scores, load_run
from ssn_feat.store import open_store
from ssn_feat.training.fit import fit


def test_what_is_what(tmp_path: Path) -> None:
    options = inputs_in(tmp_path, dataset_of(2))
    found = sort_inputs(options.inputs)
    assert [path.name for path in found.runs] == ["<u>flow", "rgb"]
    assert found.proposals == (tmp_path / "tag.npz",)
    log = read_log(tmp_path / "runs" / "rgb", "rgb")
    assert log.series("loss") == ([1.0, 2.0, 3.0, 4.0, 5.0], [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    # A run that is still going: its last line may be half there.
    path = tmp_path / "runs" / "rgb" / "log.jsonl"
    path.write_text(path.read_text() + '{"epoch": 5, "lo')
    assert len(read_log(path.parent, "rgb").records) == 5
    (tmp_path / "x.csv").write_text("")


def test_actionness_of_a_run_on_a_store(tmp_path: Path) -> None:
    data = write(tmp_path, videos=6)
    fit(data.options(tmp_path / "actionness", head="actionness", proposals=None, optimisation=quick(epochs=1)))
    dataset = read_annotations(data.annotations).subset("testing")
    ids = list(dataset.videos)
    options = ReportOptions((tmp_path,), annotations=data.annotations, store=data.store)
    # Beside it the run of a network, which has no head.
    (tmp_path / "network").mkdir()
    network = {"format": FORMAT, "version": FORMAT_VERSION, "head": {"kind": "clips"}}
    torch.save(network, tmp_path / "network" / CHECKPOINT)
    found = actionness_of(dataset, (), options, [tmp_path / "network", tmp_path / "actionness"])
    assert list(found) == ids
    stored = open_store(data.store).read(ids[0])
    logits = actionness_scores(load_run(tmp_path / "actionness"), stored.features)
    np.testing.assert_allclose(found[ids[0]][0], action_probability(logits), rtol=1e-6)
    np.testing.assert_array_equal(found[ids[0]][1], stored.spans)
    with pytest.raises(UserError, match="--store needs an actionness run"):
        actionness_of(dataset, (), options, [])


def test_an_empty_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder and holds none"):
        sort_inputs([tmp_path])
    with pytest.raises(UserError, match=r"written as \.html"):
        ReportOptions((tmp_path,), out=tmp_path / "page.txt")


def test_losses_of_one_stage_heads_have_titles() -> None:
    assert [term_title(term) for term in OneStageHead.terms] == ["loss", "class loss", "boundary loss"]
