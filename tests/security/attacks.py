"""What the attacks of the threat table are made of."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ssn_feat.store import FeatureStore, create_store

HOSTILE_IDS = (
    "../../outside", "/outside", "..", ".", "a/../../b", "a\\..\\b", "nul\0byte", "x" * 300, "CON", "~", "-rf",
    "a\nb", "\x1b[2J", "__group__", "$(touch outside)", "<script>alert(1)</script>", "ä\u202e", "%2e%2e%2f",
)  # fmt: skip


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.path,)


@contextmanager
def armed(mark: Path) -> Iterator[Bomb]:
    """A bomb that would make ``mark``; fails where that is there in the end."""
    pickle.loads(pickle.dumps(Bomb(mark)))  # noqa: S301
    assert mark.is_dir(), "it does go off where files are trusted"
    mark.rmdir()
    yield Bomb(mark)
    assert not mark.exists(), "code of the file was run"


def tree(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def store_of(path: Path, *ids: str) -> FeatureStore:
    store = create_store(path, {"streams": ["rgb"], "backbones": {"rgb": {"name": "stolen_module:net"}}})
    for number, video_id in enumerate(ids or ("a",)):
        spans = np.arange(4.0)[:, None] + [0.0, 1.0]
        store.write(video_id, {"rgb": np.full((4, 3), number, np.float32)}, spans)
    return store
