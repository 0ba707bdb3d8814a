"""Stores that version 0.1 extracted keep their recipe, also the options in it that have become constants."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from version_0_1 import V0_1

from ssn_feat.errors import UserError
from ssn_feat.extraction import ExtractOptions, extract, snippet_options_of
from ssn_feat.store import open_store
from ssn_feat.video import SnippetOptions


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the fixtures that is the current folder, with their network importable and their decoder pretended."""
    folder = tmp_path / "v0_1"
    shutil.copytree(V0_1, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    decoder = open_store(folder / "growing.zarr").recipe["decoder"]
    monkeypatch.setattr("ssn_feat.extraction.recipes.decoder_versions", lambda *_: decoder)
    return folder


def test_a_store_is_resumed(copy: Path) -> None:
    before = open_store(copy / "growing.zarr")
    weights = tuple(f"{stream}={copy}/weights/{stream}.pt" for stream in ("rgb", "flow"))
    report = extract(
        ExtractOptions(
            copy / "videos",
            copy / "growing.zarr",
            backbone=("fixture_net_0_1:net",),
            weights=weights,
            snippets=SnippetOptions(stride=3, flow_method="dis"),
            jobs=1,
            device=("cpu",),
            resume=True,
        )
    )
    assert (report.done_before, report.extracted, list(report.failures)) == (6, {}, ["broken"])
    assert open_store(copy / "growing.zarr").fingerprint == before.fingerprint


@pytest.mark.parametrize(("name", "value"), [("flow_length", 3), ("jpeg_quality", 75)])
def test_features_of_an_option_that_is_gone_are_not_imitated(name: str, value: int) -> None:
    recipe = open_store(V0_1 / "growing.zarr").recipe
    assert snippet_options_of(recipe).stride == 3
    with pytest.raises(UserError, match=f"were extracted with {name} {value}; this version extracts with"):
        snippet_options_of({**recipe, "snippets": {**recipe["snippets"], name: value}})
