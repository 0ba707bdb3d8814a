"""Names of files and folders for tables and legends."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ssn_feat.errors import UserError


def short_names(paths: Sequence[Path], taken: Collection[str] = ()) -> list[str]:
    """A short unique name for each of several files or folders; none of them is in ``taken``.

    For a file this is its name without the suffix; if that is not unique, with the suffix; if that is not unique
    either, all names get as many parent folders as are needed. Raises UserError if a path is given twice.
    """
    absolute = [path.absolute() for path in paths]
    for position, path in enumerate(absolute):
        if path in absolute[:position]:
            raise UserError(f"{paths[position]} is named twice")
    return next(names for names in _candidates(absolute) if len({*names, *taken}) == len(names) + len({*taken}))


def _candidates(paths: Sequence[Path]) -> Iterator[list[str]]:
    """Names of all ``paths`` of increasing length; the last ones are the whole paths."""
    stems = [path.with_suffix("") if path.is_file() else path for path in paths]
    for folders in range(max((len(path.parts) for path in paths), default=1)):
        for variant in (stems, paths):
            yield [Path(*path.parts[-1 - folders :]).as_posix() for path in variant]


__all__ = ["short_names"]
