"""One way to name annotations of any dialect: a path, or a dialect and a path."""

from __future__ import annotations

from pathlib import Path

from ssn_feat.annotations.activitynet import activitynet_records
from ssn_feat.annotations.dataset import Dataset
from ssn_feat.annotations.records import Records
from ssn_feat.errors import UserError

_READERS = {"activitynet": activitynet_records}
_BY_ENDING = {".json": "activitynet"}


def load_records(spec: str | Path) -> Records:
    """The records behind ``spec``; see :func:`load`."""
    dialect, colon, rest = str(spec).partition(":")
    if colon and dialect in _READERS:
        return _READERS[dialect](Path(rest))
    path = Path(spec)
    if not path.exists():
        raise UserError(f"there are no annotations at {path}")
    dialect = _BY_ENDING.get(path.suffix.lower(), "")
    if not dialect:
        raise UserError(f"cannot tell the dialect of {path}: write one of {', '.join(_READERS)}, a colon and the path")
    return _READERS[dialect](path)


def load(spec: str | Path) -> Dataset:
    """Read annotations. ``spec`` is a path (``.json``: ActivityNet JSON and its dialects) or ``DIALECT:PATH``.

    Raises UserError where nothing is there, the dialect cannot be told, or the file is at fault (with its key or line).
    """
    return load_records(spec).dataset()
