"""A changed bit, or a missing end, in any file of run folders and of a model folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from training.synthetic_store import quick, write
from version_0_1 import V0_1

from ssn_feat.cli import load_yaml, to_dict
from ssn_feat.detection.model_folder import read_model
from ssn_feat.errors import UserError
from ssn_feat.hashes import HASHES, HashedFolder, read_checked
from ssn_feat.report.page_inputs import read_log
from ssn_feat.runs.checkpoints import Run, load_run
from ssn_feat.runs.folders import RunFolder
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import FitOptions

from .outcome import Outcome, unforeseen


def rounds(generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """A file of a run or a model is damaged: it is refused and named, or everything is read as before."""
    specimens = _make(folder)
    whole = {path: read(path) for path, read in specimens.items()}
    while True:
        for specimen, read in specimens.items():
            files = [path for path in sorted(specimen.rglob("*")) if path.is_file()]
            path = files[generator.integers(len(files))]
            before = path.read_bytes()
            if generator.random() < 0.8:
                bit = int(generator.integers(8 * len(before)))
                after = bytearray(before)
                after[bit // 8] ^= 1 << (bit % 8)
                what = f"bit {bit} of {path.relative_to(folder)}"
            else:
                after = bytearray(before[: generator.integers(len(before))])
                what = f"{path.relative_to(folder)} cut to {len(after)} of {len(before)} bytes"
            path.write_bytes(after)
            failing = _failing(specimen, path, read, whole[specimen])
            path.write_bytes(before)
            yield Outcome(what, failing)


def _failing(specimen: Path, path: Path, read: Callable[[Path], Any], whole: Any) -> str:
    try:
        if read(specimen) != whole:
            return "it is read as something else"
    except UserError as error:
        told = str(error)
        return "" if path.name in told and "\n" not in told else f"the message does not name the file: {told[:200]}"
    except Exception as error:
        return unforeseen(error)
    # What is not damaged for the reader may only be white space in the record itself.
    return "" if path.name == HASHES else "no reader saw it"


def _make(folder: Path) -> dict[Path, Callable[[Path], Any]]:
    """A run of each head, and a model, with what reads them."""
    data = write(folder / "synthetic", videos=6, dim=4)
    made: dict[Path, Callable[[Path], Any]] = {}
    for head in ("ssn", "actionness"):
        out = folder / f"run-{head}"
        measured = {"eval": "testing"} if head == "ssn" else {"proposals": None}
        fit(data.options(out, head=head, optimisation=quick(epochs=2, epoch_multiplier=1, batch_videos=2), **measured))
        made[out] = _run
    model = folder / "model"
    for path in sorted((V0_1 / "model").rglob("*")):
        if path.is_file():
            HashedFolder(model / path.parent.relative_to(V0_1 / "model")).write(path.name, path.read_bytes())
    made[model] = _model
    return made


def _run(path: Path) -> Any:
    said = [_told(load_run(file)) for file in (path, path / "best.pt") if file.exists()]
    log = read_log(path, "run")
    summary = RunFolder(path).read_summary(quiet=True)
    return said, log, summary, to_dict(load_yaml(FitOptions, path / "config.yaml"))


def _told(run: Run) -> Any:
    weights = {name: value.numpy().tobytes() for name, value in run.head.state_dict().items()}
    standard = run.standardisation
    scales = [] if standard is None else [standard.mean.tolist(), standard.scale.tolist()]
    stats = None if run.reg_stats is None else run.reg_stats.tolist()
    facts = (run.labels, run.streams, run.augmentation, run.fingerprint, run.epoch, run.finished)
    return weights, scales, stats, facts, json.dumps(run.recipe, sort_keys=True)


def _model(path: Path) -> Any:
    parts = read_model(path)
    weights = {stream: read_checked(Path(file)) for stream, file in parts.weights.items()}
    return to_dict(parts.settings), [_told(run) for run in (*parts.actionness, *parts.ssn)], weights
