"""Where the reference numbers, the real data and the browser of the tests are found."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).resolve().parent / "golden"
# On a busy machine any call may take a while: no test is about how long.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

SHARED = Path(os.environ.get("SSN_FEAT_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real annotations, lists, videos and of reference numbers made with them; skips where absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder of shared data at {SHARED} (set SSN_FEAT_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Any]:
    """``golden(name)``: reference numbers of the original code, from tests/golden or the shared folder.

    An .npz comes as a dict of arrays, a .json parsed, anything else as its path. Skips where the file is in neither.
    """

    def load(name: str) -> Any:
        for folder in (GOLDEN, SHARED / "golden"):
            path = folder / name
            if path.is_file():
                if path.suffix == ".npz":
                    with np.load(path, allow_pickle=False) as archive:
                        return {key: archive[key] for key in archive.files}
                return json.loads(path.read_text()) if path.suffix == ".json" else path
        pytest.skip(f"no reference file {name} in {GOLDEN} or {SHARED / 'golden'}")

    return load


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium: one that is installed, or Playwright's own; skips where there is neither."""
    api = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    installed = next(filter(None, map(shutil.which, names)), None)
    with api.sync_playwright() as playwright:
        path = installed or playwright.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("no Chromium: install chromium, or run `playwright install chromium`")
        # Containers in which tests run as root let no sandbox start.
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


def meta(archive: dict[str, np.ndarray]) -> Any:
    """The ``meta_json`` entry of a reference archive, parsed."""
    return json.loads(bytes(archive["meta_json"]))
