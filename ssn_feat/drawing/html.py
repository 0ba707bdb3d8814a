"""Results as a section of HTML, alone or as a part of a page; needs no script, style sheet or file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

Rows = Mapping[str, Mapping[str, str]]
"""Cells of a table, by the name of the row and then by heading."""


def section(title: str, lines: Sequence[str], tables: Mapping[str, Rows], picture: str = "") -> str:
    """``<section>`` with a heading, a picture, lines of text and tables by caption; all text is escaped.

    ``picture`` is HTML or the content of an SVG file and is not escaped; the header before ``<svg`` is left out.
    """
    parts = [f'<section id="{escape(title.lower().replace(" ", "-"))}">\n<h2>{escape(title)}</h2>']
    parts += [f"<p>{escape(line)}</p>" for line in lines]
    parts.append(picture[max(picture.find("<svg"), 0) :])
    parts += [table(caption, rows) for caption, rows in tables.items()]
    return "\n".join(parts) + "\n</section>\n"


def table(caption: str, rows: Rows) -> str:
    """``<table>`` with a caption; all text is escaped."""
    headings = list(next(iter(rows.values()), {}))
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in ["", *headings])
    body = [
        f'<tr><th scope="row">{escape(name)}</th>'
        f"{''.join(f'<td>{escape(cells[heading])}</td>' for heading in headings)}</tr>"
        for name, cells in rows.items()
    ]
    start = f'<div class="scroll"><table>\n<caption>{escape(caption)}</caption>'
    return "\n".join([start, f"<thead><tr>{head}</tr></thead>", "<tbody>", *body, "</tbody></table></div>"])


__all__ = ["Rows", "section", "table"]
