"""Everything that can be wrong with the input of a training: one clear line, and nothing is begun or lost."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from interruption import interrupt
from synthetic_store import assert_same, quick, weights, write

from ssn_feat.annotations import Dataset, Instance, Video, write_activitynet
from ssn_feat.cli import Command, run
from ssn_feat.errors import UserError
from ssn_feat.heads.losses import Groups
from ssn_feat.proposals import Proposals
from ssn_feat.sampling.pools import PoolOptions
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import FitOptions
from ssn_feat.training.presets import PRESETS


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture
def brief(data, tmp_path):
    """Options of a run of some 20 steps."""
    return data.options(tmp_path / "run", optimisation=quick(epochs=3, epoch_multiplier=5))


def test_a_loss_that_is_not_finite_stops_the_run_and_prints_each_term(brief):
    with pytest.raises(UserError, match=r"not finite in epoch \d+, step \d+: loss \S+, activity \S+, completeness \S+"):
        fit(replace(brief, optimisation=replace(brief.optimisation, optimiser="sgd", schedule="step", lr=1e30)))


def test_a_folder_that_holds_a_run_is_kept_unless_told_otherwise(brief):
    fit(brief)
    with pytest.raises(UserError, match="already holds a run: add --resume or --overwrite"):
        fit(brief)
    before = weights(brief.out)
    fit(replace(brief, overwrite=True))
    assert_same(before, weights(brief.out))


def test_a_run_is_not_resumed_with_other_options_or_data(data, brief, tmp_path, monkeypatch):
    interrupt(brief, monkeypatch, at=1)
    with pytest.raises(UserError, match=r"other options: seed was 0 and is 3; optimisation\.lr was 0\.01 and is 0\.5"):
        fit(replace(brief, resume=True, seed=3, optimisation=replace(brief.optimisation, lr=0.5)))
    original = data.proposals.read_bytes()
    proposals = Proposals.load(data.proposals)
    proposals.intervals["v/00"][0] += 0.5
    try:
        proposals.save(data.proposals)
        with pytest.raises(UserError, match=r"the proposals .*proposals\.npz changed"):
            fit(replace(brief, resume=True))
    finally:
        data.proposals.write_bytes(original)


def other_annotations(data, tmp_path):
    video = Video("elsewhere", 10.0, "training", (Instance("run", 1.0, 2.0),))
    write_activitynet(Dataset.of("other", [video]), tmp_path / "other.json")
    return {"annotations": str(tmp_path / "other.json")}


def other_proposals(data, tmp_path):
    Proposals({"elsewhere": np.array([[0.0, 1.0]])}, {"elsewhere": np.zeros(1)}, "m").save(tmp_path / "other.npz")
    return {"proposals": tmp_path / "other.npz"}


def some_proposals(data, tmp_path):
    Proposals.load(data.proposals).only(["v/00", "v/01"]).save(tmp_path / "some.npz")
    return {"proposals": tmp_path / "some.npz"}


def no_proposals(data, tmp_path):
    Proposals({"v/00": np.zeros((0, 2))}, {"v/00": np.zeros(0)}, "m").save(tmp_path / "none.npz")
    return {"proposals": tmp_path / "none.npz"}


def no_instances(data, tmp_path):
    videos = [Video("v/00", 20.0, "training")]
    write_activitynet(Dataset.of("other", videos, ["run"]), tmp_path / "empty.json")
    return {"annotations": str(tmp_path / "empty.json")}


FAULTS = {
    "stream": (lambda *_: {"streams": ("pose",)}, r"no stream 'pose'; it has flow, rgb"),
    "store": (lambda *_: {"store": "nowhere.zarr"}, r"feature store nowhere\.zarr does not exist"),
    "subset": (lambda *_: {"subset": "holdout"}, r"no subset 'holdout'; it has testing, training"),
    "annotations": (lambda *_: {"annotations": "nowhere.json"}, r"nowhere\.json"),
    "no proposals given": (lambda *_: {"proposals": None}, r"add --proposals FILE"),
    "no proposals file": (lambda *_: {"proposals": "nowhere.npz"}, r"cannot read proposals from nowhere\.npz"),
    "videos": (other_annotations, r"lacks 1 of 1 training videos: elsewhere$"),
    "proposals of other videos": (other_proposals, r"other\.npz lacks 11 of 11 training videos: v/00, v/01, "),
    "proposals of some videos": (some_proposals, r"some\.npz lacks 9 of 11 training videos: .*--missing skip"),
    "empty proposals": (no_proposals, r"none\.npz has no proposal for any of its 1 video$"),
    "no instances": (no_instances, r"none of the 1 training video has an annotated instance"),
    "pool": (lambda *_: {"pools": PoolOptions(background_coverage=0.9)}, r"none exceeds background_coverage 0\.9"),
    "device": (lambda *_: {"device": "abacus"}, r"cannot use the device 'abacus'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_gives_one_clear_line(data, brief, tmp_path, fault):
    changes, message = FAULTS[fault]
    with pytest.raises(UserError, match=message) as caught:
        fit(replace(brief, **changes(data, tmp_path)))
    assert "\n" not in str(caught.value)
    assert not brief.out.exists()


def test_a_faulty_command_leaves_the_run_that_it_would_overwrite(brief):
    fit(brief)
    before = {path.name: path.read_bytes() for path in brief.out.iterdir()}
    with pytest.raises(UserError):
        fit(replace(brief, overwrite=True, streams=("pose",)))
    assert {path.name: path.read_bytes() for path in brief.out.iterdir()} == before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": -1}, "seed must be at least 0"),
        ({"random_windows": -1}, "random_windows must not be negative"),
        ({"seed": 2**63}, r"below 2\^63"),
        ({"augmentation": (-0.5, 0.5)}, "augmentation must be finite"),
        ({"augmentation": (0.5, float("nan"))}, "augmentation must be finite and not negative"),
        ({"resume": True, "overwrite": True}, "cannot be combined"),
        ({"groups": Groups(1, 3, 1)}, r"0\.17 of 3 incomplete .* none would count: raise it to 0\.334 or more"),
    ],
)
def test_options_out_of_range_are_refused(brief, values, message):
    with pytest.raises(UserError, match=message):
        replace(brief, **values)


def test_the_command_line_prints_one_line_and_exits_with_2(data, tmp_path, monkeypatch, capsys):
    arguments = ["fit.py", "small", "--store", str(data.store), "--annotations", data.annotations]
    monkeypatch.setattr(sys, "argv", [*arguments, "--out", str(tmp_path / "run"), "--streams", "pose"])
    with pytest.raises(SystemExit) as end:
        run(Command(fit, FitOptions, PRESETS))
    assert end.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
