"""Run folders, and folders of them: sweeps, late fusions."""

from __future__ import annotations

from pathlib import Path

# What makes a folder one of a training run.
_OF_A_RUN = ("config.yaml", "log.jsonl", "summary.json", "checkpoint.pt")


def is_run(path: Path) -> bool:
    """Whether ``path`` is a run folder."""
    return any((path / name).is_file() for name in _OF_A_RUN)


def run_folders(path: Path) -> list[Path]:
    """The run folders inside ``path``, by name, where it is a folder of runs; else ``path`` itself.

    So the two runs of ``--fusion late`` are named by the folder that holds them, and so are several seeds.
    """
    if not path.is_dir() or (path / "checkpoint.pt").is_file():
        return [path]
    inside = (folder for folder in path.iterdir() if is_run(folder))
    return sorted(run for folder in inside for run in run_folders(folder)) or [path]


__all__ = ["is_run", "run_folders"]
