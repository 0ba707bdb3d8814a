"""Commands that only read small files do not import what takes seconds to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from version_0_1 import V0_1

HEAVY = ("cv2", "joblib", "sklearn", "torch", "zarr")


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["extract/status.py", str(V0_1 / "growing.zarr")], "done     6 videos, 234 snippets"),
        (["-m", "ssn_feat.annotations", "validate", str(V0_1 / "annotations.json")], "6 videos"),
    ],
)
def test_no_heavy_import(arguments: list[str], output: str, tmp_path: Path) -> None:
    log = tmp_path / "imports.txt"
    with log.open("w") as file:
        command = [sys.executable, "-X", "importtime", *arguments]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=file, text=True, check=True)
    assert output in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in log.read_text().splitlines()}
    assert "numpy" in imported
    assert imported.isdisjoint(HEAVY), imported.intersection(HEAVY)
