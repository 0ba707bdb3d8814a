"""A run is resumed with the annotations, proposals and features that it began with, whether finished or not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from interruption import interrupt
from synthetic_store import Synthetic, quick, write

from ssn_feat.errors import UserError
from ssn_feat.files import write_torch
from ssn_feat.proposals import Proposals
from ssn_feat.runs.checkpoints import read_run_checkpoint
from ssn_feat.store import create_store, open_store, pack
from ssn_feat.training import training_data
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import FitOptions


@pytest.fixture
def data(tmp_path: Path) -> Synthetic:
    return write(tmp_path / "data", videos=9, dim=6)


@pytest.fixture(params=["finished", "unfinished"])
def begun(request: pytest.FixtureRequest, data: Synthetic, monkeypatch: pytest.MonkeyPatch) -> FitOptions:
    """Options that resume a run, which is finished or not."""
    schedule = quick(epochs=2, epoch_multiplier=2, batch_videos=2)
    options = data.options(data.folder / "run", optimisation=schedule)
    if request.param == "finished":
        fit(options)
    else:
        with monkeypatch.context() as patch:
            interrupt(options, patch, at=1)
    return replace(options, resume=True)


def other_annotations(data: Synthetic) -> str:
    content = json.loads(Path(data.annotations).read_text())
    next(video for video in content["database"].values() if video["annotations"])["annotations"][0]["segment"][1] += 0.5
    Path(data.annotations).write_text(json.dumps(content))
    return r"the annotations \S*annotations\.json changed"


def other_proposals(data: Synthetic) -> str:
    proposals = Proposals.load(data.proposals)
    proposals.intervals["v/00"][0] += 0.25
    proposals.save(data.proposals)
    return r"the proposals \S*proposals\.npz changed"


def other_features(data: Synthetic, count: int = 1) -> None:
    """The same recipe and times, other values."""
    store = open_store(data.store)
    videos = list(store.read_all(store.ids))
    shutil.rmtree(data.store)
    again = create_store(data.store, store.recipe, store.name)
    for at, video in enumerate(videos):
        features = {name: rows + np.float16(at < count) for name, rows in video.features.items()}
        again.write(video.id, features, video.spans, {"duration": video.duration, "fps": video.fps})


def one_other_video(data: Synthetic) -> str:
    other_features(data)
    return r"the features of 1 video in \S*features\.zarr \(v/00\) changed"


def all_other_videos(data: Synthetic) -> str:
    other_features(data, 9)
    return r"the features of 5 videos in \S*features\.zarr \(v/00, v/01, v/02, v/03, v/04\) changed"


def everything(data: Synthetic) -> str:
    return f"{other_annotations(data)[:-8]} and {other_proposals(data)[:-8]} and {one_other_video(data)}"


CHANGES = (other_annotations, other_proposals, one_other_video, all_other_videos, everything)


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_named(data: Synthetic, begun: FitOptions, change) -> None:
    message = change(data)
    before = {path.name: path.read_bytes() for path in begun.out.iterdir()}
    with pytest.raises(UserError, match=f"cannot resume .*run: since it began, {message}; restore .* another --out"):
        fit(begun)
    assert {path.name: path.read_bytes() for path in begun.out.iterdir()} == before


def test_data_that_a_run_does_not_learn_from_may_change(data: Synthetic, begun: FitOptions) -> None:
    content = json.loads(Path(data.annotations).read_text())
    for video in content["database"].values():
        if video["subset"] == "testing":
            video["annotations"] = []
    Path(data.annotations).write_text(json.dumps(content, indent=3))
    proposals = Proposals.load(data.proposals)
    proposals.only([video for video in proposals.ids if video < "v/06"]).save(data.proposals)
    packed = pack(open_store(data.store), data.folder / "packed.zarr")
    shutil.rmtree(data.store)
    packed.path.rename(data.store)
    fit(begun)


def test_comparing_reads_no_features(data: Synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = data.options(tmp_path / "run", optimisation=quick(epochs=1, epoch_multiplier=1, batch_videos=2))
    summary = fit(options)
    monkeypatch.setattr(training_data.FeatureTable, "load", None)
    assert fit(replace(options, resume=True)) == summary


def test_what_an_older_run_did_not_record_is_not_compared(data: Synthetic, begun: FitOptions) -> None:
    saved = read_run_checkpoint(begun.out / "checkpoint.pt")
    del saved["inputs"]["features"]
    write_torch(begun.out / "checkpoint.pt", saved)
    (begun.out / "hashes.json").unlink()
    other_features(data)
    fit(begun)
    assert read_run_checkpoint(begun.out / "checkpoint.pt")["finished"]
