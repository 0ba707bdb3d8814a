"""The head of the page "Write your own head", from the command line to mAP, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from synthetic_store import Synthetic, write

KIND = "own_head:RunsHead"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    return write(tmp_path_factory.mktemp("own"))


def call(script: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / script, *map(str, arguments)]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'docs'}", "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_example_of_the_docs_learns_and_detects(data: Synthetic, tmp_path: Path) -> None:
    given = ("--store", data.store, "--annotations", data.annotations, "--out", tmp_path / "run")
    schedule = ("--epochs", 20, "--epoch-multiplier", 2, "--batch-videos", 4, "--optimiser", "adamw", "--lr", 0.01)
    fitted = call("train/fit.py", "head", KIND, *given, *schedule, "--channels", 16, "--eval", "testing", cwd=tmp_path)
    assert fitted.returncode == 0, fitted.stderr
    detect = ("store", "--store", data.store, "--checkpoint", tmp_path / "run", "--out", tmp_path / "d.json")
    refused = call("train/detect.py", *detect, cwd=tmp_path)
    assert refused.returncode == 2
    assert f"--trust-modules {KIND}" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    found = call("train/detect.py", *detect, "--trust-modules", KIND, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    measured = call(
        "bench/detections.py", tmp_path / "d.json", "--annotations", data.annotations, "--subset", "testing",
        "--json", tmp_path / "m.json", cwd=tmp_path,
    )  # fmt: skip
    assert measured.returncode == 0, measured.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["final"]["mAP"] > 0.4


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("nowhere:Head", "cannot import the head nowhere:Head"),
        ("own_head:Nothing", "has no class Nothing"),
        ("own_head:RunsOptions", "is not a subclass"),
        ("../x:Head", "package.module:Class"),
    ],
)
def test_heads_that_are_none_are_named(kind: str, said: str, tmp_path: Path) -> None:
    result = call("train/fit.py", "head", kind, "--help", cwd=tmp_path)
    assert result.returncode == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_help_of_an_own_head_lists_its_options(tmp_path: Path) -> None:
    result = call("train/fit.py", "head", KIND, "--help", cwd=tmp_path)
    assert result.returncode == 0
    assert "--channels" in result.stdout
    assert "Probabilities above which neighbouring rows are joined" in " ".join(result.stdout.split())
