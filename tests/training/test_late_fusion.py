"""A head for each stream in one run: the folders are those of single runs, and detection fuses them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from synthetic_store import quick, write

from ssn_feat.cli import load_yaml
from ssn_feat.detection.detect_store import DetectOptions, detect
from ssn_feat.errors import UserError
from ssn_feat.runs.checkpoints import load_run
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import FitOptions


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture
def late(data, tmp_path):
    brief = quick(epochs=2)
    return data.options(tmp_path / "late", streams=("rgb", "flow"), fusion="late", optimisation=brief)


def test_each_stream_has_the_run_of_its_own(data, late, tmp_path):
    summary = fit(late)
    for stream in ("rgb", "flow"):
        own = replace(late, streams=(stream,), fusion="early", out=tmp_path / stream)
        assert fit(own)["final"]["loss"] == summary["final"][f"{stream} loss"]
        one, other = load_run(late.out / stream), load_run(own.out)
        assert one.streams == (stream,)
        assert all(torch.equal(v, other.head.state_dict()[n]) for n, v in one.head.state_dict().items())
    assert json.loads((late.out / "summary.json").read_text()) == summary
    assert summary["runs"] == {"rgb": "rgb", "flow": "flow"}
    assert load_yaml(FitOptions, late.out / "config.yaml") == late


def test_detection_takes_the_folder_of_both(data, late, tmp_path):
    fit(late)
    options = DetectOptions(
        out=tmp_path / "found.json", store=data.store, proposals=data.proposals, checkpoint=(late.out,),
        annotations=data.annotations, subset="testing", quiet=True,
    )  # fmt: skip
    assert len(options.runs) == 2
    assert len(detect(options).scores)


def test_it_goes_on_where_it_stopped_and_keeps_what_is_there(late):
    fit(late)
    with pytest.raises(UserError, match="already holds a run"):
        fit(late)
    assert fit(replace(late, resume=True))["runs"] == {"rgb": "rgb", "flow": "flow"}


def test_a_refused_command_leaves_what_is_there(late):
    fit(late)
    before = {path: path.read_bytes() for path in late.out.rglob("*") if path.is_file()}
    for changes in ({"resume": True}, {}):
        with pytest.raises(UserError, match=r"epochs was 2 and is 3|already holds a run"):
            fit(replace(late, optimisation=quick(epochs=3), **changes))
    assert {path: path.read_bytes() for path in late.out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("streams", [("rgb", "pose"), ("rgb", "rgb")])
def test_no_stream_is_learned_where_another_is_wrong(late, streams):
    with pytest.raises(UserError, match=r"no stream 'pose'|each once"):
        fit(replace(late, streams=streams))
    assert not late.out.exists()


def test_seeds_of_each_stream_say_their_options_where_they_lie(late):
    fit(replace(late, seeds=2))
    assert load_yaml(FitOptions, late.out / "config.yaml") == replace(late, seeds=2)
    own = replace(late, streams=("flow",), fusion="early", seeds=2, out=late.out / "flow")
    assert load_yaml(FitOptions, own.out / "config.yaml") == own
    assert (own.out / "seed-1" / "summary.json").exists()


def test_several_seeds_of_each_stream(late):
    summary = fit(replace(late, seeds=2))
    assert {"rgb loss", "flow accuracy"} <= summary["spread"].keys()
    assert (late.out / "flow" / "seed-1" / "checkpoint.pt").exists()


def test_what_does_not_fit_is_refused(late):
    with pytest.raises(UserError, match="late fusion needs several streams, not only rgb"):
        replace(late, streams=("rgb",))
    fit(replace(late, fusion="early"))
    with pytest.raises(UserError, match="holds a run of one head"):
        fit(late)


def test_it_takes_one_process(late, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for fusion in ({}, {"streams": ("rgb",), "fusion": "early"}):
        with pytest.raises(
            UserError, match=r"uses one process: start it without torchrun, or choose fit\.py end-to-end"
        ):
            fit(replace(late, **fusion))
    assert not late.out.exists()
