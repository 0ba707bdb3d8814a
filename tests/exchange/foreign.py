"""A small data set of three videos and features of it as others would write them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

DURATIONS = {"a": 20.0, "b": 12.5, "c": 33.0}
FPS, STRIDE, WINDOW, OFFSET = 25.0, 4, 16, 0
GRID: dict[str, Any] = {"fps": "25", "stride": 4.0, "window": 16.0, "offset": 0.0}


def annotations(folder: Path, **extra: dict[str, Any]) -> str:
    """The annotation file; ``extra`` adds keys to videos by id."""
    database = {
        i: {
            "subset": "validation" if i == "c" else "training",
            "duration": d,
            "annotations": [{"label": "jump", "segment": [1.0, d / 2]}],
            **extra.get(i, {}),
        }
        for i, d in DURATIONS.items()
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps({"database": database}))
    return str(path)


def rows(duration: float) -> int:
    """How many snippets a video has."""
    return int((duration * FPS - WINDOW) // STRIDE) + 1


def features(width: int = 6, dtype: str = "float32", seed: int = 0) -> dict[str, np.ndarray]:
    """Random features of each video, ``(T, width)``."""
    rng = np.random.default_rng(seed)
    return {i: rng.standard_normal((rows(d), width)).astype(dtype) for i, d in DURATIONS.items()}
