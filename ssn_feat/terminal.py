"""Escaping of untrusted text (ids, labels, reasons), which may contain terminal control sequences."""

from __future__ import annotations


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


__all__ = ["printable", "printable_lines"]
