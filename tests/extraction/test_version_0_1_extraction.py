"""Stores that version 0.1 extracted are read, but features of other videos are not added to them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from version_0_1 import V0_1

from ssn_feat.cli import Command, load_yaml, parse
from ssn_feat.errors import UserError
from ssn_feat.extraction import ExtractOptions, extract, snippet_options_of
from ssn_feat.store import open_store
from ssn_feat.video import SnippetOptions


def test_a_store_is_not_extended_with_another_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "v0_1"
    shutil.copytree(V0_1, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    store = folder / "growing.zarr"
    options = ExtractOptions(
        folder / "videos",
        store,
        backbone=("fixture_net_0_1:net",),
        weights=tuple(f"{stream}={folder}/weights/{stream}.pt" for stream in ("rgb", "flow")),
        snippets=SnippetOptions(stride=3, flow_method="dis"),
        jobs=1,
        device=("cpu",),
        resume=True,
    )
    before = sorted(path for path in store.rglob("*"))
    with pytest.raises(UserError, match=r"growing\.zarr was extracted with another decoder and clock .*a new store"):
        extract(options)
    assert sorted(path for path in store.rglob("*")) == before


def test_features_of_another_clock_are_not_imitated() -> None:
    with pytest.raises(UserError, match="another decoder and clock"):
        snippet_options_of(open_store(V0_1 / "growing.zarr").recipe)


def test_options_that_were_removed_are_named_with_the_reason() -> None:
    removed = {
        "decoder": "PyAV decodes every video",
        "flow_length": "a snippet always has 5 flow fields",
        "jpeg_quality": "frames are not compressed",
        "stream_crops": "each stream is cropped to the input size of its network",
    }
    with pytest.raises(
        UserError, match=r"extract\.yaml has options that this version does not have: .*; remove them$"
    ) as error:
        load_yaml(ExtractOptions, V0_1 / "configs" / "extract.yaml")
    told = str(error.value)
    assert len(told.splitlines()) == 1
    command = Command(extract, ExtractOptions)
    for name, reason in removed.items():
        assert f"snippets.{name} ({reason})" in told
        flag = f"--{name.replace('_', '-')}"
        with pytest.raises(UserError, match=re.escape(f"no longer has the option {flag} ({reason}): leave it out")):
            parse(command, ["videos", "s.zarr", flag, "1"])
