"""What the files of version 0.1 hold, and how arrays are compared with it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

V0_1 = Path(__file__).resolve().parent / "fixtures" / "v0_1"


def expected() -> dict[str, Any]:
    """The numbers that 0.1 computed."""
    content: dict[str, Any] = json.loads((V0_1 / "expected.json").read_text(encoding="utf-8"))
    return content


def sha256(array: NDArray[Any]) -> str:
    """Of the little-endian bytes of ``array`` in C order."""
    return hashlib.sha256(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()).hexdigest()
