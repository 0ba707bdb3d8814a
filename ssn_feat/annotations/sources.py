"""One way to name annotations of any dialect: a path, or a dialect and a path."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ssn_feat.annotations.activitynet import activitynet_records
from ssn_feat.annotations.dataset import Dataset
from ssn_feat.annotations.multithumos import multithumos_records
from ssn_feat.annotations.records import Records
from ssn_feat.annotations.tables import csv_records
from ssn_feat.annotations.thumos14 import thumos14_records
from ssn_feat.errors import UserError

_READERS: dict[str, Callable[[Path], Records]] = {
    "activitynet": activitynet_records,
    "activitynet-v": partial(activitynet_records, strip_v=True),
    "csv": csv_records,
    "multithumos": multithumos_records,
    "thumos14": thumos14_records,
    "thumos14-ssn": partial(thumos14_records, as_ssn=True),
}
_BY_ENDING = {".json": "activitynet", ".csv": "csv"}


def load_records(spec: str | Path) -> Records:
    """The records behind ``spec``; see :func:`load`."""
    dialect, colon, rest = str(spec).partition(":")
    if colon and dialect in _READERS:
        path = Path(rest)
    else:
        path = Path(spec)
        dialect = _BY_ENDING.get(path.suffix.lower(), "")
    if not path.exists():
        raise UserError(f"there are no annotations at {path}")
    if not dialect:
        raise UserError(f"cannot tell the dialect of {path}: write DIALECT:{path}, one of {', '.join(_READERS)}")
    return _READERS[dialect](path)


def load(spec: str | Path) -> Dataset:
    """Read annotations of any dialect.

    ``spec`` is a path (``.json``: ActivityNet's JSON and its dialects, ``.csv``: a table) or ``DIALECT:PATH``:
    ``activitynet:FILE``, ``activitynet-v:FILE`` (takes the leading ``v_`` off every id), ``csv:FILE``,
    ``multithumos:FILE``, ``thumos14:FOLDER`` (all of it), ``thumos14-ssn:FOLDER`` (without what SSN leaves out).

    Raises UserError where nothing is there, the dialect cannot be told, or the file is at fault (with its key or line).
    """
    return load_records(spec).dataset()
