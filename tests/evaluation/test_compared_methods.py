"""What is compared has a name of its own: files of one name, files called like a method, functions of one name."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ssn_feat.annotations import Dataset, Instance, Video, write_activitynet
from ssn_feat.evaluation.compare_options import CompareOptions
from ssn_feat.evaluation.compare_output import tables
from ssn_feat.evaluation.compare_proposals import compare
from ssn_feat.proposals import Proposals, VideoData


def halves(video: VideoData) -> np.ndarray:
    """A method of one's own."""
    return np.array([[0.0, video.duration / 2], [video.duration / 2, video.duration]])


def test_no_two_have_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset.of("d", [Video("v", 10.0, "test", (Instance("run", 0, 5),))])
    write_activitynet(dataset, tmp_path / "truth.json")
    files = [tmp_path / name for name in ("a/tag.npz", "b/tag.npz", "b/sliding.npz")]
    for number, path in enumerate(files):
        Proposals({"v": np.array([[0.0, 5 - number]])}, {"v": np.ones(1)}, "tag").save(path)
    monkeypatch.setitem(sys.modules, "others", SimpleNamespace(halves=halves, thirds=halves))
    methods = ("sliding", f"{__name__}:halves", "others:halves", "others:thirds")
    options = CompareOptions(tuple(files), str(tmp_path / "truth.json"), methods=methods)
    results, _ = compare(options)
    assert [result.name for result in results] == ["a/tag", "b/tag", "b/sliding", *methods[:3], "thirds"]
    *groups, classes = tables(results, options).values()
    assert all(len(rows) >= len(results) for rows in groups)
    assert list(classes["run"]) == ["instances", *(result.name for result in results)]
