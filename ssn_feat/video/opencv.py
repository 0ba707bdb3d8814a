"""OpenCV, imported late and with a clear word when it cannot be."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from types import ModuleType

from ssn_feat.errors import UserError

_ERRORS_ONLY = 2
_FFMPEG_LEVEL, _FFMPEG_QUIET = "OPENCV_FFMPEG_LOGLEVEL", "-8"
# Levels and the environment are the process's: two threads that change them at once would put back each other's.
_OPENING = Lock()


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


@contextmanager
def quiet_opening(cv2: ModuleType) -> Iterator[None]:
    """Videos opened within the block are read without a word of FFmpeg's on standard error about damaged frames.

    What is damaged is told by :class:`ssn_feat.video.Decoded`. OpenCV takes FFmpeg's level from the environment when a
    process opens its first file; the environment and OpenCV's own level stand as before after the block. A level that
    the user has set (OPENCV_FFMPEG_LOGLEVEL, OPENCV_FFMPEG_DEBUG) is left alone.
    """
    with _OPENING:
        chosen = any(name in os.environ for name in (_FFMPEG_LEVEL, "OPENCV_FFMPEG_DEBUG"))
        # OpenCV 4 has these functions in cv2 itself, and no name for the level.
        log = getattr(cv2.utils, "logging", cv2)
        level = log.getLogLevel()
        log.setLogLevel(min(level, _ERRORS_ONLY))
        if not chosen:
            os.environ[_FFMPEG_LEVEL] = _FFMPEG_QUIET
        try:
            yield
        finally:
            if not chosen:
                os.environ.pop(_FFMPEG_LEVEL, None)
            log.setLogLevel(level)


def opencv_versions() -> dict[str, str]:
    """``{"opencv": ..., "avcodec": ...}``; avcodec is ``none`` where OpenCV was built without FFmpeg."""
    cv2 = import_cv2()
    avcodec = re.search(r"avcodec:\s+YES \(([\d.]+)\)", cv2.getBuildInformation())
    return {"opencv": cv2.__version__, "avcodec": avcodec.group(1) if avcodec else "none"}


__all__ = ["import_cv2", "opencv_versions", "quiet_opening"]
