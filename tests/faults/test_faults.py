"""A small, seeded slice of the campaign: ``make faults`` runs it longer and with other seeds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ssn_feat.annotations import read_annotations
from ssn_feat.cli import load_yaml, read_yaml
from ssn_feat.detection.classifier import read_class_scores
from ssn_feat.errors import UserError
from ssn_feat.extraction import ExtractOptions
from ssn_feat.proposals.foreign import read_proposal_json
from ssn_feat.results.detections import Detections
from ssn_feat.store import open_store, verify

from .__main__ import CLASSES, outcomes
from .specimen import make

# Faults of each class: every kind once or a few times.
_ROUNDS = {
    "killed": 6,
    "flipped": 64,
    "cut": 64,
    "full disk": 6,
    "exchange": 4,
    "checkpoints": 60,
    "inputs": 12,
    "joins": 60,
    "clocks": 1,
    "recipes": 7,
    "recipes exchanged": 4,
    "repair killed": 4,
    "sources replaced": 9,
    "videos": 10,
    "decoding": 40,
    "kinds": 12,
    "images": 14,
    "documents": 300,
}


@pytest.mark.parametrize("name", CLASSES)
def test_faults_are_survived(name: str, tmp_path: Path) -> None:
    found = list(outcomes(name, seed=0, folder=tmp_path, rounds=_ROUNDS[name], seconds=600))
    assert len(found) == _ROUNDS[name]
    assert not [f"{outcome.what}: {outcome.failing}" for outcome in found if not outcome.survived]


_TOO_DEEP = {
    "detections.json": ("[" * 100_000, Detections.read),
    "proposals.json": ('{"a":' * 100_000, read_proposal_json),
    "annotations.json": ("[" * 100_000, read_annotations),
    "scores.json": ("[" * 100_000, lambda path: read_class_scores(path, ("a",))),
    "options.yaml": ("a: [" * 3000, read_yaml),
}


@pytest.mark.parametrize("name", _TOO_DEEP)
def test_endless_nesting_is_refused(name: str, tmp_path: Path) -> None:
    text, read = _TOO_DEEP[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=name):
        read(tmp_path / name)


@pytest.mark.parametrize("group", ["videos", "failed", "runs"])
def test_a_store_that_was_cut_apart_says_so(group: str, tmp_path: Path) -> None:
    (specimen, _) = make(tmp_path)
    shutil.rmtree(specimen.path / group)
    with pytest.raises(UserError, match=f"no folder '{group}': it is incomplete"):
        verify(open_store(specimen.path))


def test_options_that_do_not_fit_name_their_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("videos: v\nstore: s.zarr\njobs: -1\n")
    with pytest.raises(UserError, match=r"mine\.yaml: jobs must be at least 1"):
        load_yaml(ExtractOptions, tmp_path / "mine.yaml")
