"""Figures of speed that are not all seconds, each beside the bar that it is to meet, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from bench.speed.timing import machine
from ssn_feat.drawing.tables import show, table_of
from ssn_feat.errors import UserError


@dataclass(frozen=True)
class Figure:
    """One measured number.

    name: what it is of. value, unit: the number. bar: what it is held against, None for a number that only informs.
    sense: whether it should be at least or at most the bar. note: how it was measured where that is not plain.
    """

    name: str
    value: float
    unit: str
    bar: float | None = None
    sense: Literal["at least", "at most"] = "at most"
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without one."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.sense == "at least" else self.value <= self.bar


def machine_of(device: torch.device, threads: int) -> dict[str, Any]:
    """The machine, the versions, the threads used and the GPU, if one was."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {**machine(), "torch": torch.__version__, "threads": threads, "gpu": gpu}


def print_figures(figures: Sequence[Figure], machine: dict[str, Any]) -> None:
    """A table with each bar and whether it is met, below it the machine."""
    table = table_of("figure", "value", "unit", "bar", "met", "note", names=("unit", "bar", "met", "note"))
    for each in figures:
        bar = "" if each.bar is None else f"{'>=' if each.sense == 'at least' else '<='} {each.bar:g}"
        met = "" if each.met is None else "yes" if each.met else "NO"
        table.add_row(each.name, f"{each.value:.4g}", each.unit, bar, met, each.note)
    show(table)
    print(", ".join(f"{name}: {value}" for name, value in machine.items()))


def write_figures(figures: Sequence[Figure], machine: dict[str, Any], path: Path) -> None:
    """JSON of the machine and of every figure. Raises UserError where it cannot be written."""
    content = {"machine": machine, "figures": [{**asdict(each), "met": each.met} for each in figures]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


__all__ = ["Figure", "machine_of", "print_figures", "write_figures"]
