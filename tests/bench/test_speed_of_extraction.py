"""The benchmark of extraction at its smallest: it runs, its figures are of the right things, its JSON reads back."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.speed import plain_extract
from bench.speed.extract import ExtractSpeedOptions, figure, measure_extract, write_video
from bench.speed.extract_stages import _decoding, _stages_alone, flops_of, small_network
from bench.speed.figures import Figure
from ssn_feat.backbones import load_backbone
from ssn_feat.errors import UserError
from ssn_feat.extraction import extract_video
from ssn_feat.video import SnippetOptions, probe
from ssn_feat.video.tvl1 import fixed_traffic


def test_figures_are_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def figures(options: ExtractSpeedOptions, folder: Path) -> Iterator[Figure]:
        yield from _decoding(write_video(folder / "v", 0.5), options)
        yield figure("end to end", "of the slowest stage's own time", 1.1, "x", bar=1.15, at_most=True)

    monkeypatch.setattr("bench.speed.extract_stages.cpu_figures", figures)
    found = measure_extract(ExtractSpeedOptions(runs=1, json=tmp_path / "figures.json"))
    assert [each.name for each in found] == ["decoding", "end to end"]
    assert found[0].value > 0
    assert "<= 1.15" in capsys.readouterr().out
    content = json.loads((tmp_path / "figures.json").read_text())
    assert [each["met"] for each in content["figures"]] == [None, True]
    assert {"processor", "torch", "opencv"} <= content["machine"].keys()


def test_stages_alone_do_what_all_of_them_do(tmp_path: Path) -> None:
    backbones = {s: load_backbone("bench.speed.extract_stages:small_network", s) for s in ("rgb", "flow")}
    cut = SnippetOptions(crop=56, short_side=64).resolved()
    stages, rows = _stages_alone(write_video(tmp_path / "v", 0.7), cut, backbones)
    assert rows == 3
    assert stages.total >= stages.slowest > 0


def test_the_plain_way_makes_the_same_features(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v", 0.6)
    assert (probe(video).width, probe(video).height) == (340, 256)
    module = "bench.speed.extract_stages:small_network"
    torch.manual_seed(0)
    weights = {stream: small_network(channels).state_dict() for stream, channels in (("rgb", 3), ("flow", 10))}
    ours, theirs = {}, {}
    for stream, state in weights.items():
        torch.save(state, tmp_path / f"{stream}.pt")
        ours[stream] = load_backbone(module, stream, tmp_path / f"{stream}.pt")
        theirs[stream] = load_backbone(module, stream, tmp_path / f"{stream}.pt", trainable=True)
    files = tmp_path / "files"
    files.mkdir()
    count = plain_extract.frames_to_files(video, files)
    plain_extract.flow_to_files(files, count)
    plain = plain_extract.snippet_features(files, count, theirs, 6, 56, ten=True)
    cut = SnippetOptions(crop=56, short_side=256, stretch=340, crops="ten")
    found = extract_video(video, ours, cut).features
    assert plain["rgb"].shape == found["rgb"].shape == (3, 16)
    # Theirs leaves the scale and order of colours of the network out; what is compared is who reads which pixels.
    assert np.isfinite(plain["flow"]).all()


def test_what_is_counted() -> None:
    backbone = load_backbone("bench.speed.extract_stages:small_network", "rgb")
    assert flops_of(backbone) == 2 * 16 * 8 * 8 * 3 * 7 * 7
    full = 17 * 4 * 150 * 100 * 100
    assert full < fixed_traffic(100, 100) < 4 * full


def test_options_are_checked() -> None:
    with pytest.raises(UserError, match="runs must be at least 1"):
        ExtractSpeedOptions(runs=0)
    with pytest.raises(UserError, match="seconds must not be negative"):
        ExtractSpeedOptions(seconds=-1)
