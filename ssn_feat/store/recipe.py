"""A recipe: all that decides the value of a feature, as plain JSON. Features of two recipes never share a store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ssn_feat.errors import UserError

Recipe = dict[str, Any]
_ABSENT = "(absent)"
# Nothing of ours is nested deeper than ten; recursion over what is deeper than this could end the program.
_DEEPEST = 100


def parsed(content: bytes) -> Any:
    """JSON of a file that may be anybody's. Raises ValueError where it is none, or nested deeper than any of ours."""
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    level = [value] if content.count(b"{") + content.count(b"[") > _DEEPEST else []
    for _ in range(_DEEPEST):
        parts = (node.values() if isinstance(node, dict) else node for node in level)
        level = [part for inner in parts for part in inner if isinstance(part, dict | list)]
    if level:
        raise ValueError("it is nested too deep")
    return value


def plain_recipe(recipe: Mapping[str, Any]) -> Recipe:
    """``recipe`` as it reads back from JSON (tuples become lists). Raises UserError for what JSON cannot hold."""
    try:
        plain: Recipe = json.loads(json.dumps(recipe, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(f"a recipe must hold plain values only: {error}") from None
    return plain


def fingerprint(recipe: Mapping[str, Any]) -> str:
    """sha256 (64 hexadecimal digits) of the recipe; the order of its keys does not matter."""
    return hashlib.sha256(
        json.dumps(plain_recipe(recipe), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    ).hexdigest()


def differences(held: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Fields in which two recipes differ: (dotted name, value held, value asked), sorted by name."""
    found: list[tuple[str, Any, Any]] = []
    for name in sorted(held.keys() | asked.keys()):
        a, b = held.get(name, _ABSENT), asked.get(name, _ABSENT)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            found.append((prefix + name, a, b))
    return found


def short(value: Any) -> str:
    """A value of a recipe in a message."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
