"""Structured Segment Networks for temporal action detection, trained on cached two-stream features.

``import ssn_feat as sf`` offers the names in ``__all__``; docs/python.md shows how to use them. Importing the package
is cheap: everything is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ssn_feat.errors import UserError

if TYPE_CHECKING:
    from ssn_feat import store, video
    from ssn_feat.annotations import read_annotations
    from ssn_feat.api import detect, evaluate, extract, fit, propose
    from ssn_feat.detection.model import Model
    from ssn_feat.store import open_store

__version__ = "0.2.0.dev0"
__all__ = [
    "Model",
    "UserError",
    "__version__",
    "detect",
    "evaluate",
    "extract",
    "fit",
    "open_store",
    "propose",
    "read_annotations",
    "store",
    "video",
]

_HOMES = {
    "Model": "detection.model",
    "detect": "api",
    "evaluate": "api",
    "extract": "api",
    "fit": "api",
    "open_store": "store",
    "propose": "api",
    "read_annotations": "annotations",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"ssn_feat.{_HOMES[name]}"), name)
    if name in ("store", "video"):
        return importlib.import_module(f"ssn_feat.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *globals()]
