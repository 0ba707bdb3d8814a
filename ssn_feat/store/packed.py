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
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError
from ssn_feat.store.arrays import (
    TIME,
    Compression,
    Damage,
    check_hash,
    check_shape,
    create_array,
    damage_of,
    open_array,
    write_array,
)
from ssn_feat.store.backends import GROUP, Build, Place, group_bytes, place_of
from ssn_feat.store.feature_store import FORMAT, FORMAT_VERSION, FeatureStore
from ssn_feat.store.files import writing
from ssn_feat.store.records import Failure, StoredVideo
from ssn_feat.store.shards import ShardedRows

_CHUNK_BYTES = 2 << 20
_SHARD_BYTES = 128 << 20


class PackedStore(FeatureStore):
    """A packed store; reads like the growing one it was made from."""

    tier = "packed"

    def __init__(self, place: Place, attributes: Mapping[str, Any]) -> None:
        super().__init__(place, attributes)
        self._runs: list[dict[str, Any]] = attributes["runs"]
        self._readers = threading.local()

    def __reduce__(self) -> tuple[Callable[[Path | str], FeatureStore], tuple[Path | str]]:
        return FeatureStore.open, (self.path,)  # readers stay in their process

    @cached_property
    def _index(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """First row and attributes of each video."""
        try:
            records = json.loads(bytes(self._whole("index")))
            offsets = self._whole("offsets").tolist()
            index = {r["id"]: (start, r) for start, r in zip(offsets[:-1], records, strict=True)}
        except (Damage, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"the packed store {self.path} is damaged: {error}; {self._mend}") from None
        return index

    @property
    def _mend(self) -> str:
        return f"make it again: python extract/pack.py STORE {self.path}"

    def _whole(self, name: str) -> NDArray[Any]:
        with damage_of(name, "cannot be opened"):
            source = open_array(self.place, name)
            if source.nchunks_initialized != source.nchunks:
                raise Damage(f"array {name!r} has missing chunks")
            return np.asarray(source[...])

    def _rows_of(self, name: str) -> ShardedRows:
        """The reader of an array, one for each thread."""
        readers: dict[str, ShardedRows] = self._readers.__dict__
        if name not in readers:
            readers[name] = ShardedRows(self.place, name)
        return readers[name]

    def _array(self, video_id: str, name: str, described: Mapping[str, Any]) -> NDArray[Any]:
        start, rows = self._index[video_id][0], self.rows(video_id)
        array = self._rows_of(name).read(start, start + rows)
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
            f"{self.path} is a packed store, which cannot be written to: extract into, or repair, the one that it was "
            "made from, and pack that again"
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


def pack(
    store: FeatureStore,
    out: Path | str,
    advance: Callable[[], object] = lambda: None,
    compress: Compression | None = None,
) -> FeatureStore:
    """Copy a growing store into a packed one at ``out``, which appears all at once; every array's sha256 is checked.

    ``out``: a local path or URL. ``advance`` is called after each video. ``compress``: how arrays are kept, default as
    in ``store``. Raises UserError where ``out`` is taken, the store is empty or packed already, or a video is damaged.
    """
    place = place_of(out)
    if store.tier != "growing":
        raise UserError(f"{store.path} is a packed store already")
    if place.is_taken():
        raise UserError(f"{place.path} exists already; choose another name for the packed store")
    attributes = list(store.map(store.attributes, store.ids))
    if not attributes:
        raise UserError(f"the store {store.path} holds no video to pack")
    place.clean()
    with writing(place.path, place.write_errors), place.building("") as build:
        _build(build, store, attributes, compress or store.compress, advance)
        if not build.commit():
            raise UserError(f"{place.path} was made by another process meanwhile")
    return FeatureStore.open(out)


def _build(
    build: Build,
    store: FeatureStore,
    attributes: Sequence[Mapping[str, Any]],
    compress: Compression,
    advance: Callable[[], object],
) -> None:
    """All of a packed store but its commit."""
    counts = [a["arrays"][TIME]["shape"][0] for a in attributes]
    writers = {
        name: _Rows(build, name, (sum(counts), *described["shape"][1:]), described["dtype"], compress)
        for name, described in attributes[0]["arrays"].items()
    }
    for video, recorded in zip(store.read_all(a["id"] for a in attributes), attributes, strict=True):
        _copy(store, video, recorded, writers)
        advance()
    for writer in writers.values():
        writer.finish()
    write_array(build, "offsets", np.cumsum([0, *counts], dtype=np.int64))
    write_array(build, "index", np.frombuffer(json.dumps(attributes).encode("ascii"), dtype=np.uint8))
    build.record("", _consolidated(_root(store, compress), build, [*writers, "offsets", "index"]))


def _root(store: FeatureStore, compress: Compression) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "tier": PackedStore.tier,
        "checksums": True,
        "name": store.name,
        "recipe": store.recipe,
        "fingerprint": store.fingerprint,
        **({} if compress == "none" else {"compress": compress}),
        # How it was made; which videos were meant is of no use any more.
        "runs": [{**run, "videos": {}} for run in store.runs()],
    }


def _copy(store: FeatureStore, video: StoredVideo, attributes: Mapping[str, Any], writers: Mapping[str, _Rows]) -> None:
    arrays: dict[str, NDArray[Any]] = {TIME: video.spans, **video.features}
    for name, array in arrays.items():
        try:
            check_hash(name, array, attributes["arrays"][name])
        except Damage as damage:
            raise store.damaged(video.id, str(damage)) from None
        writers[name].add(array)


class _Rows:
    """Rows into a sharded array: whole shards only, since writing part of one means writing all of it again."""

    def __init__(self, build: Build, name: str, shape: tuple[int, ...], dtype: str, compress: Compression) -> None:
        row = math.prod(shape[1:]) * np.dtype(dtype).itemsize
        chunk = max(1, min(_CHUNK_BYTES // row, shape[0]))
        self._shard = chunk * max(1, min(_SHARD_BYTES // (chunk * row), math.ceil(shape[0] / chunk)))
        self._array = create_array(
            build.array(name), name, shape, dtype, (chunk, *shape[1:]), (self._shard, *shape[1:]), compress
        )
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


def _consolidated(root: Mapping[str, Any], build: Build, names: Iterable[str]) -> bytes:
    """The ``zarr.json`` of the store with those of its arrays in it, as Zarr writes it."""
    import zarr

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / GROUP).write_bytes(group_bytes(root))
        for array in names:
            (folder / array).mkdir()
            (folder / array / GROUP).write_bytes(build.metadata(array))
        with warnings.catch_warnings():
            # Of it not being part of the specification yet; every array has its own too.
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(name)
        node = json.loads((folder / GROUP).read_bytes())
    held = node["consolidated_metadata"]
    # Zarr lists them as the file system does, or sorted, as its version is.
    held["metadata"] = dict(sorted(held["metadata"].items()))
    return json.dumps(node, indent=2, allow_nan=False).encode("ascii")
