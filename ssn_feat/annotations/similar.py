"""Names that differ only in case, blanks, Unicode form, folder, ending or prefix: a hint where a name is missing."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable, Iterable

from ssn_feat.files import VIDEO_ENDINGS


def _without_ending(name: str) -> str:
    return next((name[: -len(ending)] for ending in VIDEO_ENDINGS if name.lower().endswith(ending)), name)


# How names are changed before they are compared, by the kind of difference that the change removes.
_CHANGES: dict[str, Callable[[str], str]] = {
    "Unicode form": lambda name: unicodedata.normalize("NFC", name),
    "blanks": lambda name: "".join(name.split()),
    "case": str.casefold,
    "folder": lambda name: name.replace("\\", "/").rpartition("/")[2] or name,
    "ending": _without_ending,
    "prefix": lambda name: name.removeprefix("v_"),
}


def _changed(name: str, changes: Iterable[str]) -> str:
    for change in changes:
        name = _CHANGES[change](name)
    return name


def spelling(name: str) -> str:
    """The common form of names that differ only in these ways."""
    return _changed(name, _CHANGES)


def similar_name(names: Iterable[str], known: Iterable[str], where: str) -> str:
    """A hint, in brackets, about the first of the missing ``names`` that ``known`` contains in another spelling.

    ``where`` describes what contains ``known``. Returns an empty text if no name is similar.
    """
    alike: dict[str, str] = {}
    for other in known:
        alike.setdefault(spelling(other), other)
    for name in names:
        held = alike.get(spelling(name))
        if held is not None and held != name:
            return f" ({where} has {held!r}, which differs from {name!r} by {_difference(name, held)})"
    return ""


def _difference(name: str, other: str) -> str:
    """The fewest differences that explain why two names are not equal."""
    for number in range(1, len(_CHANGES)):
        for changes in itertools.combinations(_CHANGES, number):
            if _changed(name, changes) == _changed(other, changes):
                return " and ".join(changes)
    return " and ".join(_CHANGES)


__all__ = ["similar_name", "spelling"]
