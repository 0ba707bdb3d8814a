"""Results as a section of HTML, alone or as a part of a page; needs no script, style sheet or file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape

Rows = Mapping[str, Mapping[str, str]]
"""Cells of a table, by the name of the row and then by heading."""


def section(
    title: str,
    lines: Sequence[str],
    tables: Mapping[str, Rows],
    picture: str = "",
    terms: Mapping[str, str] | None = None,
) -> str:
    """``<section>`` with a heading, lines of text, a picture and tables by caption; all text is escaped.

    ``picture`` is HTML or the content of an SVG file and is not escaped; the header before ``<svg`` is left out.
    ``terms``: explanations of terms, which appear when the pointer rests on them.
    """
    parts = [f'<section id="{escape(anchor(title))}">\n<h2>{escape(title)}</h2>']
    parts += [f"<p>{explained(line, terms)}</p>" for line in lines]
    parts.append(picture[max(picture.find("<svg"), 0) :])
    parts += [table(caption, rows, terms) for caption, rows in tables.items()]
    return "\n".join(parts) + "\n</section>\n"


def anchor(title: str) -> str:
    """The id of the section with this title."""
    return title.lower().replace(" ", "-")


def table(caption: str, rows: Rows, terms: Mapping[str, str] | None = None) -> str:
    """``<table>`` below its caption; all text is escaped. ``terms`` as in :func:`section`; names of rows are explained
    only as a whole."""
    headings = list(next(iter(rows.values()), {}))
    head = "".join(f'<th scope="col">{explained(heading, terms)}</th>' for heading in ["", *headings])
    body = [
        f'<tr><th scope="row">{explained(name, terms) if terms and name in terms else escape(name)}</th>'
        f"{''.join(f'<td>{escape(cells[heading])}</td>' for heading in headings)}</tr>"
        for name, cells in rows.items()
    ]
    start = f'<figure><figcaption>{explained(caption, terms)}</figcaption><div class="scroll"><table>'
    return "\n".join([start, f"<thead><tr>{head}</tr></thead>", "<tbody>", *body, "</tbody></table></div></figure>"])


def explained(text: str, terms: Mapping[str, str] | None) -> str:
    """``text``, escaped, with every whole term as ``<abbr>`` with its explanation."""
    if not terms:
        return escape(text)
    longest_first = "|".join(map(re.escape, sorted(terms, key=len, reverse=True)))
    parts = re.split(rf"(?<![\w-])({longest_first})(?![\w-])", text)
    return "".join(
        f'<abbr title="{escape(terms[part])}">{escape(part)}</abbr>' if number % 2 else escape(part)
        for number, part in enumerate(parts)
    )


__all__ = ["Rows", "anchor", "explained", "section", "table"]
