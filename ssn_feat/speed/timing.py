"""Times of a function beside those of a plain one, as a table and as JSON that names the machine."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ssn_feat.errors import UserError
from ssn_feat.report.tables import show, table_of

T = TypeVar("T")

ORIGINAL_MACHINE = "one thread of a virtual machine with an AMD EPYC, Python 3.11, NumPy 1.23, torch 2.15"


@dataclass(frozen=True)
class Measurement:
    """One part. seconds: ours, the least of some runs. plain: seconds of a plain loop over the same, None without one.

    agrees: whether both gave the same. size: what was worked on, in words. original: seconds that the original code
    took over as much on another day and a machine of the kind that :data:`ORIGINAL_MACHINE` names, None if not known.
    """

    part: str
    size: str
    seconds: float
    plain: float | None = None
    agrees: bool | None = None
    original: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times as long the plain loop took."""
        return None if self.plain is None else self.plain / self.seconds


def timed(function: Callable[[], T], runs: int = 1, clock: Callable[[], float] = time.perf_counter) -> tuple[T, float]:
    """What ``function`` returns, and the least seconds of ``runs`` calls.

    With ``time.process_time`` as ``clock``, seconds of processor time of this process: other work on the machine then
    counts little.
    """
    least = float("inf")
    for _ in range(runs):
        started = clock()
        result = function()
        least = min(least, clock() - started)
    return result, max(least, 1e-9)


def machine() -> dict[str, Any]:
    """What the times depend on: processor, cores, system, versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "threads": os.environ.get("OMP_NUM_THREADS", "not set"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def print_measurements(measurements: Sequence[Measurement]) -> None:
    """A table, below it the machine."""
    table = table_of(
        "part", "of", "seconds", "plain loop, s", "ratio", "same result", "original, s", "ratio", names=("of",)
    )
    for each in measurements:
        plain = "" if each.plain is None else f"{each.plain:.4g}"
        ratio = "" if each.ratio is None else f"{each.ratio:.3g}"
        same = "" if each.agrees is None else "yes" if each.agrees else "NO"
        original = "" if each.original is None else f"{each.original:.4g}"
        times = "" if each.original is None else f"{each.original / each.seconds:.3g}"
        table.add_row(each.part, each.size, f"{each.seconds:.4g}", plain, ratio, same, original, times)
    show(table)
    if any(each.original for each in measurements):
        print(f"the original's times are of {ORIGINAL_MACHINE}, taken per item from runs over as much or more")
    print(", ".join(f"{name}: {value}" for name, value in machine().items()))


def write_measurements(measurements: Sequence[Measurement], path: Path) -> None:
    """JSON of the machine and of every measurement with its ratio. Raises UserError where it cannot be written."""
    content = {"machine": machine(), "measurements": [{**asdict(each), "ratio": each.ratio} for each in measurements]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


__all__ = ["Measurement", "machine", "print_measurements", "timed", "write_measurements"]
