"""Flipped bytes in every kind of file of a store, growing and packed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from .outcome import Outcome
from .specimen import harmed, make


def rounds(generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """One byte of one file has another value: verify and readers say so, or everything is told as before."""
    specimens = make(folder)
    while True:
        for specimen in specimens:
            for kind, files in specimen.files().items():
                path = files[generator.integers(len(files))]
                at = int(generator.integers(path.stat().st_size))
                before = path.read_bytes()
                after = _other(before[at], generator, text=path.suffix == ".json" or kind == "claim")
                what = f"{specimen.path.name} {kind}: byte {at} of {path.relative_to(folder)}, {before[at]} -> {after}"
                harm = partial(_flip, path, before, at, after)
                yield Outcome(what, harmed(specimen, harm, kind == "claim"))


def _other(byte: int, generator: np.random.Generator, text: bool) -> int:
    """Another value of a byte. In text half of the time another digit, letter or mark, so that it stays readable."""
    if text and generator.random() < 0.5:
        return int(generator.choice([c for c in b'0123456789abcdef,:" {}' if c != byte]))
    return byte ^ (1 << int(generator.integers(8)))


def _flip(path: Path, before: bytes, at: int, after: int) -> Callable[[], object]:
    path.write_bytes(before[:at] + bytes([after]) + before[at + 1 :])

    def undo() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(before)

    return undo
