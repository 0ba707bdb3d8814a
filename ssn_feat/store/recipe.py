"""A recipe: everything that determines the value of a feature, as plain JSON. A store holds features of one recipe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ssn_feat.errors import UserError

Recipe = dict[str, Any]
_ABSENT = "(absent)"
# Files of this program nest less than ten levels deep. Much deeper nesting could end the program by recursion.
_DEEPEST = 100


def parse_json(content: bytes) -> Any:
    """Parse JSON of an untrusted file. Raises ValueError if it is not JSON or is nested too deeply."""
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [value] if content.count(b"{") + content.count(b"[") > _DEEPEST else []
    for _ in range(_DEEPEST):
        if not level:
            break
        parts = (node.values() if isinstance(node, dict) else node for node in level)
        level = [part for inner in parts for part in inner if isinstance(part, dict | list)]
    if level:
        raise ValueError("it is nested too deeply")
    return value


def plain_recipe(recipe: Mapping[str, Any]) -> Recipe:
    """``recipe`` as read back from JSON (tuples become lists). Raises UserError for values that JSON cannot hold."""
    try:
        plain: Recipe = json.loads(json.dumps(recipe, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(f"a recipe must hold plain values only: {error}") from None
    return plain


def fingerprint(recipe: Mapping[str, Any]) -> str:
    """sha256 (64 hexadecimal digits) of the recipe. The order of its keys does not matter."""
    return fingerprint_of_plain(plain_recipe(recipe))


def fingerprint_of_plain(values: Mapping[str, Any]) -> str:
    """Like :func:`fingerprint`, of values that were read from JSON."""
    return hashlib.sha256(
        json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    ).hexdigest()


def differences(held: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Fields in which two recipes differ: (dotted name, value held, value asked), sorted by name."""
    fields: list[tuple[str, Any, Any]] = []
    for name in sorted(held.keys() | asked.keys()):
        a, b = held.get(name, _ABSENT), asked.get(name, _ABSENT)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            fields += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            fields.append((prefix + name, a, b))
    return fields


def shorten(value: Any) -> str:
    """A value of a recipe for a message, at most 60 characters."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


__all__ = ["Recipe", "differences", "fingerprint", "fingerprint_of_plain", "parse_json", "plain_recipe", "shorten"]
