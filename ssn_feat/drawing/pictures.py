"""Pictures as files, and the colours that all of them share."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from ssn_feat.errors import UserError
from ssn_feat.files import replacing

# Colours of text, of secondary text and lines, and of grid lines.
INK, FAINT, GRID = "#2b2f36", "#8a9099", "#e6e8eb"
SUFFIXES = (".png", ".svg", ".pdf")


def check_picture(path: Path | None) -> None:
    """Raises UserError if ``path`` does not end like a picture; call it before long work rather than after it."""
    if path is not None and path.suffix not in SUFFIXES:
        raise UserError(f"pictures are written as {', '.join(SUFFIXES)}, not {path.name!r}")


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` as PNG, SVG or PDF, by the suffix of ``path``. Raises UserError on another suffix."""
    check_picture(path)
    # Without the date, the same picture always gives the same file.
    metadata = {"Creator": None, "Date": None} if path.suffix == ".svg" else {}
    with replacing(path) as part:
        figure.savefig(part, format=path.suffix[1:], metadata=metadata)


__all__ = ["FAINT", "GRID", "INK", "SUFFIXES", "check_picture", "save"]
