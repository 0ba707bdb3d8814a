"""The command from features to detections, on a small store: what it gives, what can be redone, what is refused."""

from __future__ import annotations

import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from training.synthetic_store import Synthetic, write

from ssn_feat.annotations import read_annotations
from ssn_feat.cli import load_yaml, save_yaml
from ssn_feat.detection.detect_store import PRESETS, DetectOptions, detect, score_files
from ssn_feat.detection.scores import ProposalScores
from ssn_feat.detection.scoring import Scorer, clip_to_video, score_store
from ssn_feat.errors import UserError
from ssn_feat.evaluation.evaluate import evaluate_detections
from ssn_feat.heads.ssn import SSNOptions
from ssn_feat.heads.stages import row_ranges, stages
from ssn_feat.proposals import Proposals
from ssn_feat.results.detections import Detections
from ssn_feat.runs.checkpoints import load_run
from ssn_feat.store import create_store, open_store
from ssn_feat.training.fit import fit


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    return write(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture(scope="module")
def runs(data: Synthetic) -> tuple[Path, Path]:
    """A run of each stream; that of flow has several parts in a stage."""
    fit(data.options(data.folder / "rgb"))
    fit(data.options(data.folder / "flow", streams=("flow",), ssn=SSNOptions(stpp=(1, (1, 2), 1))))
    return data.folder / "rgb", data.folder / "flow"


@pytest.fixture
def options(data: Synthetic, runs: tuple[Path, Path], tmp_path: Path) -> DetectOptions:
    return DetectOptions(
        store=data.store,
        proposals=data.proposals,
        checkpoint=runs,
        out=tmp_path / "detections.json",
        annotations=data.annotations,
        subset="testing",
        quiet=True,
    )


def equal(a: Detections, b: Detections) -> bool:
    return a.ids == b.ids and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("offsets", "intervals", "classes", "scores")
    )


def test_finds_the_actions_of_unseen_videos(data: Synthetic, options: DetectOptions) -> None:
    found = detect(options)
    testing = data.dataset.subset("testing")
    assert found.ids == tuple(testing.videos)
    assert found.labels == data.dataset.labels
    result = evaluate_detections(Detections.read(options.out), testing, (0.5, 0.7))
    assert result.mean[0] > 0.95
    assert result.mean[1] > 0.8


def test_everything_after_scoring_can_be_redone_from_the_kept_scores(options: DetectOptions, tmp_path: Path) -> None:
    first = detect(options)
    files = tuple(score_files(options.out, options.checkpoint))
    assert [path.name for path in files] == ["detections.scores-1-rgb.npz", "detections.scores-2-flow.npz"]
    again = DetectOptions(scores=files, out=tmp_path / "again.json", quiet=True)
    assert equal(detect(again), first)
    assert equal(Detections.read(again.out, first.labels), first)
    weighted = detect(replace(again, weights=(1, 3), postprocess=PRESETS["activitynet1.2"].postprocess))
    assert not equal(weighted, first)


def test_scores_can_be_cut_to_a_subset(data: Synthetic, options: DetectOptions, tmp_path: Path) -> None:
    detect(replace(options, subset=None))
    files = tuple(score_files(options.out, options.checkpoint))
    cut = DetectOptions(
        scores=files, annotations=data.annotations, subset="testing", out=tmp_path / "cut.json", quiet=True
    )
    assert equal(detect(cut), detect(options))


