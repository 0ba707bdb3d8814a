"""Truncated, emptied, removed, renamed and exchanged files and folders of a store, growing and packed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from .outcome import Outcome
from .specimen import harmed, make

Undo = Callable[[], object]


def rounds(generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """One file or folder is not what it was: the store says so, or tells as before of all that is left."""
    specimens = make(folder)
    while True:
        for specimen in specimens:
            for kind, files in specimen.files().items():
                path = files[generator.integers(len(files))]
                # A folder on the way to the file, as often as the file; not the folder that holds the store.
                folders = [p for p in path.parents if p.is_relative_to(specimen.path) and p != specimen.path]
                if folders and generator.random() < 0.3:
                    path, kind = folders[generator.integers(len(folders))], f"folder of {kind}"
                name, harm = _harm(path, files, generator)
                what = f"{specimen.path.name} {kind}: {name} {path.relative_to(folder)}"
                # A whole chunk in another's place matches its own checksum: reading finds no fault, verifying does.
                yield Outcome(what, harmed(specimen, harm, kind == "claim", readers=not name.startswith("replaced")))


def _harm(path: Path, alike: list[Path], generator: np.random.Generator) -> tuple[str, Callable[[], Undo]]:
    names = ["removed", "renamed"] if path.is_dir() else ["truncated", "emptied", "removed", "renamed", "exchanged"]
    name = names[generator.integers(len(names))]
    if name == "truncated":
        left = int(generator.integers(path.stat().st_size))
        return f"truncated to {left} bytes", partial(_rewritten, path, path.read_bytes()[:left])
    if name == "emptied":
        return name, partial(_rewritten, path, b"")
    if name == "exchanged":
        other = alike[generator.integers(len(alike))]
        return f"replaced by {other.parent.name}/{other.name}", partial(_rewritten, path, other.read_bytes())
    # A renamed file lies where it was under another name, so that it is found there if names are not looked at.
    suffix = "" if name == "removed" else str(generator.choice(["x", "~", ".bak"]))
    return name, partial(_moved, path, suffix)


def _rewritten(path: Path, content: bytes) -> Undo:
    before = path.read_bytes()
    path.write_bytes(content)

    def undo() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(before)

    return undo


def _moved(path: Path, suffix: str) -> Undo:
    store = next(parent for parent in path.parents if parent.name.endswith((".zarr", ".staging")))
    away = path.with_name(path.name + suffix) if suffix else store.with_name("away")
    os.rename(path, away)

    def undo() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.rmtree(path)
        if away.exists():
            os.rename(away, path)

    return undo
