"""Run folders of trainings from pixels, and the way through one: begun or resumed, interrupted, finished."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from ssn_feat.cli import from_record
from ssn_feat.errors import UserError
from ssn_feat.finetuning.distributed import Processes
from ssn_feat.finetuning.pixel_training import PixelSteps, PixelTraining, memory
from ssn_feat.runs.checkpoints import CHECKPOINT, RESUME_MAY_CHANGE, RunFolder, require_same
from ssn_feat.signals import on_signal
from ssn_feat.threads import torch_threads
from ssn_feat.training.loop import run_epochs, stop_requested

BACKBONE = "backbone.pt"
# Options that say how a command runs, not what it learns: a resumed run may differ in them.
PIXEL_RESUME_MAY_CHANGE = (
    *RESUME_MAY_CHANGE,
    *(
        "videos",
        "trust_modules",
        "device",
        "jobs",
        "workers",
        "cache",
        "cache_gb",
        "flow_device",
        "checkpoint_activations",
        "save_every",
    ),
)


class PixelFolder(RunFolder):
    """The folder of a run from pixels; processes other than the first write nothing."""

    def __init__(self, path: Path, first: bool) -> None:
        super().__init__(path)
        self._first = first

    def _require_same(self, options: Any, saved: Mapping[str, Any]) -> None:
        began = from_record(type(options), saved.get("options", {}), f"{self.path}: configuration")
        require_same(self.path, began, options, PIXEL_RESUME_MAY_CHANGE)

    def begin(self, options: Any) -> None:
        if self._first:
            super().begin(options)
            (self.path / BACKBONE).unlink(missing_ok=True)

    def save(self, state: Mapping[str, Any], name: str = CHECKPOINT) -> None:
        if self._first:
            super().save(state, name)

    def log(self, lines: Any) -> None:
        if self._first:
            super().log(lines)


def train(
    training: PixelTraining,
    folder: PixelFolder,
    processes: Processes,
    make_steps: Callable[[], PixelSteps],
    save_every: float,
) -> dict[str, Any]:
    """Train to the end; what belongs into the summary of the run.

    Ctrl-C leaves a checkpoint and raises KeyboardInterrupt; so does a signal to end, as ``torchrun`` sends it when
    another process died, without a new checkpoint.
    """
    options = training.options
    before, started = training.done, time.perf_counter()
    folder.save(training.states()[0])  # from here on there is something to resume
    with (
        _ended_from_outside(folder.path),
        stop_requested() as stop,
        torch.random.fork_rng(devices=[processes.device] if processes.device.type == "cuda" else []),
        torch_threads(options.threads),
    ):
        run_epochs(
            training,
            [folder],
            lambda: processes.any(stop()),
            make_steps=lambda _: make_steps(),
            save_every=save_every,
        )
    seconds = time.perf_counter() - started
    if not training.finished:
        if processes.first:
            print(f"interrupted in epoch {training.epoch}: the same command with --resume goes on with {options.out}")
        raise KeyboardInterrupt
    final = training.logs[0][-1]
    steps = max(training.done - before, 1)
    return {
        "head": options.head,
        "videos": training.facts[0]["videos"],
        "steps": training.done,
        "seconds": round(seconds, 3),
        "steps_per_second": round(steps / seconds, 3),
        "processes": processes.count,
        "memory_gb": round(memory(processes.device) / 1e9, 3),
        "images_per_second": round(float(final["images_per_second"]), 1),
        "final": final,
    }


def _ended_from_outside(path: Path) -> AbstractContextManager[None]:
    """Says what to do when a signal ends the training."""

    def end(number: int, frame: object) -> None:
        raise UserError(
            f"the training was ended from outside (signal {number}), perhaps because another of its processes died: "
            f"the same command with --resume goes on from the last checkpoint in {path}"
        )

    return on_signal(signal.SIGTERM, end)


__all__ = ["BACKBONE", "PixelFolder", "train"]
