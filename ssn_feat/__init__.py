"""Structured Segment Networks for temporal action detection, trained on cached two-stream features.

Pixels are touched once (:mod:`ssn_feat.extraction`); everything after that reads features from a
:class:`ssn_feat.store.FeatureStore`. Importing the package is cheap and needs neither OpenCV nor torchvision:
:func:`extract` and the subpackages ``store`` and ``video`` are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ssn_feat.errors import UserError

if TYPE_CHECKING:
    from ssn_feat import store, video
    from ssn_feat.extraction import ExtractOptions, extract

__version__ = "0.2.0.dev0"
__all__ = ["ExtractOptions", "UserError", "__version__", "extract", "store", "video"]


def __getattr__(name: str) -> Any:
    if name in ("ExtractOptions", "extract"):
        return getattr(importlib.import_module("ssn_feat.extraction"), name)
    if name in ("store", "video"):
        return importlib.import_module(f"ssn_feat.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
