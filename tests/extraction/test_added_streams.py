"""A stream is added to a store by extraction; what is there is neither read again nor rewritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small import arrays, options, videos

from ssn_feat.errors import UserError
from ssn_feat.extraction import extract
from ssn_feat.store import open_store, status, verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return videos(tmp_path / "videos")


def test_two_runs_of_a_stream_each_give_what_one_run_gives(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(options(folder, tmp_path / "both.zarr"))
    store = tmp_path / "s.zarr"
    extract(options(folder, store, streams=("rgb",)))
    rgb = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in (store / "videos").rglob("rgb/**/*")}
    report = extract(options(folder, store, streams=("flow",), jobs=2))
    assert sorted(report.extracted) == ["v0", "v1", "v2"]
    assert "for 3 of these, only the streams that they lack" in capsys.readouterr().out
    assert {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in (store / "videos").rglob("rgb/**/*")} == rgb
    assert arrays(store) == arrays(tmp_path / "both.zarr")
    ours, both = open_store(store), open_store(tmp_path / "both.zarr")
    assert (ours.recipe, ours.fingerprint, ours.fingerprints) == (both.recipe, both.fingerprint, both.fingerprints)
    assert verify(ours).damage == {}
    for again in (options(folder, store), options(folder, store, streams=("rgb",))):
        assert extract(again).done_before == 3


def test_a_part_is_completed_and_told(folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    extract(options(folder, store, streams=("rgb",)))
    extract(options(folder / "v1.avi", store, streams=("flow",)))
    videos(folder, count=4)
    extract(options(folder / "v3.avi", store, streams=("flow",)))
    found = status(open_store(store))
    assert found.streams == {"flow": 2, "rgb": 3}
    assert found.pending == {}, "no run was to extract rgb of v3, or flow of v0 and v2"
    with pytest.raises(UserError, match=r"'v0' .* no stream 'flow' yet, like 2 of 4 videos"):
        open_store(store).read("v0", ["flow"])
    assert sorted(extract(options(folder, store)).extracted) == ["v0", "v2", "v3"]
    assert status(open_store(store)).streams == {"flow": 4, "rgb": 4}
    assert verify(open_store(store)).damage == {}


def test_a_stream_that_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    extract(options(folder, store, streams=("rgb",)))
    before = arrays(store)
    with pytest.raises(UserError, match=r"snippets\.stride is 4 there and 5 here"):
        extract(options(folder, store, streams=("flow",), stride=5))
    (folder / "v1.avi").write_bytes((folder / "v2.avi").read_bytes())
    report = extract(options(folder, store, streams=("flow",)))
    assert list(report.failures) == ["v1"]
    assert "its file v1.avi is not the one that its features were extracted from" in report.failures["v1"]
    assert list(open_store(store).failures()) == ["v1"]
    assert {name: data for name, data in arrays(store).items() if "flow" not in name} == before


def test_streams_with_inputs_of_other_sizes(folder: Path, tmp_path: Path) -> None:
    both = ("rgb=tiny:net", "flow=tiny:medium")
    extract(options(folder, tmp_path / "both.zarr", backbone=both, short_side=72))
    store = tmp_path / "s.zarr"
    extract(options(folder, store, streams=("rgb",), backbone=("tiny:net",), short_side=36))
    with pytest.raises(UserError, match=r"snippets.short_side of rgb is 36 there and 37 here"):
        extract(options(folder, store, streams=("flow",), backbone=("tiny:medium",), short_side=74))
    extract(options(folder, store, streams=("flow",), backbone=("tiny:medium",), short_side=72))
    assert arrays(store) == arrays(tmp_path / "both.zarr")
    assert open_store(store).fingerprints == open_store(tmp_path / "both.zarr").fingerprints
    np.testing.assert_array_equal(open_store(store).read("v1").features["rgb"].shape, (5, 6))
