"""Annotations and proposals with times of other videos are refused by every command that joins them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_store import Synthetic, quick, write

from ssn_feat.annotations import Dataset, Instance, write_activitynet
from ssn_feat.annotations.joining import JoinOptions
from ssn_feat.cli.options import flags_of
from ssn_feat.commands import COMMANDS
from ssn_feat.detection.detect_store import DetectOptions, detect
from ssn_feat.errors import UserError
from ssn_feat.evaluation.compare_proposals import CompareOptions, compare
from ssn_feat.evaluation.evaluate import EvaluateOptions, evaluate
from ssn_feat.proposals import Proposals
from ssn_feat.proposals.propose import ProposeOptions, propose
from ssn_feat.report.page import report
from ssn_feat.report.report_options import ReportOptions
from ssn_feat.results.detections import Detections
from ssn_feat.training.fit import fit
from ssn_feat.training.training_data import read_data

FRAMES, MILLISECONDS = 25.0, 1000.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    data = write(tmp_path_factory.mktemp("synthetic"))
    fit(data.options(data.folder / "run", optimisation=quick(epochs=1)))
    fit(data.options(data.folder / "act", head="actionness", proposals=None, optimisation=quick(epochs=1)))
    rows = {video.id: ([(1.0, 4.0)], [0], [1.0]) for video in data.dataset.subset("testing").videos.values()}
    Detections.of(data.dataset.labels, rows).write(data.folder / "detections.json")
    return data


def scaled(data: Synthetic, factor: float) -> str:
    """The annotations of ``data`` with all times multiplied."""

    def times(instance: Instance) -> Instance:
        return Instance(instance.label, instance.start * factor, instance.end * factor)

    videos = [
        replace(video, duration=video.duration * factor, instances=tuple(map(times, video.instances)))
        for video in data.dataset.videos.values()
    ]
    path = data.folder / f"x{factor:g}.json"
    write_activitynet(Dataset.of("toy", videos, data.dataset.labels), path)
    return str(path)


def moved(data: Synthetic, seconds: float) -> Path:
    """The proposals of ``data`` with ``seconds`` added."""
    proposals = Proposals.load(data.proposals)
    later = {video: rows + seconds for video, rows in proposals.intervals.items()}
    path = data.folder / f"plus{seconds:g}.npz"
    replace(proposals, intervals=later).save(path)
    return path


Call = Callable[[Synthetic, Path, str, bool], object]
# Calls with the annotations, and whether a mismatch is allowed.
WITH_ANNOTATIONS: dict[str, Call] = {
    "fit": lambda d, out, a, allow: fit(
        d.options(out / "run", annotations=a, allow_duration_mismatch=allow, optimisation=quick(epochs=1))
    ),
    "fit --eval": lambda d, out, a, allow: fit(
        d.options(
            out / "run", annotations=a, allow_duration_mismatch=allow, eval="testing", optimisation=quick(epochs=1)
        )
    ),
    "propose": lambda d, out, a, allow: propose(
        ProposeOptions(
            *(d.store, out / "p.npz"), method="sliding", annotations=a, quiet=True, allow_duration_mismatch=allow
        )
    ),
    "detect": lambda d, out, a, allow: detect(
        DetectOptions(
            *(d.store, d.proposals, (d.folder / "run",)),
            out=out / "d.json",
            annotations=a,
            quiet=True,
            allow_duration_mismatch=allow,
        )
    ),
    "proposals": lambda d, out, a, allow: compare(
        CompareOptions((), annotations=a, store=d.store, allow_duration_mismatch=allow)
    ),
    "report": lambda d, out, a, allow: report(
        ReportOptions(
            (d.folder / "act",),
            annotations=a,
            store=d.store,
            out=out / "r.html",
            quiet=True,
            allow_duration_mismatch=allow,
        )
    ),
}


@pytest.mark.parametrize("command", WITH_ANNOTATIONS)
def test_annotations_in_frames_or_milliseconds_are_refused(command: str, data: Synthetic, tmp_path: Path) -> None:
    call = WITH_ANNOTATIONS[command]
    call(data, tmp_path / "right", data.annotations, False)
    with pytest.raises(UserError, match=r"numbers of frames, at 25 per second, that were taken for seconds"):
        call(data, tmp_path / "frames", scaled(data, FRAMES), False)
    with pytest.raises(UserError, match=r"1000 times those in .*as if milliseconds were taken for seconds"):
        call(data, tmp_path / "ms", scaled(data, MILLISECONDS), False)
    call(data, tmp_path / "allowed", scaled(data, 1.05), True)


WITH_PROPOSALS: dict[str, Call] = {
    "fit": lambda d, out, p, allow: fit(
        d.options(out / "run", proposals=Path(p), allow_duration_mismatch=allow, optimisation=quick(epochs=1))
    ),
    "fit --eval-proposals": lambda d, out, p, allow: fit(
        d.options(
            out / "run",
            eval="testing",
            eval_proposals=Path(p),
            allow_duration_mismatch=allow,
            optimisation=quick(epochs=1),
        )
    ),
    "detect": lambda d, out, p, allow: detect(
        DetectOptions(
            *(d.store, Path(p), (d.folder / "run",)),
            out=out / "d.json",
            quiet=True,
            allow_duration_mismatch=allow,
        )
    ),
    "proposals": lambda d, out, p, allow: compare(
        CompareOptions((Path(p),), annotations=d.annotations, allow_duration_mismatch=allow)
    ),
    "report": lambda d, out, p, allow: report(
        ReportOptions(
            (Path(p),), annotations=d.annotations, out=out / "r.html", quiet=True, allow_duration_mismatch=allow
        )
    ),
    "detections --proposals": lambda d, out, p, allow: evaluate(
        EvaluateOptions(
            (d.folder / "detections.json",),
            annotations=d.annotations,
            proposals=Path(p),
            picture=out / "timeline.png",
            videos=("v/17",),
            bootstrap=0,
            quiet=True,
            unknown_videos="drop",
            allow_duration_mismatch=allow,
        )
    ),
}


@pytest.mark.parametrize("command", WITH_PROPOSALS)
def test_proposals_that_are_shifted_are_refused(command: str, data: Synthetic, tmp_path: Path) -> None:
    call = WITH_PROPOSALS[command]
    call(data, tmp_path / "right", str(data.proposals), False)
    with pytest.raises(UserError, match=r"are outside their video.*fit if about (99|100)\d s are subtracted"):
        call(data, tmp_path / "shifted", str(moved(data, 1000.0)), False)


def test_a_mismatch_can_be_allowed_with_one_warning(
    data: Synthetic, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    allowed = data.options(tmp_path, annotations=scaled(data, 1.1), quiet=False, allow_duration_mismatch=True)
    read_data(allowed, allowed.proposals)
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("reading")]
    assert len([line for line in said if line.startswith("warning: durations in the annotations")]) == 1
    with pytest.raises(UserError, match=r"are 1\.1 times those in the store"):
        read_data(data.options(tmp_path, annotations=scaled(data, 1.1)), data.proposals)


def test_detections_of_other_videos_are_refused(data: Synthetic, tmp_path: Path) -> None:
    detections = Detections.read(data.folder / "detections.json")
    replace(detections, intervals=detections.intervals * FRAMES).write(tmp_path / "frames.json")
    options = EvaluateOptions((tmp_path / "frames.json",), annotations=data.annotations, bootstrap=0, quiet=True)
    with pytest.raises(UserError, match=r"intervals in the detections .*frames\.json are outside their video"):
        evaluate(options)
    evaluate(replace(options, allow_duration_mismatch=True))


def test_proposals_record_the_durations_of_their_videos(data: Synthetic, tmp_path: Path) -> None:
    windows = ProposeOptions(data.store, tmp_path / "w.npz", method="sliding", quiet=True)
    proposals = propose(windows)
    loaded = Proposals.load(tmp_path / "w.npz")
    assert loaded.durations == proposals.durations
    assert loaded.durations == pytest.approx({video.id: video.duration for video in data.dataset.videos.values()})
    # Shorter proposals are inside all videos, and only the durations tell that they are not of these videos.
    others = {video: duration / 1.2 for video, duration in loaded.durations.items()}
    shorter = {video: rows / 1.2 for video, rows in loaded.intervals.items()}
    replace(loaded, durations=others, intervals=shorter).save(tmp_path / "others.npz")
    with pytest.raises(UserError, match=r"as if 25 frames per second were assumed instead of 30"):
        read_data(data.options(tmp_path), tmp_path / "others.npz")


def test_ids_of_proposals_are_matched(data: Synthetic, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proposals = Proposals.load(data.proposals)
    proposals.renamed({video: f"{video}.mp4" for video in proposals.ids}).save(tmp_path / "p.npz")
    options = data.options(tmp_path, proposals=tmp_path / "p.npz", quiet=False)
    read = read_data(options, options.proposals)
    assert read.table.ids == read_data(data.options(tmp_path), data.proposals).table.ids
    assert "ids of the proposals" in capsys.readouterr().err
    for spec in (None, data.annotations):
        found = detect(
            DetectOptions(
                *(data.store, tmp_path / "p.npz", (data.folder / "run",)),
                out=tmp_path / "d.json",
                annotations=spec,
                quiet=True,
            )
        )
        assert set(found.ids) == set(data.dataset.videos)


FITTING = {f"fit {which}" for which in ("head ssn", "head actionness", "backbone", "end-to-end", "sweep ssn")}
JOINING = {*FITTING, "fit sweep actionness", "propose", "detect store", "import", "export"}
JOINING |= {"proposals", "detections", "report"}


def test_every_command_that_joins_has_the_same_option() -> None:
    leaves = dict(COMMANDS.leaves())
    commands = {name: leaf() for name, leaf in leaves.items()}
    flag = "--allow-duration-mismatch"
    assert {name for name, each in commands.items() if flag in flags_of(each.options)} == {
        *JOINING,
        "fit sweep actionness",
        "fit head one-stage",
    }
    assert not JoinOptions().allow_duration_mismatch


def test_evaluating_training_videos_is_said(
    data: Synthetic, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = DetectOptions(data.store, data.proposals, (data.folder / "run",), out=tmp_path / "d.json", quiet=True)
    made = detect(how)
    said = f"11 of 18 evaluated videos were among the training videos of {data.folder / 'run'}"
    evaluate(EvaluateOptions((tmp_path / "d.json",), annotations=data.annotations, bootstrap=0))
    assert said in capsys.readouterr().out
    evaluate(EvaluateOptions((), annotations=data.annotations, bootstrap=0), {"d": made}, data.dataset)
    assert said in capsys.readouterr().out
    report(ReportOptions((tmp_path / "d.json",), annotations=data.annotations, out=tmp_path / "r.html", quiet=True))
    assert said in (tmp_path / "r.html").read_text()
    evaluate(EvaluateOptions((tmp_path / "d.json",), annotations=data.annotations, subset="testing", bootstrap=0))
    assert "training videos" not in capsys.readouterr().out
    # The raw scores of a run know it, too.
    (scores,) = tmp_path.glob("d.scores-*.npz")
    detect(DetectOptions(scores=(scores,), out=tmp_path / "again.json", quiet=True))
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "d.json").read_bytes()
    assert Detections.read(tmp_path / "d.json").only(["v/00", "v/17"]).trained_on == made.trained_on


def test_measuring_on_training_videos_is_said(
    data: Synthetic, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(data.options(tmp_path, eval="training", quiet=False, optimisation=quick(epochs=1)))
    assert "note: 11 of 11 videos to measure on are training videos of this run" in capsys.readouterr().err
    fit(data.options(tmp_path, eval="testing", quiet=False, overwrite=True, optimisation=quick(epochs=1)))
    assert "training videos of this run" not in capsys.readouterr().err


def test_detections_know_the_durations_of_their_videos(data: Synthetic, tmp_path: Path) -> None:
    """Annotations in frames, segments and durations alike, would otherwise only give a mAP of 0."""
    detect(DetectOptions(data.store, data.proposals, (data.folder / "run",), out=tmp_path / "d.json", quiet=True))
    made = Detections.read(tmp_path / "d.json")
    assert made.durations == {video.id: pytest.approx(video.duration) for video in data.dataset.videos.values()}
    assert made.only(["v/00"]).durations == made.durations
    with pytest.raises(UserError, match="25 times"):
        evaluate(EvaluateOptions((tmp_path / "d.json",), annotations=scaled(data, 25), bootstrap=0))
    evaluate(
        EvaluateOptions((tmp_path / "d.json",), annotations=scaled(data, 25), bootstrap=0, allow_duration_mismatch=True)
    )
    content = json.loads((tmp_path / "d.json").read_text()) | {"durations": {"v/00": "long", "v/01": None}}
    (tmp_path / "other.json").write_text(json.dumps(content))
    assert Detections.read(tmp_path / "other.json").durations == {}