@pytest.mark.parametrize("number", [0, 1])
def test_scores_are_those_of_the_head_on_pooled_stages(data: Synthetic, runs: tuple[Path, Path], number: int) -> None:
    """Dense scoring of a stored video equals the head's layers on means of the rows of each stage, de-normalised."""
    run, store = load_run(runs[number]), open_store(data.store)
    video, proposals = "v/13", np.array([[3.0, 8.0], [0.0, 4.0], [1.0, 30.0]])
    stored = store.read(video)
    [scores] = score_store(store, {video: proposals}, [run])
    own = clip_to_video(proposals, stored.duration)
    placed = stages(own, stored.duration)
    rows, features = row_ranges(stored.spans, placed), run.prepare(stored.features)
    head, pyramid = run.head, run.head.options.pyramid
    for row in range(len(own)):
        course = features[rows[row, 1] : rows[row, 2]].mean(dim=0)
        begin, end = (part[0] for part in pyramid.part_rows(torch.from_numpy(rows[row : row + 1])))
        weights = pyramid.part_scaling(torch.from_numpy(placed.scaling[row : row + 1]))[0] * torch.from_numpy(
            pyramid.part_shares()
        )
        # A part without a row contributes nothing.
        parts = [features[b:e].sum(dim=0) / max(e - b, 1) * w for b, e, w in zip(begin, end, weights, strict=True)]
        pooled = torch.cat(parts).float()
        with torch.no_grad():
            activity, completeness = head.activity_fc(course), head.completeness_fc(pooled)
            regression = head.regressor_fc(pooled).view(-1, 2).numpy() * run.reg_stats[1] + run.reg_stats[0]
        np.testing.assert_allclose(scores.activity[row], activity, atol=1e-4)
        np.testing.assert_allclose(scores.completeness[row], completeness, atol=1e-4)
        np.testing.assert_allclose(scores.regression[row], regression, atol=1e-4)


def test_usable_proposals() -> None:
    given = np.array([[-2.0, 3.0], [4.0, 4.0], [9.0, 14.0], [11.0, 12.0]])
    np.testing.assert_array_equal(clip_to_video(given, 10.0), [[0, 3], [9, 10]])
    np.testing.assert_array_equal(clip_to_video(given[[1, 3]], 10.0), [[0, 10]])
    np.testing.assert_array_equal(clip_to_video(np.zeros((0, 2)), 10.0), [[0, 10]])


def test_released_folding_differs_where_a_stage_has_parts(data: Synthetic, runs: tuple[Path, Path]) -> None:
    store, proposals = open_store(data.store), {"v/13": np.array([[3.0, 8.0]])}
    loaded = [load_run(run) for run in runs]
    ours, theirs = (score_store(store, proposals, loaded, original_scoring) for original_scoring in (False, True))
    assert not np.allclose(ours[1].completeness, theirs[1].completeness, atol=1e-3)
    np.testing.assert_allclose(ours[0].activity, theirs[0].activity, atol=1e-5)


