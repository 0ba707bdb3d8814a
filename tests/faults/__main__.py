"""Run the campaign: rounds of every class of fault, a table of how many were survived, exit code 1 unless all were."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np

from . import (
    checkpoints,
    clocks,
    cut,
    decoding,
    documents,
    exchange,
    exchanged,
    flipped,
    full_disk,
    images,
    inputs,
    joins,
    killed,
    kinds,
    recipes,
    repairs,
    sources,
    videos,
)
from .outcome import Outcome

CLASSES: Mapping[str, ModuleType] = {
    "killed": killed,
    "flipped": flipped,
    "cut": cut,
    "full disk": full_disk,
    "exchange": exchange,
    "checkpoints": checkpoints,
    "inputs": inputs,
    "joins": joins,
    "clocks": clocks,
    "recipes": recipes,
    "recipes exchanged": exchanged,
    "repair killed": repairs,
    "sources replaced": sources,
    "videos": videos,
    "decoding": decoding,
    "kinds": kinds,
    "images": images,
    "documents": documents,
}


def outcomes(name: str, seed: int, folder: Path, rounds: int, seconds: float) -> Iterator[Outcome]:
    """At most ``rounds`` outcomes of a class, and none that begins after ``seconds``."""
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    began = time.monotonic()
    for outcome in islice(CLASSES[name].rounds(generator, folder), rounds or None):
        yield outcome
        if time.monotonic() - began > seconds:
            return


def main() -> int:
    """The campaign as the arguments say; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=0, help="faults of each class; 0: until the time is up")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all classes together")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other faults")
    parser.add_argument("--only", nargs="+", choices=CLASSES, default=list(CLASSES), help="these classes only")
    options = parser.parse_args()
    share = 60 * options.minutes / len(options.only)
    table = []
    for name in options.only:
        total = survived = 0
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            for outcome in outcomes(name, options.seed, Path(folder), options.rounds, share):
                total, survived = total + 1, survived + outcome.survived
                if not outcome.survived:
                    print(f"{name}, fault {total}: {outcome.what}\n    {outcome.failing}", flush=True)
        table.append((name, survived, total, time.monotonic() - began))
        print(f"{name}: {survived}/{total}", file=sys.stderr, flush=True)
    width = max(map(len, CLASSES)) + 1
    print(f"seed {options.seed}\n{'class':<{width}}{'survived':>10}{'faults':>10}{'seconds':>10}")
    for name, survived, total, seconds in table:
        print(f"{name:<{width}}{survived:>10}{total:>10}{seconds:>10.0f}")
    return int(any(survived < total for _, survived, total, _ in table))


if __name__ == "__main__":
    sys.exit(main())
