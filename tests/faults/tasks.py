"""What the commands do, small: extraction, packing, fitting, proposing, detecting, each with what it should leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extraction import small
from training.synthetic_store import Synthetic, quick, write

from ssn_feat.detection.detect_store import DetectOptions, detect
from ssn_feat.errors import UserError
from ssn_feat.extraction import ExtractOptions, run_extraction
from ssn_feat.proposals.propose import ProposeOptions, propose
from ssn_feat.runs.checkpoints import load_run, read_run_checkpoint
from ssn_feat.store import open_store, verify
from ssn_feat.store.maintenance import PackOptions, pack_store
from ssn_feat.training import loop
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import FitOptions

from .processes import Work, done

Result = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One command that writes into a folder of its own."""

    name: str
    work: Callable[[Path], Work]
    """The command, for a folder; also the one to run again after it was killed."""
    left: Callable[[Path], Result]
    """What lies in the folder, whole as it is: parts that are there by name. Raises UserError for damage."""


def tasks(folder: Path) -> dict[str, Task]:
    """The commands by name, on data that is made in ``folder``."""
    films = small.videos(folder / "videos", count=3, frames=24)
    store = folder / "whole.zarr"
    _must(Work(_extract, (small.options(films, store),), store))
    data = write(folder / "synthetic", videos=9, dim=12)
    runs = {head: folder / f"run-{head}" for head in ("ssn", "actionness")}
    for head, run in runs.items():
        _must(Work(_fit, (_fit_options(data, run, head),), run))

    def detection(out: Path) -> DetectOptions:
        return DetectOptions(
            data.store, data.proposals, (runs["ssn"],), out=out / "found.json", annotations=data.annotations, quiet=True
        )

    def proposing(out: Path) -> ProposeOptions:
        return ProposeOptions(store=data.store, actionness=(runs["actionness"],), out=out / "p.npz")

    return {
        task.name: task
        for task in (
            Task("extract", lambda out: Work(_extract, (small.options(films, out / "s.zarr"),), out), stored),
            Task("pack", lambda out: Work(_pack, (store, out / "p.zarr"), out), _packed),
            Task("fit ssn", lambda out: Work(_fit, (_fit_options(data, out / "run", "ssn"),), out), _run),
            Task("fit actionness", lambda out: Work(_fit, (_fit_options(data, out / "run", "actionness"),), out), _run),
            Task("propose", lambda out: Work(propose, (proposing(out),), out), _files),
            Task("detect", lambda out: Work(detect, (detection(out),), out), _files),
        )
    }


def _must(work: Work) -> None:
    ended = done(work)
    if ended.code != 0:
        raise RuntimeError(f"{work.function.__name__} fails without any fault: {ended.said}")


def _extract(options: ExtractOptions) -> int:
    return run_extraction(options)


def _pack(store: Path, out: Path) -> None:
    if not out.exists():  # else the command says that it is there
        pack_store(PackOptions(store, out))


def _fit(options: FitOptions) -> None:
    loop._CHECKPOINT_SECONDS = 0.0  # one at the end of each epoch, so that there is something to go on from
    fit(options)


def _fit_options(data: Synthetic, out: Path, head: str) -> FitOptions:
    proposals = data.proposals if head == "ssn" else None
    steps = quick(epochs=3, epoch_multiplier=2, batch_videos=4)
    return data.options(out, head=head, proposals=proposals, resume=True, optimisation=steps)


def stored(folder: Path) -> Result:
    """Bytes of the arrays of each committed video, and that nothing else lies about."""
    path = folder / "s.zarr"
    if not path.exists():
        return {}
    damage = verify(open_store(path)).damage
    if damage:
        raise UserError(f"damaged: {damage}")
    return dict(small.arrays(path))


def _packed(folder: Path) -> Result:
    path = folder / "p.zarr"
    if not path.exists():
        return {}
    store = open_store(path)
    damage = verify(store).damage
    if damage:
        raise UserError(f"damaged: {damage}")
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def _run(folder: Path) -> Result:
    """Weights, log and summary of a run that may not be finished."""
    run, found = folder / "run", {}
    if (run / "checkpoint.pt").exists():
        load_run(run)
        saved = read_run_checkpoint(run / "checkpoint.pt")
        if saved["finished"]:
            found["weights"] = {name: tensor.numpy().tobytes() for name, tensor in saved["model"].items()}
    for name in ("log.jsonl", "summary.json", "environment.json"):
        if (run / name).exists():
            lines = [json.loads(line) for line in (run / name).read_text().splitlines()] if name == "log.jsonl" else []
            content = lines or json.loads((run / name).read_text())
            if name == "summary.json":
                found[name] = {key: content[key] for key in content if key not in ("seconds", "steps_per_second")}
            elif name == "log.jsonl" and "weights" in found:
                found[name] = content
    return found


def _files(folder: Path) -> Result:
    """Bytes of the files of results; what is hidden is not complete and nobody reads it."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*")) if not path.name.startswith(".")}


__all__ = ["Task", "stored", "tasks"]
