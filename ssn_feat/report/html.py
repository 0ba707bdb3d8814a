"""Results as a section of HTML that stands alone: no script, no style sheet, no file beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

Rows = Mapping[str, Mapping[str, str]]
"""Cells of a table by name of a row, then by heading."""


def section(title: str, lines: Sequence[str], tables: Mapping[str, Rows], svg: str = "") -> str:
    """``<section>`` with a heading, lines of text, tables by caption and a picture; all text is escaped.

    ``svg`` is the content of an SVG file; what comes before its ``<svg`` is left out.
    """
    parts = [f"<section>\n<h2>{escape(title)}</h2>"]
    parts += [f"<p>{escape(line)}</p>" for line in lines]
    parts += [_table(caption, rows) for caption, rows in tables.items()]
    parts.append(svg[max(svg.find("<svg"), 0) :])
    return "\n".join(parts) + "\n</section>\n"


def _table(caption: str, rows: Rows) -> str:
    headings = list(next(iter(rows.values()), {}))
    head = "".join(f"<th>{escape(heading)}</th>" for heading in ["", *headings])
    body = [
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(cells[heading])}</td>' for heading in headings)}</tr>"
        for name, cells in rows.items()
    ]
    return "\n".join([f"<table>\n<caption>{escape(caption)}</caption>", f"<tr>{head}</tr>", *body, "</table>"])


__all__ = ["Rows", "section"]
