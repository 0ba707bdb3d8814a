"""Run folders told from folders of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssn_feat.runs.folders import is_run, run_folders


def made(path: Path, *names: str) -> Path:
    path.mkdir(parents=True)
    for name in names:
        (path / name).touch()
    return path


@pytest.mark.parametrize("beside", [(), ("config.yaml", "summary.json")])
def test_streams_and_seeds_are_found_in_their_folder(tmp_path: Path, beside: tuple[str, ...]) -> None:
    out = made(tmp_path / "out", *beside)
    rgb = made(out / "rgb", "checkpoint.pt", "config.yaml")
    made(rgb / "tensorboard", "events")
    flow = made(out / "flow", "config.yaml")
    seeds = [made(flow / f"seed-{n}", "checkpoint.pt") for n in range(2)]
    made(out / "notes", "text")
    assert run_folders(out) == [*seeds, rgb]
    assert run_folders(rgb) == [rgb]


def test_a_run_without_a_head_is_one(tmp_path: Path) -> None:
    clips = made(tmp_path / "clips", "config.yaml", "summary.json", "backbone.pt")
    assert run_folders(clips) == [clips]
    assert is_run(clips)


def test_what_is_no_run_is_left_as_it_is(tmp_path: Path) -> None:
    empty = made(tmp_path / "empty")
    for path in (empty, tmp_path / "gone", made(tmp_path / "deep") / "a"):
        assert run_folders(path) == [path]
        assert not is_run(path)
