"""JSON that others wrote, in which a repeated key is an error, and text that no file can hold."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ssn_feat.errors import UserError


class RepeatedKey(dict[str, Any]):
    """A JSON object with a repeated key, of which it holds the last value."""

    key: str = ""
    """The first key that is repeated."""


def parse_json(content: bytes | str, path: Path | str, refuse_repeated: bool = True) -> Any:
    """The value in ``content``, which was read from the file ``path``.

    Raises UserError, naming file and key, for a repeated key; ValueError or RecursionError if ``content`` is not JSON.
    Without ``refuse_repeated``, objects with a repeated key are :class:`RepeatedKey`.
    """
    text = content if isinstance(content, str) else content.decode(json.detect_encoding(content))
    repeated: list[str] = []

    def of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) == len(pairs):
            return values
        marked = RepeatedKey(values)
        seen: set[str] = set()
        marked.key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        repeated.append(marked.key)
        return marked

    value = json.loads(text, object_pairs_hook=of_pairs)
    if repeated and refuse_repeated:
        raise UserError(f"{path}: the key {repeated[0]!r} occurs twice in one object: remove one of the two")
    return value


def is_text(text: str, of_file: bool = False) -> bool:
    """Whether ``text`` can be written: without halves of surrogate pairs.

    ``of_file``: it may be the name of a file that is not UTF-8, whose bytes Python stands for by such halves.
    """
    try:
        text.encode(errors="surrogateescape" if of_file else "strict")
    except UnicodeEncodeError:
        return False
    return True


def require_text(labels: Iterable[str], ids: Iterable[str] = ()) -> None:
    """Raises UserError, naming the first label or id that cannot be written, unless all of them can."""
    for kind, names, of_file in (("class", labels, False), ("id", ids, True)):
        if not is_text("\n".join(names := list(names)), of_file):
            wrong = next(name for name in names if not is_text(name, of_file))
            raise UserError(f"the {kind} {wrong!r} holds half of a surrogate pair, which is not valid text")


__all__ = ["RepeatedKey", "is_text", "parse_json", "require_text"]
