"""Imports OpenCV late, with a clear message when it cannot be imported."""

from __future__ import annotations

import re
from types import ModuleType

from ssn_feat.errors import UserError


def import_cv2() -> ModuleType:
    """The ``cv2`` module. Raises UserError, with the command to install it, where it cannot be imported."""
    try:
        import cv2
    except ImportError as error:
        raise UserError(_advice(str(error))) from None
    module: ModuleType = cv2
    return module


def _advice(problem: str) -> str:
    if _names_a_library(problem):
        return (
            f"OpenCV cannot be loaded ({problem}): this machine lacks a library of the graphical desktop. Install the "
            "package without one: pip uninstall opencv-python && pip install opencv-python-headless"
        )
    return f"OpenCV cannot be loaded ({problem}): pip install opencv-python (or opencv-python-headless on a server)"


def _names_a_library(problem: str) -> bool:
    return re.search(r"lib\w+[-\w.]*\.so", problem) is not None


__all__ = ["import_cv2"]
