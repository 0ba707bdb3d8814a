"""Checkpoints of the original code become runs that score the same, and runs become such checkpoints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_store import LABELS, quick, write

from ssn_feat.backbones.weights import read_weights
from ssn_feat.detection.detect_store import DetectOptions, detect
from ssn_feat.errors import UserError
from ssn_feat.heads.actionness import ActionnessHead
from ssn_feat.heads.ssn import SSNHead, SSNOptions
from ssn_feat.runs.checkpoints import actionness_scores, load_run
from ssn_feat.training.fit import fit
from ssn_feat.training.original_checkpoints import (
    ExportCheckpointOptions,
    ImportCheckpointOptions,
    export_checkpoint,
    import_checkpoint,
)

DIM = 6
STATS = torch.tensor([[0.1, -0.2], [0.5, 0.7]], dtype=torch.float64)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("synthetic"), videos=6, dim=DIM)


def original(path, head, **more):
    """A file as the original writes it, with a network of one layer."""
    names = {f"module.{name}": value for name, value in head.state_dict().items()}
    names["module.base_model.conv.weight"] = torch.ones(2, 3)
    torch.save({"epoch": 7, "arch": "BNInception", "best_loss": 1.5, "state_dict": names, **more}, path)
    return path


def import_options(data, path, out, **more):
    return ImportCheckpointOptions(checkpoint=path, store=data.store, annotations=data.annotations, out=out, **more)


@pytest.mark.parametrize("stpp", [(1, 1, 1), (1, (1, 2), 1)])
def test_an_ssn_checkpoint_comes_and_goes_unchanged(data, tmp_path, stpp):
    head = SSNHead(DIM, len(LABELS), SSNOptions(stpp=stpp), torch.Generator().manual_seed(0))
    path = original(tmp_path / "ssn.pth.tar", head, reg_stats=STATS)
    import_checkpoint(import_options(data, path, tmp_path / "run"))
    run = load_run(tmp_path / "run")
    assert (run.kind, run.labels, run.epoch, run.finished) == ("ssn", LABELS, 7, True)
    assert run.head.options.stpp == stpp
    np.testing.assert_array_equal(run.reg_stats, STATS)
    sample = torch.randn(5, 9, DIM), torch.rand(5, 2)
    for one, other in zip(run.head(*sample), head.eval()(*sample), strict=True):
        assert torch.equal(one, other)
    export_checkpoint(ExportCheckpointOptions(tmp_path / "run", tmp_path / "again.pth.tar", weights=path))
    one, other = (torch.load(p, weights_only=True) for p in (path, tmp_path / "again.pth.tar"))
    assert one["state_dict"].keys() == other["state_dict"].keys()
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())
    assert (one["epoch"], one["arch"]) == (other["epoch"], other["arch"])
    assert torch.equal(one["reg_stats"], other["reg_stats"])


def test_the_export_has_the_names_of_the_reference(data, golden, tmp_path):
    entries = golden("state_dict_keys.json")["checkpoints"]["SSN|BNInception|RGB|thumos14|stpp(1,1,1)"]["then"]
    options = data.options(tmp_path / "run", standardise=False, optimisation=quick(epochs=1, epoch_multiplier=2))
    fit(options)
    export_checkpoint(ExportCheckpointOptions(options.out, tmp_path / "ours.pth.tar"))
    assert list(torch.load(tmp_path / "ours.pth.tar", weights_only=True)["state_dict"]) == [name for name, _ in entries]
    # Without a network in it the file is read again too.
    import_checkpoint(import_options(data, tmp_path / "ours.pth.tar", tmp_path / "back"))
    one, other = load_run(options.out), load_run(tmp_path / "back")
    assert all(torch.equal(value, other.head.state_dict()[name]) for name, value in one.head.state_dict().items())
    made = DetectOptions(
        store=data.store, proposals=data.proposals, checkpoint=(tmp_path / "back",), out=tmp_path / "d.json", quiet=True
    )
    assert len(detect(made).scores)


def test_an_actionness_checkpoint_becomes_a_run(data, tmp_path):
    head = ActionnessHead(DIM, generator=torch.Generator().manual_seed(0))
    import_checkpoint(import_options(data, original(tmp_path / "b.pth.tar", head), tmp_path / "run"))
    rows = np.random.default_rng(0).normal(size=(4, DIM)).astype(np.float32)
    expected = head.classifier_fc(torch.from_numpy(rows)).detach()
    np.testing.assert_array_equal(actionness_scores(load_run(tmp_path / "run"), rows), expected)
    assert read_weights(tmp_path / "b.pth.tar").about["epoch"] == 7


def test_of_many_columns_of_actionness_the_two_that_were_trained_are_taken(data, tmp_path, capsys):
    """The original's ActivityNet configuration has a column for each class, of which labels name two."""
    head = ActionnessHead(DIM)
    head.classifier_fc = torch.nn.Linear(DIM, 100)
    import_checkpoint(import_options(data, original(tmp_path / "b.pth.tar", head), tmp_path / "run"))
    rows = np.random.default_rng(0).normal(size=(4, DIM)).astype(np.float32)
    expected = head.classifier_fc(torch.from_numpy(rows)).detach()[:, :2]
    np.testing.assert_allclose(actionness_scores(load_run(tmp_path / "run"), rows), expected, rtol=1e-5, atol=1e-6)
    assert "has 100 columns; only the first two, background and action, are used" in capsys.readouterr().out


