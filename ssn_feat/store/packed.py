"""The packed tier: a finished store as a few large arrays, read-only, for many videos and for distribution.

::

    NAME.zarr/                 attributes as in the growing tier, tier "packed", runs; consolidated metadata
      rgb, flow, ...           float16 (sum T, D) or (sum T, C, D), video after video, sharded
      time                     float64 (sum T, 2), seconds
      offsets                  int64 (V + 1,): video v has the rows offsets[v] to offsets[v + 1]
      index                    uint8: a JSON list of the attributes of each video as in the growing tier, in order
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
from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.store.arrays import (
    TIME,
    Compression,
    Damage,
    as_damage,
    check_hash,
    check_shape,
    create_array,
    open_array,
    write_array,
)
from ssn_feat.store.backends import GROUP, GroupBuilder, StoreBackend, group_bytes
from ssn_feat.store.feature_store import FeatureStore
from ssn_feat.store.location import open_backend
from ssn_feat.store.shards import ShardedRows
from ssn_feat.store.staging import writing
from ssn_feat.store.store_writer import root_attributes
from ssn_feat.store.stored_video import FailedVideo, StoredVideo
from ssn_feat.store.stream_recipes import restrict

_CHUNK_BYTES = 2 << 20
_SHARD_BYTES = 128 << 20


class PackedStore(FeatureStore):
    """A packed store. It is read like the growing store that it was made from."""

    tier = "packed"

    def __init__(self, backend: StoreBackend, attributes: Mapping[str, Any]) -> None:
        super().__init__(backend, attributes)
        self._root = attributes
        self._readers = threading.local()

    def __reduce__(self) -> tuple[type[PackedStore], tuple[StoreBackend, Mapping[str, Any]]]:
        return PackedStore, (self.backend, self._root)  # readers cannot be pickled

    @cached_property
    def _index(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """First row and attributes of each video."""
        try:
            records = json.loads(bytes(self._read_array("index")))
            offsets = self._read_array("offsets").tolist()
            index = {r["id"]: (start, r) for start, r in zip(offsets[:-1], records, strict=True)}
        except (Damage, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"the packed store {self.path} is damaged: {error}; {self._advice}") from None
        return index

    @property
    def _advice(self) -> str:
        return f"make it again: python extract/pack.py STORE {self.path}"

    def _read_array(self, name: str) -> NDArray[Any]:
        with as_damage(name, "cannot be opened"):
            source = open_array(self.backend, name)
            if source.nchunks_initialized != source.nchunks:
                raise Damage(f"array {name!r} has missing chunks")
            return np.asarray(source[...])

    def _reader_of(self, name: str) -> ShardedRows:
        """The reader of an array for this thread."""
        readers: dict[str, ShardedRows] = self._readers.__dict__
        if name not in readers:
            readers[name] = ShardedRows(self.backend, name)
        return readers[name]

    def _array(self, video_id: str, name: str, described: Mapping[str, Any]) -> NDArray[Any]:
        start, rows = self._index[video_id][0], self.rows(video_id)
        array = self._reader_of(name).read(start, start + rows)
        check_shape(name, array, described)
        return array

    def _video_ids(self) -> Iterable[str]:
        return self._index

    def __contains__(self, video_id: str) -> bool:
        return video_id in self._index

    def recorded(self, video_id: str) -> dict[str, Any]:
        if video_id not in self._index:
            raise self._unknown(video_id)
        return self._index[video_id][1]

    def damaged(self, video_id: str, what: str) -> UserError:
        """The error for a damaged video: names it, the damage and the command that repairs it."""
        return UserError(f"video {video_id!r} of the packed store {self.path}: {what}; {self._advice}")

    def failures(self) -> dict[str, FailedVideo]:
        return {}

    def runs(self) -> list[dict[str, Any]]:
        runs: list[dict[str, Any]] = self._root["runs"]
        return runs

    def require_growing(self) -> NoReturn:
        raise UserError(
            f"{self.path} is a packed store, which is read-only: extract into, or repair, the store that it was made "
            "from, and pack that one again"
        )


def pack(
    store: FeatureStore,
    out: Path | str,
    advance: Callable[[], object] = lambda: None,
    compress: Compression | None = None,
) -> PackedStore:
    """Copy a growing store into a packed one at ``out``, committed atomically. Checks the sha256 of every array.

    ``out`` is a local path or URL. ``advance`` is called after each video. ``compress`` is how arrays are stored,
    default as in ``store``. Only streams that all videos have are packed. Raises UserError if ``out`` exists, the store
    is empty or already packed, its videos have no stream in common, or a video is damaged or of another recipe.
    """
    backend = open_backend(out)
    if store.tier != "growing":
        raise UserError(f"{store.path} is already a packed store")
    if backend.is_taken():
        raise UserError(f"{backend.path} already exists; choose another name for the packed store")
    videos = list(store.map(store.attributes, store.ids))
    if not videos:
        raise UserError(f"the store {store.path} holds no video to pack")
    streams = set.intersection(*(set(store.streams_in(video)) for video in videos))
    if not streams:
        raise UserError(f"the videos of the store {store.path} have no stream in common; extract one for all of them")
    videos = [_packed_attributes(store, video, streams) for video in videos]
    recipe = store.recipe if streams == set(store.streams) else restrict(store.recipe, streams)
    compress = compress or store.compress
    backend.clean()
    with writing(backend.path, backend.write_errors), backend.build("") as builder:
        names = _write_arrays(builder, store, videos, compress, advance)
        attributes = root_attributes(PackedStore.tier, store.name, recipe, compress)
        # The options remain on record; the planned videos no longer matter.
        attributes["runs"] = [{**run, "videos": {}} for run in store.runs()]
        builder.add_metadata("", _consolidated(attributes, builder, names))
        if not builder.commit():
            raise UserError(f"{backend.path} was created by another process in the meantime")
    return PackedStore(backend, attributes)


def _packed_attributes(store: FeatureStore, video: Mapping[str, Any], streams: set[str]) -> dict[str, Any]:
    """The attributes of a video with ``streams`` only. Arrays have no names of their own in a packed store."""
    kept = {name: value for name, value in video.items() if name != "revision"}
    kept["fingerprints"] = {stream: store.fingerprint_of(stream) for stream in sorted(streams)}
    kept["arrays"] = {
        name: {key: value for key, value in described.items() if key != "folder"}
        for name, described in video["arrays"].items()
        if name in {*streams, TIME}
    }
    return kept


def _write_arrays(
    builder: GroupBuilder,
    store: FeatureStore,
    videos: Sequence[Mapping[str, Any]],
    compress: Compression,
    advance: Callable[[], object],
) -> list[str]:
    """Write all arrays of a packed store, given the attributes of its videos; the names of the arrays."""
    counts = [video["arrays"][TIME]["shape"][0] for video in videos]
    writers = {
        name: _ShardWriter(builder, name, (sum(counts), *described["shape"][1:]), described["dtype"], compress)
        for name, described in videos[0]["arrays"].items()
    }
    streams = sorted(videos[0]["arrays"].keys() - {TIME})
    for video, attributes in zip(store.read_all((v["id"] for v in videos), streams), videos, strict=True):
        _copy(store, video, attributes, writers)
        advance()
    for writer in writers.values():
        writer.finish()
    write_array(builder, "offsets", np.cumsum([0, *counts], dtype=np.int64))
    write_array(builder, "index", np.frombuffer(json.dumps(videos).encode("ascii"), dtype=np.uint8))
    return [*writers, "offsets", "index"]


def _copy(
    store: FeatureStore, video: StoredVideo, attributes: Mapping[str, Any], writers: Mapping[str, _ShardWriter]
) -> None:
    arrays: dict[str, NDArray[Any]] = {TIME: video.spans, **video.features}
    for name, array in arrays.items():
        try:
            check_hash(name, array, attributes["arrays"][name])
        except Damage as damage:
            raise store.damaged(video.id, str(damage)) from None
        writers[name].add(array)


class _ShardWriter:
    """Writes rows into a sharded array, whole shards only: writing part of a shard rewrites all of it."""

    def __init__(
        self, builder: GroupBuilder, name: str, shape: tuple[int, ...], dtype: str, compress: Compression
    ) -> None:
        row = math.prod(shape[1:]) * np.dtype(dtype).itemsize
        chunk = max(1, min(_CHUNK_BYTES // row, shape[0]))
        self._shard = chunk * max(1, min(_SHARD_BYTES // (chunk * row), math.ceil(shape[0] / chunk)))
        self._array = create_array(
            builder.zarr_target(name), name, shape, dtype, (chunk, *shape[1:]), (self._shard, *shape[1:]), compress
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


def _consolidated(attributes: Mapping[str, Any], builder: GroupBuilder, names: Iterable[str]) -> bytes:
    """The ``zarr.json`` of the store with consolidated metadata of its arrays, as Zarr writes it."""
    import zarr

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / GROUP).write_bytes(group_bytes(attributes))
        for array in names:
            (folder / array).mkdir()
            (folder / array / GROUP).write_bytes(builder.array_metadata(array))
        with warnings.catch_warnings():
            # Consolidated metadata are not part of the specification yet. Each array has its own metadata, too.
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(name)
        node = json.loads((folder / GROUP).read_bytes())
    consolidated = node["consolidated_metadata"]
    # Some versions of Zarr list the arrays in the order of the file system.
    consolidated["metadata"] = dict(sorted(consolidated["metadata"].items()))
    return json.dumps(node, indent=2, allow_nan=False).encode("ascii")


__all__ = ["PackedStore", "pack"]
