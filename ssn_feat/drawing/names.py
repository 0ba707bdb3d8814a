"""Names of files and folders for tables and legends."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ssn_feat.errors import UserError


def short_names(paths: Sequence[Path], taken: Collection[str] = ()) -> list[str]:
    """A name for each of several files or folders, which tells them apart and from what is ``taken``.

    Of files it is the name without its ending, else the name, else with as many folders before it as are needed, for
    all of them alike. Raises UserError where one is named twice.
    """
    absolute = [path.absolute() for path in paths]
    for position, path in enumerate(absolute):
        if path in absolute[:position]:
            raise UserError(f"{paths[position]} is named twice")
    return next(names for names in _candidates(absolute) if len({*names, *taken}) == len(names) + len({*taken}))


def _candidates(paths: Sequence[Path]) -> Iterator[list[str]]:
    """Names of all of ``paths``, longer and longer; the last are whole."""
    stems = [path.with_suffix("") if path.is_file() else path for path in paths]
    for folders in range(max((len(path.parts) for path in paths), default=1)):
        for own in (stems, paths):
            yield [Path(*path.parts[-1 - folders :]).as_posix() for path in own]


__all__ = ["short_names"]
