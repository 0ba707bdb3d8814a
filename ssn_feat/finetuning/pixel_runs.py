"""Run folders of trainings from pixels, and how such a training runs from beginning to end."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssn_feat.backbones import Backbone
from ssn_feat.backbones.weights import save_state
from ssn_feat.cli import from_record
from ssn_feat.errors import UserError
from ssn_feat.finetuning.distributed import Processes
from ssn_feat.finetuning.pixel_training import PixelSteps, PixelTraining, peak_memory
from ssn_feat.runs.checkpoints import CHECKPOINT
from ssn_feat.runs.folders import RESUME_MAY_CHANGE, RunFolder, require_same
from ssn_feat.signals import on_signal
from ssn_feat.threads import torch_threads
from ssn_feat.training.loop import run_epochs, stop_requested

BACKBONE = "backbone.pt"
# Options that do not change what is learned: a resumed run may use other values.
PIXEL_RESUME_MAY_CHANGE = (
    *RESUME_MAY_CHANGE,
    *(
        "videos",
        "trust_modules",
        "device",
        "workers",
        "cache",
        "cache_gb",
        "flow_device",
        "checkpoint_activations",
        "save_every",
    ),
)


class PixelFolder(RunFolder):
    """The folder of a training from pixels; only the first process writes to it."""

    def __init__(self, path: Path, first: bool) -> None:
        super().__init__(path)
        self._first = first

    def _require_same(self, options: Any, saved: Mapping[str, Any]) -> None:
        began = from_record(type(options), saved.get("options", {}), f"{self.path}: configuration")
        require_same(self.path, began, options, PIXEL_RESUME_MAY_CHANGE)

    def create(self, options: Any) -> None:
        if self._first:
            super().create(options)
            self.files.forget([BACKBONE])

    def save(self, state: Mapping[str, Any], name: str = CHECKPOINT) -> None:
        if self._first:
            super().save(state, name)

    def log(self, lines: Any) -> None:
        if self._first:
            super().log(lines)

    def save_backbone(self, weights: Mapping[str, Tensor], backbone: Backbone) -> None:
        """Write the weights of the backbone to backbone.pt."""
        with self.files.replacing(BACKBONE) as part:
            save_state(part, weights, {"backbone": backbone.name, "stream": backbone.stream})


def train(
    training: PixelTraining,
    folder: PixelFolder,
    processes: Processes,
    steps: PixelSteps,
    save_every: float,
) -> dict[str, Any]:
    """Train until the last epoch is complete. Returns the summary of the run.

    ``save_every``: seconds between two checkpoints. Ctrl-C writes a checkpoint and raises KeyboardInterrupt. SIGTERM,
    which ``torchrun`` sends when another process died, raises UserError without a new checkpoint.
    """
    options = training.options
    before, started = training.done, time.perf_counter()
    folder.save(training.states()[0])  # so that the run can be resumed from its first step on
    with (
        _on_sigterm(folder.path),
        stop_requested() as stop,
        torch.random.fork_rng(devices=[processes.device] if processes.device.type == "cuda" else []),
        torch_threads(options.threads),
    ):
        run_epochs(
            training,
            steps,
            [folder],
            lambda: processes.any(stop()),
            save_every=save_every,
        )
    seconds = time.perf_counter() - started
    if not training.finished:
        if processes.first:
            print(f"interrupted in epoch {training.epoch}: the same command with --resume continues {options.out}")
        raise KeyboardInterrupt
    final = training.logs[0][-1]
    count = max(training.done - before, 1)
    return {
        "head": training.kind,
        "videos": training.facts[0]["videos"],
        "steps": training.done,
        "seconds": round(seconds, 3),
        "steps_per_second": round(count / seconds, 3),
        "processes": processes.count,
        "memory_gb": round(peak_memory(processes.device) / 1e9, 3),
        "images_per_second": round(float(final["images_per_second"]), 1),
        "final": final,
    }


def _on_sigterm(path: Path) -> AbstractContextManager[None]:
    """Raise UserError on SIGTERM."""

    def end(number: int, frame: object) -> None:
        raise UserError(
            f"the training was terminated (signal {number}), perhaps because another of its processes died: "
            f"run the same command with --resume to continue from the last checkpoint in {path}"
        )

    return on_signal(signal.SIGTERM, end)


__all__ = ["BACKBONE", "PixelFolder", "train"]