def test_class_names_may_come_in_the_order_of_the_checkpoint(data, tmp_path):
    path = original(tmp_path / "ssn.pth.tar", SSNHead(DIM, 3, SSNOptions()), reg_stats=STATS)
    (tmp_path / "names.txt").write_text("run\nclimb\njump\n")
    options = import_options(data, path, tmp_path / "run", labels=tmp_path / "names.txt")
    import_checkpoint(options)
    assert load_run(tmp_path / "run").labels == ("run", "climb", "jump")
    with pytest.raises(UserError, match="already holds a run"):
        import_checkpoint(options)
    (tmp_path / "names.txt").write_text("run\nclimb\nswim\n")
    with pytest.raises(UserError, match="have different classes: jump, swim"):
        import_checkpoint(replace(options, overwrite=True))


def bare(**layers):
    return torch.nn.ModuleDict(layers)


FAULTS = {
    "no heads": (lambda: torch.nn.Linear(2, 2), {}, "is not a checkpoint of an SSN"),
    "reg_stats": (lambda: SSNHead(DIM, 3, SSNOptions()), {}, "has no reg_stats"),
    "width": (lambda: SSNHead(DIM + 1, 3, SSNOptions()), {"reg_stats": STATS}, "needs 7 features, .* has 6 of rgb"),
    "classes": (lambda: SSNHead(DIM, 4, SSNOptions()), {"reg_stats": STATS}, "has 4 classes, .* have 3"),
    "one column": (lambda: bare(classifier_fc=torch.nn.Linear(DIM, 1)), {}, "actionness needs columns of background"),
    "no matrix": (
        lambda: bare(classifier_fc=torch.nn.BatchNorm1d(DIM)),
        {},
        r"the shape \(6,\) and its bias \(6,\), which is not a linear layer",
    ),
    "pyramid": (lambda: SSNHead(DIM, 3, SSNOptions((1, 2, 1))), {"reg_stats": STATS}, "has 4 parts: give the parts"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_refused(data, tmp_path, fault):
    make, more, message = FAULTS[fault]
    path = original(tmp_path / "x.pth.tar", make(), **more)
    with pytest.raises(UserError, match=message):
        import_checkpoint(import_options(data, path, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_pyramid_may_be_given_and_must_fit(data, tmp_path):
    path = original(tmp_path / "x.pth.tar", SSNHead(DIM, 3, SSNOptions((1, 2, 1))), reg_stats=STATS)
    import_checkpoint(import_options(data, path, tmp_path / "run", pyramid=(1, 2, 1)))
    assert load_run(tmp_path / "run").head.options.stpp == (1, 2, 1)
    with pytest.raises(UserError, match=r"completeness_fc\.weight is \(3, 24\) instead of \(3, 18\)"):
        import_checkpoint(import_options(data, path, tmp_path / "other", pyramid=(1, 1, 1)))


def test_a_run_on_standardised_features_cannot_be_exported(data, tmp_path):
    fit(data.options(tmp_path / "run", optimisation=quick(epochs=1, epoch_multiplier=2)))
    with pytest.raises(UserError, match="standardises features, which the original cannot do"):
        export_checkpoint(ExportCheckpointOptions(tmp_path / "run", tmp_path / "x.pth.tar"))
