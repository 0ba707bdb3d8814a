"""The package from Python: what importing it costs, the page about it, and keywords as options."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from training.synthetic_store import Synthetic
from training.synthetic_store import write as write_synthetic
from video.films import pictures
from video.films import write as write_video

import ssn_feat as sf
from ssn_feat.annotations import Dataset, Instance, Video, write_activitynet
from ssn_feat.api import _fields_of, options_from_keywords
from ssn_feat.backbones import load_backbone
from ssn_feat.detection.detect_store import PRESETS as DETECT_PRESETS
from ssn_feat.detection.detect_store import DetectOptions
from ssn_feat.evaluation.evaluate_options import EvaluateOptions
from ssn_feat.extraction import ExtractOptions
from ssn_feat.heads.ssn import SSNOptions
from ssn_feat.proposals.propose import ProposeOptions
from ssn_feat.results.detections import Detections
from ssn_feat.runs.checkpoints import Run
from ssn_feat.training.fit_options import FitOptions, OptimisationOptions
from ssn_feat.training.presets import PRESETS

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
SCRIPT = ROOT / "docs" / "from_python.py"
OPTIONS = {
    "detect": DetectOptions,
    "evaluate": EvaluateOptions,
    "extract": ExtractOptions,
    "fit": FitOptions,
    "propose": ProposeOptions,
}
FUNCTIONS = (*OPTIONS, "open_store", "read_annotations")


def loaded_by(statement: str) -> set[str]:
    """The packages that a fresh interpreter has loaded after ``statement``."""
    program = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    return write_synthetic(tmp_path_factory.mktemp("data"))


def test_heads_import_no_command_line_library() -> None:
    loaded = loaded_by("import ssn_feat.heads.actionness, ssn_feat.heads.dense, ssn_feat.heads.ssn")
    assert "torch" in loaded
    assert not {"tyro", "yaml", "cattrs", "rich"} & loaded


def test_importing_the_package_imports_nothing_else() -> None:
    heavy = {"cattrs", "cv2", "numpy", "rich", "torch", "tyro", "yaml", "zarr"}
    assert not heavy & loaded_by("import ssn_feat")
    assert not {"cv2", "torch", "tyro"} & loaded_by("import ssn_feat as sf; sf.open_store; sf.read_annotations")


def test_what_is_offered_is_there_and_has_an_example() -> None:
    assert {*FUNCTIONS, "Model", "UserError"} <= set(sf.__all__) <= set(dir(sf))
    for name in FUNCTIONS:
        assert f"sf.{name}(" in getattr(sf, name).__doc__, name
    assert "sf.Model.load(" in sf.Model.load.__doc__
    with pytest.raises(AttributeError, match="'ssn_feat' has no attribute 'fitt'"):
        sf.fitt  # noqa: B018


def test_examples_in_docstrings_name_options_that_exist() -> None:
    for name, cls in OPTIONS.items():
        example = (getattr(sf, name).__doc__ or "").partition("::\n")[2]
        for call in (node for node in ast.walk(ast.parse(textwrap.dedent(example))) if isinstance(node, ast.Call)):
            given = {keyword.arg for keyword in call.keywords} - {"preset"}
            assert given <= set(_fields_of(cls)), name


# ---------------------------------------------------------------------- the page and the script


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos of noise with a dark second in each, their annotations, and weights of two networks."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "videos").mkdir()
    videos = []
    for number in range(4):
        images = pictures(100, seed=number)
        images[25:50] = [image // 4 for image in images[25:50]]
        write_video(folder / "videos" / f"v{number}.avi", images)
        actions = (Instance("dark", 1.0, 2.0), Instance("late", 2.5, 3.5))
        videos.append(Video(f"v{number}", 4.0, "testing" if number == 3 else "training", actions))
    write_activitynet(Dataset.of("noise", videos), folder / "annotations.json")
    for stream in ("rgb", "flow"):
        load_backbone("efficientnet_lite0", stream, "random:0", trainable=True).save(folder / f"{stream}.pth")
    return folder


def test_the_page_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("joblib.cpu_count", lambda: 1)  # no worker processes
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "unknown option 'epoch' (did you mean epochs?); FitOptions lists all of them" in printed
    assert 0 <= names["result"].average <= 1
    assert repr(names["truth"]) in " ".join(PAGE.split())
    assert len(names["found"].detections) == 1


def test_the_script_goes_from_a_store_to_map(
    data: Synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(SCRIPT.read_text().splitlines()) <= 25
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(data.store), data.annotations, str(tmp_path / "out")])
    runpy.run_path(str(SCRIPT))
    told = capsys.readouterr().out.splitlines()
    assert [re.split(r"\W", line.lstrip("<"))[0] for line in told] == [
        *("FeatureStore", "Dataset", "Run", "Proposals", "Run", "Detections", "Evaluation"),
    ]
    average = re.search(r"average mAP ([\d.]+) %", told[-1])
    assert average
    assert float(average[1]) > 80


# ---------------------------------------------------------------------- keywords


REQUIRED = {"store": "s.zarr", "annotations": "a.json", "out": "run"}


def test_keywords_are_fields_of_groups_too() -> None:
    made = options_from_keywords(FitOptions, REQUIRED | {"lr": 1, "streams": "flow", "stpp": [1, [1, 2], 1]})
    assert made == FitOptions(
        Path("s.zarr"), "a.json", Path("run"), streams=("flow",),
        optimisation=OptimisationOptions(lr=1.0), ssn=SSNOptions(stpp=(1, (1, 2), 1)),
    )  # fmt: skip
    assert isinstance(made.optimisation.lr, float)
    thresholds = options_from_keywords(
        EvaluateOptions, {"files": Path("d.json"), "annotations": Path("a.json"), "thresholds": np.array([0.5, 0.75])}
    )
    assert (thresholds.files, thresholds.thresholds) == ((Path("d.json"),), (0.5, 0.75))


def test_keywords_override_a_preset() -> None:
    made = options_from_keywords(FitOptions, REQUIRED | {"epochs": 3}, PRESETS, "small")
    small = PRESETS["small"]
    assert made.optimisation == replace(small.optimisation, epochs=3)
    assert made.random_windows == small.random_windows
    with_classifier = options_from_keywords(
        DetectOptions, {"classifier": "c.json"}, DETECT_PRESETS, "thumos14-classifier"
    )
    assert with_classifier.postprocess.classifier == Path("c.json")
    assert with_classifier.postprocess.scoring == "all"


@pytest.mark.parametrize(
    ("given", "preset", "told"),
    [
        ({"epoch": 3}, None, r"unknown option 'epoch' \(did you mean epochs\?\)"),
        ({"lr": "fast"}, None, "lr"),
        ({"epochs": 2.5}, None, "2.5 is not a whole number"),
        ({"epochs": 0}, None, "epochs must be at least 1"),
        ({"head": "both"}, None, "head"),
        ({}, "smal", r"unknown preset 'smal' \(did you mean small\?\)"),
    ],
)
def test_wrong_keywords_are_one_line(given: dict[str, Any], preset: str | None, told: str) -> None:
    with pytest.raises(sf.UserError, match=told) as refused:
        options_from_keywords(FitOptions, REQUIRED | given, PRESETS, preset)
    assert "\n" not in str(refused.value)


def test_objects_stand_for_their_files(data: Synthetic) -> None:
    store, truth = sf.open_store(data.store), sf.read_annotations(data.annotations)
    made = options_from_keywords(FitOptions, {"store": store, "annotations": truth, "out": "run"})
    assert (made.store, made.annotations) == (data.store, data.annotations)
    with pytest.raises(sf.UserError, match=r"annotations: Dataset\(.* is in memory only; save it"):
        sf.fit(store, truth.subset("training"), data.folder / "run")


# ---------------------------------------------------------------------- what comes back


def test_several_heads_come_back_as_a_list(data: Synthetic, tmp_path: Path) -> None:
    short = {"proposals": data.proposals, "epochs": 1, "epoch_multiplier": 1, "device": "cpu"}
    seeds = sf.fit(data.store, data.annotations, tmp_path / "seeds", seeds=2, **short)
    late = sf.fit(data.store, data.annotations, tmp_path / "late", streams=["rgb", "flow"], fusion="late", **short)
    assert isinstance(seeds, list)
    assert isinstance(late, list)
    assert [run.path for run in seeds] == [tmp_path / "seeds" / "seed-0", tmp_path / "seeds" / "seed-1"]
    assert {run.streams for run in late} == {("rgb",), ("flow",)}
    fused = sf.detect(data.store, data.proposals, late, out=tmp_path / "d.json", weights=[2, 1])
    again = sf.detect(scores=sorted(tmp_path.glob("d.scores-*.npz")), out=tmp_path / "e.json", weights=[2, 1])
    np.testing.assert_array_equal(fused.scores, again.scores)


@pytest.mark.parametrize("head", ["one-stage", "own_head:RunsHead"])
def test_heads_without_proposals(data: Synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    short = {"epochs": 1, "longest": 64, "device": "cpu"} | ({"width": 16} if head == "one-stage" else {})
    run = sf.fit(data.store, data.annotations, tmp_path / "run", head=head, **short)
    assert isinstance(run, Run)
    assert run.kind == head
    trust = [head] if ":" in head else []
    found = sf.detect(data.store, None, run, out=tmp_path / "found.json", trust_modules=trust)
    assert len(found.scores)


def test_nothing_is_printed_unless_asked_for(
    data: Synthetic, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sf.propose(data.store, tmp_path / "p.npz", method="sliding")
    assert capsys.readouterr() == ("", "")
    sf.propose(data.store, tmp_path / "p.npz", method="sliding", quiet=False)
    assert "p.npz" in capsys.readouterr().out


def test_detections_in_memory_are_measured_as_those_in_files(data: Synthetic, tmp_path: Path) -> None:
    truth = sf.read_annotations(data.annotations)
    videos = truth.videos.values()
    whole = Detections.of(
        truth.labels, {v.id: (v.intervals(), truth.classes(v), np.ones(len(v.instances))) for v in videos}
    )
    in_memory = sf.evaluate(whole.top(1), truth, subset="testing", bootstrap=0)
    whole.top(1).write(tmp_path / "d.json")
    in_file = sf.evaluate(str(tmp_path / "d.json"), data.annotations, subset="testing", bootstrap=0)
    np.testing.assert_array_equal(in_memory.average_precision, in_file.average_precision)
    assert sf.evaluate(whole, truth.subset("testing"), unknown_videos="drop", bootstrap=0).average == 1
    with pytest.raises(sf.UserError, match="videos are not in data set"):
        sf.evaluate(whole, truth.subset("testing"))


def test_videos_that_fail_are_warned_of(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "broken.avi").write_bytes(b"RIFF")
    with pytest.warns(UserWarning, match="broken was not extracted"):
        report = sf.extract(
            tmp_path / "videos", tmp_path / "s.zarr", backbone="efficientnet_lite0", weights="random:0", jobs=1
        )
    assert repr(report) == "ExtractReport(videos: 1 failed)"


def test_objects_print_one_line(data: Synthetic) -> None:
    truth = sf.read_annotations(data.annotations)
    video = next(iter(truth.videos.values()))
    store = sf.open_store(data.store)
    said = [repr(thing) for thing in (truth, video, store, store.read(video.id, ["rgb"]))]
    assert said[0] == "Dataset('annotations': 18 videos (6 testing, 12 training), 52 instances of 3 classes)"
    assert said[1] == f"Video('v/00': {video.duration:.1f} s, training, {len(video.instances)} instances)"
    rows = store.rows(video.id)
    assert said[3] == f"StoredVideo('v/00': {video.duration:.1f} s, {rows} snippets, rgb ({rows}, 24))"
    assert all("\n" not in line for line in said)
