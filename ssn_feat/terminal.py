"""Text of files on a terminal: ids, labels and reasons are data, and may hold what a terminal takes for commands."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` with every character escaped that is not shown as one (``\\x1b``, ``\\n``, marks of direction, ...).

    Letters of all scripts stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable_lines(text: str) -> str:
    """The same of each line of a text of several."""
    return "\n".join(printable(line) for line in text.split("\n"))
