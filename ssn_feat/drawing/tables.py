"""Tables on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Collection

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssn_feat.terminal import printable_lines

# Width of output to a file or a pipe, which has no width.
_FILE_WIDTH = 120


def table_of(*columns: str, names: Collection[str] = ()) -> Table:
    """An empty table. The first column and the columns in ``names`` hold text, the others numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, name in enumerate(columns):
        text = position == 0 or name in names
        # Text rather than str: labels, ids and file names may look like markup.
        table.add_column(cell(name), justify="left" if text else "right", overflow="fold")
    return table


def cell(text: str) -> Text:
    """Text that comes from data (an id, a label, a file name), shown without interpreting markup."""
    return Text(printable_lines(text))


def show(table: Table) -> None:
    """Print a table on standard output."""
    Console(width=None if sys.stdout.isatty() else _FILE_WIDTH).print(table)