def test_videos_that_lack_features_or_proposals_are_said(
    data: Synthetic, options: DetectOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proposals = Proposals.load(data.proposals)
    proposals.only([v for v in proposals.ids if v not in ("v/12", "v/13")]).save(tmp_path / "fewer.npz")
    found = detect(replace(options, proposals=tmp_path / "fewer.npz", quiet=False))
    assert len(found) == 4
    said = capsys.readouterr().out
    assert "coverage: 4 of 6 videos; 0 have no features, 2 no proposals" in said
    assert "v/14" in said


def test_options_survive_yaml(options: DetectOptions, tmp_path: Path) -> None:
    save_yaml(options, tmp_path / "o.yaml")
    assert load_yaml(DetectOptions, tmp_path / "o.yaml") == options


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"store": None}, "missing: --store"),
        ({"checkpoint": ()}, "missing: --checkpoint"),
        ({"scores": (Path("x.npz"),)}, "--scores replaces --store"),
        ({"store": Path("nowhere.zarr")}, "nowhere.zarr"),
        ({"proposals": Path("nothing.npz")}, "nothing.npz"),
        ({"checkpoint": (Path("no-run"),)}, "no run at no-run"),
        ({"annotations": "none.json"}, "none.json"),
        ({"subset": "validation"}, "no subset 'validation'"),
    ],
)
def test_what_is_missing_is_named(options: DetectOptions, changes: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        detect(replace(options, **changes))


def test_a_folder_of_runs_stands_for_its_runs(options: DetectOptions, runs: tuple[Path, Path], tmp_path: Path) -> None:
    late = tmp_path / "late"
    for run in runs:
        shutil.copytree(run, late / run.name)
    # What training leaves beside the runs does not make a run of the folder.
    (late / "config.yaml").touch()
    (late / "summary.json").touch()
    both = detect(replace(options, checkpoint=(late,), weights=(3.0, 1.0)))
    named = detect(replace(options, checkpoint=(late / "flow", late / "rgb"), weights=(3.0, 1.0)))
    assert equal(both, named)
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == [
        "detections.scores-1-flow.npz",
        "detections.scores-2-rgb.npz",
    ]


def test_options_that_do_not_fit_together(options: DetectOptions) -> None:
    with pytest.raises(UserError, match="2 runs need one weight each, but there are 3"):
        replace(options, weights=(1, 1, 1))
    with pytest.raises(UserError, match="--subset needs --annotations"):
        replace(options, annotations=None)


def test_an_empty_proposal_file_is_refused(data: Synthetic, options: DetectOptions, tmp_path: Path) -> None:
    ids = read_annotations(data.annotations).subset("testing").videos
    Proposals({i: np.zeros((0, 2)) for i in ids}, {i: np.zeros(0) for i in ids}, "none").save(tmp_path / "empty.npz")
    with pytest.raises(UserError, match=r"empty\.npz holds no proposal for any of the 6 videos"):
        detect(replace(options, proposals=tmp_path / "empty.npz"))
    Proposals({"other": np.zeros((0, 2))}, {"other": np.zeros(0)}, "none").save(tmp_path / "other.npz")
    with pytest.raises(UserError, match="none of the 6 videos has both"):
        detect(replace(options, proposals=tmp_path / "other.npz"))


def test_runs_of_other_features_or_heads_are_refused(data: Synthetic, options: DetectOptions, tmp_path: Path) -> None:
    fit(data.options(tmp_path / "actionness", head="actionness", proposals=None))
    with pytest.raises(UserError, match="detection needs runs of the ssn head"):
        detect(replace(options, checkpoint=(tmp_path / "actionness",)))
    other = create_store(tmp_path / "other.zarr", {"backbone": "another"}, "toy")
    stored = open_store(data.store).read("v/13")
    other.write("v/13", stored.features, stored.spans, {"duration": stored.duration})
    with pytest.raises(UserError, match="trained on features of recipe"):
        detect(replace(options, store=tmp_path / "other.zarr"))


def test_scores_of_different_classes_are_not_fused(data: Synthetic, runs: tuple[Path, Path]) -> None:
    first, second = (load_run(run) for run in runs)
    with pytest.raises(UserError, match="different classes"):
        score_store(open_store(data.store), {}, [first, replace(second, labels=("x", "y", "z"))])


def test_a_scorer_refuses_features_of_another_width(runs: tuple[Path, Path]) -> None:
    scorer = Scorer(load_run(runs[0]))
    with pytest.raises(UserError, match="trained on features"):
        scorer({"rgb": np.zeros((4, 3), np.float16)}, np.array([[n, n + 1] for n in range(4)], float), 4.0, [[0, 2]])


def test_the_script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def run(*flags: object) -> object:
        monkeypatch.setattr(sys, "argv", ["train/detect.py", "store", *map(str, flags)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / "train" / "detect.py"), run_name="__main__")
        return stopped.value.code

    ProposalScores.of(("a[b]",), {}).save(tmp_path / "s.npz")
    assert run("thumos14", "--scores", tmp_path / "s.npz", "--out", tmp_path / "d.json", "--no-regression") == 0
    assert Detections.read(tmp_path / "d.json").ids == ()
    capsys.readouterr()
    assert run("--scores", tmp_path / "none.npz") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: cannot read the scores")
    assert said.count("\n") == 1
    # A preset that is meant for an outside classifier, without one; a video, for which there is another command.
    assert run("thumos14-classifier", "--scores", tmp_path / "s.npz", "--out", tmp_path / "d.json") == 2
    assert "--classifier" in capsys.readouterr().err
    (tmp_path / "film.mp4").touch()
    assert run(tmp_path / "film.mp4") == 2
    assert "error: there is no preset" in capsys.readouterr().err
