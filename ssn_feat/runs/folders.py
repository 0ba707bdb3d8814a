"""Run folders, and folders that contain several: sweeps, late fusion, several seeds."""

from __future__ import annotations

from pathlib import Path

# Any of these files makes a folder a run folder.
_RUN_FILES = ("config.yaml", "log.jsonl", "summary.json", "checkpoint.pt")


def is_run(path: Path) -> bool:
    """Whether ``path`` is a run folder."""
    return any((path / name).is_file() for name in _RUN_FILES)


def run_folders(path: Path) -> list[Path]:
    """The run folders inside ``path``, sorted by name; ``path`` itself if it contains none.

    The runs of ``--fusion late`` or of several seeds can thus be given as the folder that contains them.
    """
    if not path.is_dir() or (path / "checkpoint.pt").is_file():
        return [path]
    inside = (folder for folder in path.iterdir() if is_run(folder))
    return sorted(run for folder in inside for run in run_folders(folder)) or [path]


__all__ = ["is_run", "run_folders"]
