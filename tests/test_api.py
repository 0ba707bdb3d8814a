"""The package from Python: what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest


def loaded_by(module: str) -> set[str]:
    """The packages that a fresh interpreter has loaded after it has imported ``module``."""
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["actionness", "dense", "ssn"])
def test_heads_import_no_command_line_library(module: str) -> None:
    assert "torch" in loaded_by(f"ssn_feat.heads.{module}")
    assert not {"tyro", "yaml", "cattrs", "rich"} & loaded_by(f"ssn_feat.heads.{module}")
