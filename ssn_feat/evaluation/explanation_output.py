"""Explanations as sentences and a table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from rich.table import Table

from ssn_feat.drawing.tables import cell, show, table_of
from ssn_feat.evaluation.explanation import ClassOutcome, Explanation
from ssn_feat.terminal import printable

# Heads of the columns of :func:`table_rows`, without the class.
COLUMNS = (
    "instances",
    "with proposal",
    "found",
    "wrong label",
    "outranked",
    "missed",
    "false alarms/h",
    "most often detected as",
)
_WIDTH = 120
# Number of classes to print unless all are wanted.
_SHOWN = 12


def sentences(explanation: Explanation, missing: str = "--proposals FILE") -> list[str]:
    """What became of the instances, as sentences; ``missing``: what to add if proposals are unknown."""
    total, tiou = explanation.total, f"{explanation.tiou:.3g}"
    what = "a proposal" if explanation.from_proposals else "a detection of any class"
    wrong, low, none, false = total.wrong_label, total.outranked, total.missed, total.false_alarms
    lines = [
        f"{total.found} of {total.instances} instances are found at tIoU {tiou}. Of the others, {wrong} {_is(wrong)} "
        f"detected only with a wrong label, {low} {_has(low)} a correct detection that scores too low, and {none} "
        f"{_has(none)} no correct detection.",
        f"{total.proposed} of {total.instances} instances have {what} with a tIoU of at least {tiou}.",
        f"{false} {'detection is a false alarm' if false == 1 else 'detections are false alarms'}: "
        f"{_rate(total.false_alarms_per_hour)} per hour of video.",
        f"Score thresholds: {explanation.operating_point}. Detections below them are not counted as found or false.",
    ]
    if total.duplicates:
        lines[2] += f" Of these, {total.duplicates} {'repeats' if total.duplicates == 1 else 'repeat'} an instance."
    if not explanation.from_proposals:
        lines[1] += f" Add {missing} to count proposals instead."
    return lines


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _has(number: int) -> str:
    return "has" if number == 1 else "have"


def table_rows(explanation: Explanation) -> dict[str, list[str]]:
    """The cells of COLUMNS by class, and the total as the last row if there are several classes."""
    rows = {row.label: _cells(row) for row in explanation.rows}
    return rows | ({"all classes": _cells(explanation.total)} if len(rows) > 1 else {})


def _cells(row: ClassOutcome) -> list[str]:
    numbers = (row.instances, row.proposed, row.found, row.wrong_label, row.outranked, row.missed)
    return [*map(str, numbers), _rate(row.false_alarms_per_hour), row.taken_for]


def _rate(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def print_explanation(explanation: Explanation, every_class: bool = False) -> None:
    """Print what became of the instances, and what to try next.

    Of many classes only those with the most instances that are not found are listed, unless ``every_class``.
    """
    print(f"Why: {printable(explanation.name)}")
    for line in sentences(explanation):
        print(_wrapped(line, "  ", "  "))
    show(_table(explanation, every_class))
    for number, advice in enumerate(explanation.advice, start=1):
        print(_wrapped(advice.sentence, f"{'Next: ' if number == 1 else '      '}{number}. ", 9 * " "))
        for command in advice.commands:
            print(f"         $ {printable(command)}")
    print()


def _wrapped(text: str, first: str, later: str) -> str:
    return textwrap.fill(printable(text), _WIDTH, initial_indent=first, subsequent_indent=later)


def _table(explanation: Explanation, every_class: bool) -> Table:
    rows = table_rows(explanation)
    left = {row.label: row.instances - row.found for row in explanation.rows}
    labels: Sequence[str] = list(left)
    if not every_class and len(labels) > _SHOWN:
        worst = set(sorted(left, key=lambda label: -left[label])[:_SHOWN])
        labels = [label for label in labels if label in worst]
    table = table_of("class", *COLUMNS, names=COLUMNS[-1:])
    for label in labels:
        table.add_row(cell(label), *map(cell, rows[label]))
    if len(labels) < len(left):
        table.add_row(cell(f"… {len(left) - len(labels)} more (--per-class)"), *[""] * len(COLUMNS))
    if len(left) > 1:
        table.add_row("all classes", *rows["all classes"])
    return table


__all__ = ["COLUMNS", "print_explanation", "sentences", "table_rows"]
