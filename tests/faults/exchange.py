"""A full disk under exporting features in each format and importing them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ssn_feat.exchange import ExportFeaturesOptions, ImportFeaturesOptions, export_features, import_features
from ssn_feat.exchange.exporting import ExportFormat

from .full_disk import on_full_disks
from .outcome import Outcome
from .processes import Work
from .tasks import Result, Task, stored

_FORMATS: tuple[ExportFormat, ...] = ("actionformer", "opentad", "bmn")
_FPS, _STRIDE = 25.0, 8


def rounds(generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """Exports and imports on full disks."""
    return on_full_disks(_tasks(folder), generator, folder)


def _tasks(folder: Path) -> dict[str, Task]:
    features, store = folder / "features", folder / "grid.zarr"
    features.mkdir()
    generator, database = np.random.default_rng(0), {}
    for number in range(6):
        rows = 40 + number
        np.save(features / f"v{number}.npy", generator.normal(size=(rows, 60)).astype("f4"))
        instances = [{"label": "jump", "segment": [1.0, 2.0]}]
        duration = rows * _STRIDE / _FPS
        database[f"v{number}"] = {"subset": "training", "duration": duration, "annotations": instances}
    annotations = folder / "annotations.json"
    annotations.write_text(json.dumps({"database": database}))
    import_features(_importing(features, store, str(annotations)))
    tasks = [
        Task(f"export {format}", partial(_export_work, store, str(annotations), format), _files) for format in _FORMATS
    ]
    tasks.append(Task("import", partial(_import_work, features, str(annotations)), stored))
    return {task.name: task for task in tasks}


def _importing(features: Path, store: Path, annotations: str) -> ImportFeaturesOptions:
    grid = {"fps": f"{_FPS:g}", "stride": float(_STRIDE), "window": float(_STRIDE), "offset": 0.0}
    return ImportFeaturesOptions(features, store, annotations, layout="actionformer", **grid)  # type: ignore[arg-type]


def _export_work(store: Path, annotations: str, format: ExportFormat, out: Path) -> Work:
    return Work(_export, (ExportFeaturesOptions(store, out / "files", format, annotations),), out)


def _export(options: ExportFeaturesOptions) -> None:
    shutil.rmtree(options.out, ignore_errors=True)  # the command refuses a folder that is not empty
    export_features(options)


def _import_work(features: Path, annotations: str, out: Path) -> Work:
    return Work(_import, (_importing(features, out / "s.zarr", annotations),), out)


def _import(options: ImportFeaturesOptions) -> int:
    return import_features(options).exit_code


def _files(folder: Path) -> Result:
    """Bytes of the exported files: none may be incomplete under its final name, and no temporary file may be left."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    # Files of options name the folder.
    return {str(path.relative_to(folder)): path.read_bytes().replace(bytes(folder), b"OUT") for path in files}
