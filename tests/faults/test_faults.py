"""A small, seeded slice of the campaign: ``make faults`` runs it longer and with other seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from .__main__ import CLASSES, outcomes

# Faults of each class: every kind once or a few times.
_ROUNDS = {
    "killed": 6,
    "flipped": 64,
    "cut": 64,
    "full disk": 6,
    "clocks": 1,
    "recipes": 7,
    "videos": 10,
    "documents": 300,
}


@pytest.mark.parametrize("name", CLASSES)
def test_faults_are_survived(name: str, tmp_path: Path) -> None:
    found = list(outcomes(name, seed=0, folder=tmp_path, rounds=_ROUNDS[name], seconds=600))
    assert len(found) == _ROUNDS[name]
    assert not [f"{outcome.what}: {outcome.failing}" for outcome in found if not outcome.survived]
