"""Tables on the terminal, in one style."""

from __future__ import annotations

import sys
from collections.abc import Collection

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssn_feat.terminal import printable_lines

# Of output that goes to a file or a pipe, where nothing says how wide lines may be.
_FILE_WIDTH = 120


def table_of(*columns: str, names: Collection[str] = ()) -> Table:
    """An empty table. The first column and those in ``names`` hold text, the others numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, name in enumerate(columns):
        text = position == 0 or name in names
        # Text, not str: labels, ids and names of files are data and may look like markup.
        table.add_column(cell(name), justify="left" if text else "right", overflow="fold")
    return table


def cell(text: str) -> Text:
    """A text of the data (an id, a label, the name of a file), shown as what it is."""
    return Text(printable_lines(text))


def show(table: Table) -> None:
    """Print a table on standard output."""
    Console(width=None if sys.stdout.isatty() else _FILE_WIDTH).print(table)
