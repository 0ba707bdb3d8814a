"""Small videos in a folder, options that extract them in no time, and stores compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.append(str(HERE.parent / "video"))

from films import pictures, write  # noqa: E402

from ssn_feat.extraction import ExtractOptions  # noqa: E402
from ssn_feat.store import open_store  # noqa: E402
from ssn_feat.video import SnippetOptions  # noqa: E402


def videos(folder: Path, count: int = 3, frames: int = 20) -> Path:
    """``count`` videos v0, v1, ... of ``frames`` or a few more frames in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        write(folder / f"v{i}.avi", pictures(frames + 3 * i, seed=i))
    return folder


def white(path: Path, frames: int = 20) -> Path:
    """A video of white frames."""
    return write(path, [np.full((48, 64, 3), 255, np.uint8)] * frames)


def options(folder: Path, store: Path, **changes: Any) -> ExtractOptions:
    """Extraction by the tiny backbone; ``changes`` may be options of extraction or of snippets."""
    cut = {"stride": 4} | {k: changes.pop(k) for k in list(changes) if k in SnippetOptions.__dataclass_fields__}
    chosen = {"backbone": ("tiny:net",), "batch": 2, "device": ("cpu",), "jobs": 1} | changes
    return ExtractOptions(folder, store, snippets=SnippetOptions(**cut), **chosen)


def arrays(path: Path) -> dict[str, bytes]:
    """Bytes of every array of every video of a store, by place in it, whether or not it was replaced."""
    store = open_store(path)
    for video_id in store.ids:
        store.read(video_id)
    files = [p for p in sorted((path / "videos").rglob("c/0/*")) if p.is_file()]
    by_place = {re.sub(r"~\d+/c/", "/c/", str(p.relative_to(path))): p.read_bytes() for p in files}
    assert len(by_place) == len(files), "an array and its replacement are there"
    return by_place


def command(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """``python extract/run.py`` with the tiny backbone, as a process of its own."""
    own = {"PYTHONPATH": f"{HERE}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1", **environment}
    tiny = ["--backbone", "tiny:net", "--stride", "4", "--batch", "2", "--device", "cpu"]
    return subprocess.Popen(
        [sys.executable, ROOT / "extract" / "run.py", *map(str, arguments), *tiny],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | own,
    )  # fmt: skip
