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

from ssn_feat.drawing.tables import show, table_of
from ssn_feat.errors import UserError

T = TypeVar("T")

ORIGINAL_MACHINE = "one thread of a virtual machine with an AMD EPYC, Python 3.11, NumPy 1.23, torch 2.15"


@dataclass(frozen=True)
class Measurement:
    """One part. seconds: ours, the least of some runs. plain: seconds of a plain loop over the same, None without one.

    agrees: whether both gave the same. size: what was worked on, in words. original: seconds that the original code
    took over as much on another day and a machine of the kind that :data:`ORIGINAL_MACHINE` names, None if not known.
    bar: seconds that ours is to stay within on one core, None without one.
    """

    part: str
    size: str
    seconds: float
    plain: float | None = None
    agrees: bool | None = None
    original: float | None = None
    bar: float | None = None

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
    heads = ("part", "of", "seconds", "bar, s", "plain loop, s", "ratio", "same result", "original, s", "times faster")
    rows = [_cells(each) for each in measurements]
    told = [column for column, head in enumerate(heads) if any(row[column] for row in rows)]
    table = table_of(*(heads[column] for column in told), names=("of",))
    for row in rows:
        table.add_row(*(row[column] for column in told))
    show(table)
    if any(each.original for each in measurements):
        print(f"the original's times are of {ORIGINAL_MACHINE}, taken per item from runs over as much or more")
    print(", ".join(f"{name}: {value}" for name, value in machine().items()))


def _cells(each: Measurement) -> tuple[str, ...]:
    """A row of the table; empty where there is nothing to say."""

    def number(value: float | None, digits: int = 4) -> str:
        return "" if value is None else f"{value:.{digits}g}"

    bar = "" if each.bar is None else f"{each.bar:g}{'' if each.seconds <= each.bar else ' MISSED'}"
    same = "" if each.agrees is None else "yes" if each.agrees else "NO"
    times = None if each.original is None else each.original / each.seconds
    start = (each.part, each.size, number(each.seconds), bar, number(each.plain), number(each.ratio, 3), same)
    return (*start, number(each.original), number(times, 3))


def write_measurements(measurements: Sequence[Measurement], path: Path) -> None:
    """JSON of the machine and of every measurement with its ratio. Raises UserError where it cannot be written."""
    content = {"machine": machine(), "measurements": [{**asdict(each), "ratio": each.ratio} for each in measurements]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


__all__ = ["Measurement", "machine", "print_measurements", "timed", "write_measurements"]
