"""Threads of torch and OpenCV, for as long as a block takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ssn_feat.video import import_cv2


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch and OpenCV with ``count`` threads each within the block."""
    cv2 = import_cv2()
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
