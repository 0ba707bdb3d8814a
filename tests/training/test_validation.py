"""mAP during training: the same number as detection and evaluation give afterwards, and the best head is kept."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))
from synthetic_store import quick, write

from ssn_feat.annotations import Dataset, Video, write_activitynet
from ssn_feat.detection.detect_store import DetectOptions, detect
from ssn_feat.errors import UserError
from ssn_feat.evaluation.evaluate import evaluate_detections
from ssn_feat.proposals import Proposals
from ssn_feat.runs.checkpoints import load_run, read_run_checkpoint
from ssn_feat.training.fit import fit


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture
def brief(data, tmp_path):
    schedule = quick(epochs=5, epoch_multiplier=2, lr=0.003)
    return data.options(tmp_path / "run", optimisation=schedule, eval="testing", eval_every=2, eval_tiou=(0.3, 0.5))


def detected(data, checkpoint, folder):
    """mAP of a checkpoint by the commands of a user."""
    scored = {"store": data.store, "proposals": data.proposals, "checkpoint": (checkpoint,)}
    where = {"annotations": data.annotations, "subset": "testing", "out": folder / "detections.json", "quiet": True}
    detections = detect(DetectOptions(**scored, **where))
    return evaluate_detections(detections, data.dataset.subset("testing"), (0.3, 0.5)).average


def test_map_of_training_is_that_of_detection_and_the_best_head_is_kept(data, brief, tmp_path):
    summary = fit(brief)
    log = read_run_checkpoint(brief.out / "checkpoint.pt")["log"]
    measured = {line["epoch"]: line["mAP"] for line in log if "mAP" in line}
    assert list(measured) == [1, 3, 4]  # each second epoch and the last
    assert summary["final"]["mAP"] == measured[4]
    best = max(measured, key=lambda epoch: measured[epoch])
    assert summary["best"] == {"epoch": best, "mAP": measured[best]}
    assert load_run(brief.out / "best.pt").epoch == best + 1
    assert detected(data, brief.out, tmp_path) == pytest.approx(measured[4], abs=1e-6)
    assert detected(data, brief.out / "best.pt", tmp_path) == pytest.approx(measured[best], abs=1e-6)
    assert measured[best] > 0.1


def test_measuring_changes_nothing_that_is_learned(brief, tmp_path):
    fit(brief)
    fit(replace(brief, eval=None, out=tmp_path / "plain"))
    one, other = (read_run_checkpoint(folder / "checkpoint.pt")["model"] for folder in (brief.out, tmp_path / "plain"))
    assert all(one[name].equal(other[name]) for name in one)
    assert not (tmp_path / "plain" / "best.pt").exists()


def test_each_seed_is_measured(brief):
    summary = fit(replace(brief, seeds=2))
    values = [summary["seeds"][seed]["final"]["mAP"] for seed in "01"]
    assert summary["mean"]["mAP"] == pytest.approx(sum(values) / 2)
    assert all((brief.out / f"seed-{seed}" / "best.pt").exists() for seed in (0, 1))


def lacking_proposals(data, tmp_path):
    Proposals.load(data.proposals).only(list(data.dataset.subset("training").videos)).save(tmp_path / "some.npz")
    return {"eval_proposals": tmp_path / "some.npz"}


def no_instances(data, tmp_path):
    videos = [*data.dataset.subset("training").videos.values(), Video("empty", 20.0, "testing")]
    write_activitynet(Dataset.of("other", videos, data.dataset.labels), tmp_path / "empty.json")
    return {"annotations": str(tmp_path / "empty.json")}


FAULTS = {
    "subset": (lambda *_: {"eval": "holdout"}, "no subset 'holdout'"),
    "proposals": (lacking_proposals, r"some\.npz lacks 6 of 6 testing videos"),
    "instances": (no_instances, "none of the 1 testing video to measure on has an instance"),
    "no proposals": (lambda *_: {"proposals": None}, "add --proposals FILE"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_gives_one_clear_line_before_training(data, brief, tmp_path, fault):
    changes, message = FAULTS[fault]
    with pytest.raises(UserError, match=message):
        fit(replace(brief, **changes(data, tmp_path)))
    assert not brief.out.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "actionness"}, "which need the ssn head"),
        ({"eval_tiou": ()}, "eval_tiou must be thresholds"),
        ({"eval_every": 0}, "eval_every must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(brief, changes, message):
    with pytest.raises(UserError, match=message):
        replace(brief, **changes)
