"""OpenCV, imported late and with a clear word when it cannot be."""

from __future__ import annotations

import re
from types import ModuleType

from ssn_feat.errors import UserError


def import_cv2() -> ModuleType:
    """The ``cv2`` module. Raises UserError, saying what to install, where OpenCV is missing or cannot be loaded."""
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
            "drop-in without one: pip uninstall opencv-python && pip install opencv-python-headless"
        )
    return f"OpenCV cannot be loaded ({problem}): pip install opencv-python (or opencv-python-headless on a server)"


def _names_a_library(problem: str) -> bool:
    return re.search(r"lib\w+[-\w.]*\.so", problem) is not None


def decoder_versions() -> dict[str, str]:
    """What decides decoded pixels beside the file: ``{"opencv": ..., "avcodec": ...}``; belongs into a recipe."""
    cv2 = import_cv2()
    found = re.search(r"avcodec:\s+YES \(([\d.]+)\)", cv2.getBuildInformation())
    return {"opencv": cv2.__version__, "avcodec": found.group(1) if found else "none"}
