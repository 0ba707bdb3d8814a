"""Text for people: escaping of untrusted text, which may contain terminal control sequences, and plurals."""

from __future__ import annotations

from collections.abc import Sequence


def printable(text: str) -> str:
    """Escape every unprintable character of ``text`` (``\\x1b``, ``\\n``, direction marks, ...).

    Letters of all scripts are kept.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable_lines(text: str) -> str:
    """Apply :func:`printable` to each line."""
    return "\n".join(printable(line) for line in text.split("\n"))


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``"1 video"``, ``"2 videos"``; ``plural`` if it is not ``noun`` with an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def listing(ids: Sequence[str], at_most: int = 20) -> str:
    """``"a, b, ... (31)"``: the first ids, and how many there are if some are left out."""
    return ", ".join(map(printable, ids[:at_most])) + (f", ... ({len(ids)})" if len(ids) > at_most else "")


__all__ = ["counted", "listing", "printable", "printable_lines"]
