"""The benchmark of proposals: the plain loops give what the package gives, and what is written names the machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.speed.proposals import SpeedOptions, make_actionness, measure_proposals
from bench.speed.timing import Measurement, timed
from ssn_feat.errors import UserError

SMALL = {"videos": 2, "stress": 300, "many": 2, "windows": 3, "listed": 3, "jobs": 1, "runs": 1}


def test_plain_loops_agree(tmp_path: Path, capsys) -> None:
    parts = measure_proposals(SpeedOptions(**SMALL, json=tmp_path / "made/speed.json"))
    compared = [part for part in parts if part.plain is not None]
    assert {p.part for p in compared} >= {"TAG", "TAG, stress", "labelling", "recall at 0.5", "AR-AN", "reading a list"}
    assert all(part.agrees for part in compared)
    content = json.loads((tmp_path / "made/speed.json").read_text())
    assert content["machine"]["processor"]
    assert [m["ratio"] for m in content["measurements"]] == [part.ratio for part in parts]
    printed = capsys.readouterr().out
    assert "plain loop" in printed
    assert "cores" in printed
    assert not any(part.bar for part in parts)
    assert [SpeedOptions().bar(name) for name in ("videos", "stress", "many")] == [0.06, 0.06, 3.0]


def test_made_up_videos_depend_on_the_seed_alone() -> None:
    first, same, other = (make_actionness(np.random.default_rng(seed), 400, 1.0) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.actionness, same.actionness)
    assert (first.actionness != other.actionness).any()
    assert first.spans[-1, 1] == first.duration == 80.0


def test_times() -> None:
    calls: list[int] = []
    result, seconds = timed(lambda: calls.append(1) or len(calls), runs=3)
    assert (result, seconds > 0) == (3, True)
    assert Measurement("x", "y", 2.0, 6.0).ratio == 3.0
    assert Measurement("x", "y", 2.0).ratio is None
    with pytest.raises(UserError, match="jobs must be at least 1"):
        SpeedOptions(jobs=0)
    with pytest.raises(UserError, match="cannot write"):
        measure_proposals(SpeedOptions(**SMALL, json=Path("/proc/none/x.json")))
