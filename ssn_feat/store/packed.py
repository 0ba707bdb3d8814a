"""The packed tier: a finished store as a few large arrays, read-only, for many videos and for shipping.

::

    NAME.zarr/                 attributes as in the growing tier, tier "packed", runs; consolidated metadata
      rgb, flow, ...           float16 (sum T, D) or (sum T, C, D), video after video, sharded
      time                     float64 (sum T, 2), seconds
      offsets                  int64 (V + 1,): rows offsets[v] to offsets[v + 1] are those of video v
      index                    uint8: the attributes of each video as in the growing tier, a JSON list in order
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError
from ssn_feat.store.arrays import TIME, Damage, check_hash, check_shape, create_array, write_array
from ssn_feat.store.feature_store import FORMAT, FORMAT_VERSION, Failure, FeatureStore
from ssn_feat.store.files import Staging, rename_new, sync_tree, write_group, writing

_CHUNK_BYTES = 2 << 20
_SHARD_BYTES = 128 << 20


class PackedStore(FeatureStore):
    """A packed store; reads like the growing one it was made from."""

    tier = "packed"

    def __init__(self, path: Path, attributes: Mapping[str, Any]) -> None:
        super().__init__(path, attributes)
        self._runs: list[dict[str, Any]] = attributes["runs"]

    def __reduce__(self) -> tuple[Callable[[Path], FeatureStore], tuple[Path]]:
        return FeatureStore.open, (self.path,)  # open arrays stay in their process

    @cached_property
    def _index(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """First row and attributes of each video."""
        try:
            records = json.loads(bytes(self._whole("index")))
            offsets = self._whole("offsets")
            index = {r["id"]: (int(start), r) for start, r in zip(offsets[:-1], records, strict=True)}
        except (Damage, ValueError, KeyError, TypeError) as error:
            raise UserError(f"the packed store {self.path} is damaged: {error}; {self._mend}") from None
        return index

    @property
    def _mend(self) -> str:
        return f"make it again: python extract/pack.py STORE {self.path}"

    @cached_property
    def _open_arrays(self) -> dict[str, Any]:
        return {}

    def _source(self, name: str) -> Any:
        import zarr

        if name not in self._open_arrays:
            try:
                self._open_arrays[name] = zarr.open_array(os.fspath(self.path / name), mode="r")
            except Exception as error:  # missing or damaged metadata: zarr raises many kinds
                raise Damage(f"array {name!r} cannot be opened ({' '.join(str(error).split())[:120]})") from error
        return self._open_arrays[name]

    def _whole(self, name: str) -> NDArray[Any]:
        source = self._source(name)
        if source.nchunks_initialized != source.nchunks:
            raise Damage(f"array {name!r} has missing chunks")
        return self._rows(name, 0, source.shape[0])

    def _rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        try:
            array: NDArray[Any] = np.asarray(self._source(name)[start:stop])
        except Damage:
            raise
        except Exception as error:  # codecs raise what they like on bytes that are not theirs
            raise Damage(f"array {name!r} is damaged ({' '.join(str(error).split())[:120]})") from error
        return array

    def _array(self, video_id: str, name: str, described: Mapping[str, Any]) -> NDArray[Any]:
        start, rows = self._index[video_id][0], self.rows(video_id)
        array = self._rows(name, start, start + rows)
        # Rows of a shard that is not there read as NaN, which no store holds.
        if np.isnan(array).any():
            raise Damage(f"array {name!r} lacks rows {start} to {start + rows}")
        check_shape(name, array, described)
        return array

    def _video_ids(self) -> Iterable[str]:
        return self._index

    def __contains__(self, video_id: str) -> bool:
        return video_id in self._index

    def attributes(self, video_id: str) -> dict[str, Any]:
        if video_id not in self._index:
            raise self._unknown(video_id)
        return self._index[video_id][1]

    def damaged(self, video_id: str, what: str) -> UserError:
        """What to raise of a damaged video: names it, the damage and the command that mends it."""
        return UserError(f"video {video_id!r} of the packed store {self.path}: {what}; {self._mend}")

    def failures(self) -> dict[str, Failure]:
        return {}

    def runs(self) -> list[dict[str, Any]]:
        return self._runs

    def require_growing(self) -> NoReturn:
        raise UserError(
            f"{self.path} is a packed store, which cannot be written to: extract into the one it was made from"
        )

    def write(
        self,
        video_id: str,
        features: Mapping[str, ArrayLike],
        spans: ArrayLike,
        info: Mapping[str, Any] | None = None,
    ) -> bool:
        self.require_growing()

    def discard(self, video_id: str) -> None:
        self.require_growing()

    def record_failure(self, video_id: str, reason: str) -> None:
        self.require_growing()

    def record_run(self, run: Mapping[str, Any]) -> None:
        self.require_growing()


def pack(store: FeatureStore, out: Path | str, advance: Callable[[], object] = lambda: None) -> FeatureStore:
    """Copy a growing store into a packed one at ``out``, which appears all at once; every array's sha256 is checked.

    ``advance`` is called after each video. Raises UserError where ``out`` is taken, the store is empty or packed
    already, or a video is damaged.
    """
    out = Path(out)
    if store.tier != "growing":
        raise UserError(f"{store.path} is a packed store already")
    if out.exists():
        raise UserError(f"{out} exists already; choose another name for the packed store")
    attributes = [store.attributes(video_id) for video_id in store.ids]
    if not attributes:
        raise UserError(f"the store {store.path} holds no video to pack")
    with writing(out), Staging(out).folder() as folder:
        _build(folder, store, attributes, advance)
        sync_tree(folder)
        if not rename_new(folder, out):
            raise UserError(f"{out} was made by another process meanwhile")
    return FeatureStore.open(out)


def _build(
    folder: Path, store: FeatureStore, attributes: Sequence[Mapping[str, Any]], advance: Callable[[], object]
) -> None:
    """All of a packed store, in ``folder``."""
    counts = [a["arrays"][TIME]["shape"][0] for a in attributes]
    write_group(folder, _root(store))
    writers = {
        name: _Rows(folder, name, (sum(counts), *described["shape"][1:]), described["dtype"])
        for name, described in attributes[0]["arrays"].items()
    }
    for video in attributes:
        _copy(store, video, writers)
        advance()
    for writer in writers.values():
        writer.finish()
    write_array(folder, "offsets", np.cumsum([0, *counts], dtype=np.int64))
    write_array(folder, "index", np.frombuffer(json.dumps(attributes).encode("ascii"), dtype=np.uint8))
    _consolidate(folder)


def _root(store: FeatureStore) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "tier": PackedStore.tier,
        "name": store.name,
        "recipe": store.recipe,
        "fingerprint": store.fingerprint,
        # How it was made; which videos were meant is of no use any more.
        "runs": [{**run, "videos": {}} for run in store.runs()],
    }


def _copy(store: FeatureStore, attributes: Mapping[str, Any], writers: Mapping[str, _Rows]) -> None:
    video = store.read(attributes["id"])
    arrays: dict[str, NDArray[Any]] = {TIME: video.spans, **video.features}
    for name, array in arrays.items():
        try:
            check_hash(name, array, attributes["arrays"][name])
        except Damage as damage:
            raise store.damaged(video.id, str(damage)) from None
        writers[name].add(array)


class _Rows:
    """Rows into a sharded array: whole shards only, since writing part of one means writing all of it again."""

    def __init__(self, folder: Path, name: str, shape: tuple[int, ...], dtype: str) -> None:
        row = math.prod(shape[1:]) * np.dtype(dtype).itemsize
        chunk = max(1, min(_CHUNK_BYTES // row, shape[0]))
        self._shard = chunk * max(1, min(_SHARD_BYTES // (chunk * row), math.ceil(shape[0] / chunk)))
        self._array = create_array(folder, name, shape, dtype, (chunk, *shape[1:]), (self._shard, *shape[1:]))
        self._waiting: list[NDArray[Any]] = []
        self._count = self._written = 0

    def add(self, rows: NDArray[Any]) -> None:
        self._waiting.append(rows)
        self._count += len(rows)
        if self._count >= self._shard:
            self._write(self._count - self._count % self._shard)

    def finish(self) -> None:
        self._write(self._count)

    def _write(self, count: int) -> None:
        rows = np.concatenate(self._waiting) if self._waiting else np.empty((0, *self._array.shape[1:]))
        for start in range(0, count, self._shard):
            stop = min(start + self._shard, count)
            self._array[self._written : self._written + stop - start] = rows[start:stop]
            self._written += stop - start
        self._waiting, self._count = [rows[count:]], len(rows) - count


def _consolidate(folder: Path) -> None:
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of it not being part of the specification yet; every array has its own too
        zarr.consolidate_metadata(os.fspath(folder))
