"""The number of threads of torch and OpenCV within a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ssn_feat.threads import torch_threads
from ssn_feat.video import import_cv2


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Run torch and OpenCV with ``count`` threads each within the block."""
    cv2 = import_cv2()
    before = cv2.getNumThreads()
    cv2.setNumThreads(count)
    try:
        with torch_threads(count):
            yield
    finally:
        cv2.setNumThreads(before)


__all__ = ["limited_threads"]
