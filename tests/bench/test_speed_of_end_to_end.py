"""The bench of training from pixels runs and says what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.speed.end_to_end import EndToEndSpeedOptions, measure_end_to_end
from ssn_feat.errors import UserError


def test_figures_of_a_small_step(tmp_path: Path) -> None:
    options = EndToEndSpeedOptions(
        device="cpu",
        backbone="torchvision:squeezenet1_1",
        side=32,
        precisions=("float32",),
        kept=(0, 40),
        steps=1,
        matrix=64,
        json=tmp_path / "speed.json",
    )
    figures = measure_end_to_end(options)
    assert [figure.unit for figure in figures] == ["TFLOP/s", *["images/s", "%", "GB"] * 2]
    assert all(figure.value > 0 for figure in figures)
    written = json.loads((tmp_path / "speed.json").read_text())
    assert len(written["figures"]) == len(figures)
    with pytest.raises(UserError, match="steps at least 1"):
        EndToEndSpeedOptions(steps=0)
