"""Scores, detections and a model folder that version 0.1 wrote are read, and give what it computed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from version_0_1 import V0_1, expected, sha256

from ssn_feat.detection.model import Model
from ssn_feat.detection.model_folder import SETTINGS, ModelSettings, read_settings, save_model
from ssn_feat.detection.postprocess import PostprocessOptions, postprocess
from ssn_feat.detection.scores import ProposalScores, fuse
from ssn_feat.detection.scoring import score_store
from ssn_feat.errors import UserError
from ssn_feat.evaluation.evaluate import EvaluateOptions, evaluate
from ssn_feat.proposals import Proposals
from ssn_feat.results.detections import Detections
from ssn_feat.runs.checkpoints import load_run
from ssn_feat.store import open_store

SCORES = ("detections.scores-1-flow.npz", "detections.scores-2-rgb.npz")


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_read_bit_for_bit(name: str) -> None:
    scores, known = ProposalScores.load(V0_1 / name), expected()["scores"][name]
    assert list(scores.ids) == known["ids"]
    assert list(scores.labels) == known["labels"]
    assert scores.offsets.tolist() == known["offsets"]
    assert {part: sha256(getattr(scores, part)) for part in known["sha256"]} == known["sha256"]


def test_detections_are_read_and_made_again_from_the_scores() -> None:
    read, known = Detections.read(V0_1 / "detections.json"), expected()["detections.json"]
    for video, content in known.items():
        assert len(read[video].scores) == content["number"]
        for row, best in enumerate(content["best"]):
            assert read.labels[read[video].classes[row]] == best["label"]
            assert read[video].scores[row] == best["score"]
            assert read[video].intervals[row].tolist() == best["segment"]
    fused = fuse([ProposalScores.load(V0_1 / name) for name in SCORES], [1, 2])
    again = postprocess(fused, read_settings(V0_1 / "model" / SETTINGS).postprocess)
    assert again.ids == read.ids
    np.testing.assert_array_equal(again.classes, read.relabelled(again.labels).classes)
    np.testing.assert_allclose(again.scores, read.scores, rtol=1e-6)
    np.testing.assert_allclose(again.intervals, read.intervals, rtol=1e-6)


def test_the_evaluation_of_these_detections_has_not_changed() -> None:
    options = EvaluateOptions(
        (V0_1 / "detections.json",), str(V0_1 / "annotations.json"), subset="testing", bootstrap=0, quiet=True
    )
    (evaluation,), known = evaluate(options), expected()["evaluation"]
    np.testing.assert_allclose(evaluation.mean, known["mAP"], rtol=0, atol=1e-12)
    for label, values in known["AP"].items():
        np.testing.assert_allclose(evaluation.average_precision[evaluation.labels.index(label)], values, atol=1e-12)
    assert evaluation.detections == known["detections"]


def test_runs_score_stored_features_as_they_did() -> None:
    known = expected()
    store, runs = open_store(V0_1 / "growing.zarr"), [load_run(V0_1 / "runs/late" / s) for s in ("flow", "rgb")]
    intervals = {known["scored"]["video"]: np.array(known["scored"]["intervals"])}
    scored = score_store(store, intervals, runs)
    for scores, stream in zip(scored, ("flow", "rgb"), strict=True):
        for part in ("activity", "completeness", "regression"):
            np.testing.assert_allclose(getattr(scores, part), known["runs"][f"runs/late/{stream}"][part], atol=1e-5)
    fused = fuse(scored, known["fused"]["runs/late"]["weights"])
    for part in ("activity", "completeness", "regression"):
        np.testing.assert_allclose(getattr(fused, part), known["fused"]["runs/late"][part], atol=1e-5)


def test_settings_of_a_model_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = read_settings(V0_1 / "model" / SETTINGS)
    assert settings.ssn == ("ssn-1", "ssn-2")
    assert settings.ssn_weights == (1.0, 2.0)
    assert settings.tag.smoothing == 0.3
    assert not settings.original_scoring
    text = (V0_1 / "model" / SETTINGS).read_text().replace("released: false", "released: true\nfuture: 1")
    (tmp_path / SETTINGS).write_text(text.replace("tag:", "tag:\n  newer: 2"))
    assert read_settings(tmp_path / SETTINGS).original_scoring
    note = capsys.readouterr().err
    assert note.count("\n") == 1
    assert "future, tag.newer" in note
    (tmp_path / SETTINGS).write_text("ssn: 3\n")
    with pytest.raises(UserError, match=SETTINGS):
        read_settings(tmp_path / SETTINGS)


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the fixtures that is the current folder, with their network importable."""
    folder = tmp_path / "v0_1"
    shutil.copytree(V0_1, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def model(copy: Path) -> Model:
    """The model folder; skips where videos are not decoded as in the fixtures, which a model refuses."""
    try:
        return Model.load(copy / "model", "cpu", trusted=expected()["model"]["trust_modules"])
    except UserError as error:
        if "decoder" not in str(error):
            raise
        pytest.skip(f"videos are decoded by other versions than those of the fixtures: {error}")


def test_a_model_detects_what_it_did(model: Model, copy: Path) -> None:
    known = expected()["model"]
    result = model.detect(copy / known["video"])
    assert result.video.duration == pytest.approx(known["duration"], abs=1e-6)
    assert len(result.intervals) == known["proposals"]
    np.testing.assert_allclose(result.actionness, known["actionness"], atol=1e-3)
    detections = result.detections[result.video.id]
    assert len(detections.scores) == known["detections"]["number"]
    for row, best in enumerate(known["detections"]["best"]):
        assert model.labels[detections.classes[row]] == best["label"]
        assert detections.scores[row] == pytest.approx(best["score"], abs=1e-3)
        assert detections.intervals[row].tolist() == pytest.approx(best["segment"], abs=1e-2)


def test_a_model_can_be_saved_from_what_was_written(model: Model, copy: Path) -> None:
    runs = [copy / "runs/late/flow", copy / "runs/late/rgb"]
    store, proposals = open_store(copy / "growing.zarr"), Proposals.load(copy / "proposals.npz")
    trusted = expected()["model"]["trust_modules"]
    save_model(copy / "again", store, proposals, runs, [1, 2], trusted=trusted)
    old, new = (read_settings(copy / name / SETTINGS) for name in ("model", "again"))
    assert old == new == ModelSettings(**{**vars(new), "postprocess": PostprocessOptions()})


def test_proposals_with_options_of_another_version_make_a_model(
    model: Model, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proposals = Proposals.load(copy / "proposals.npz")
    proposals.parameters["newer"] = 1
    runs, trusted = [copy / "runs/late/flow"], expected()["model"]["trust_modules"]
    save_model(copy / "again", open_store(copy / "growing.zarr"), proposals, runs, trusted=trusted)
    assert "newer" in capsys.readouterr().err
    assert read_settings(copy / "again" / SETTINGS).tag.smoothing == 0.3
