"""Rows of the large arrays of a packed store, read as the few bytes or the long runs that they are on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.store.arrays import CRC_BYTES, Damage, PlainCodec, checked, damage_of, open_array
from ssn_feat.store.backends import Place

_INDEX_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
_MISSING = np.uint64(2**64 - 1)
# Gaps between chunks up to this size are read along with them.
_GAP = 1 << 20


class ShardedRows:
    """Rows of a Zarr array that is sharded and chunked along its first axis, by one reader.

    Keeps the chunk that was decoded last: videos that follow each other share the one at their border. Arrays with
    other codecs than this program writes are read by Zarr.
    """

    def __init__(self, place: Place, name: str) -> None:
        self._place, self._name = place, name
        with damage_of(name, "is missing"):
            metadata = json.loads(place.read(f"{name}/zarr.json"))
        with damage_of(name, "is missing"):
            self.shape: tuple[int, ...] = tuple(metadata["shape"])
            self._shard: tuple[int, ...] = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])
            self._chunk, self._codec = _sharding(metadata)
        self._indices: dict[int, NDArray[np.uint64]] = {}
        self._last: tuple[int, NDArray[Any]] | None = None

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows ``start`` to ``stop``, in memory of their own. Raises Damage where they are not what was written."""
        if self._codec is None:
            return self._read_any(start, stop)
        out = np.empty((stop - start, *self.shape[1:]), dtype=self._codec.dtype)
        height = self._chunk[0]
        with damage_of(self._name, f"lacks rows {start} to {stop}"):
            for number, rows in self._chunks(start // height, -(-stop // height)):
                first = number * height
                begin, end = max(start, first), min(stop, first + height)
                out[begin - start : end - start] = rows[begin - first : end - first]
        return out

    def _chunks(self, first: int, last: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Chunks ``first`` to ``last`` (numbered through all shards) and their rows."""
        if self._last is not None and self._last[0] == first:
            yield self._last
            first += 1
        per_shard = self._shard[0] // self._chunk[0]
        while first < last:
            shard, begin = divmod(first, per_shard)
            end = min(per_shard, begin + last - first)
            for number, rows in self._of_shard(shard, begin, end):
                self._last = (shard * per_shard + number, rows)
                yield self._last
            first += end - begin

    def _of_shard(self, shard: int, begin: int, end: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Chunks ``begin`` to ``end`` of a shard, from as few reads as there are gaps between them."""
        index = self._index(shard)[begin:end]
        if (index == _MISSING).any():
            raise Damage(f"array {self._name!r} lacks a chunk of shard {shard}")
        offsets, sizes = index.astype(np.int64).T
        apart = np.flatnonzero((offsets[1:] < offsets[:-1]) | (offsets[1:] > offsets[:-1] + sizes[:-1] + _GAP)) + 1
        assert self._codec is not None
        for run in np.split(np.arange(end - begin), apart):
            base = offsets[run[0]]
            data = self._place.read_bytes(self._file(shard), int(base), int(offsets[run[-1]] + sizes[run[-1]] - base))
            for i in run:
                chunk = data[offsets[i] - base : offsets[i] - base + sizes[i]]
                yield begin + int(i), self._codec.decode(chunk, self._chunk)

    def _index(self, shard: int) -> NDArray[np.uint64]:
        """Offset and size of each chunk of a shard, which lie at its end."""
        if shard not in self._indices:
            count = self._shard[0] // self._chunk[0]
            data = self._place.read_bytes(self._file(shard), -(16 * count + CRC_BYTES))
            if len(data) != 16 * count + CRC_BYTES:
                raise ValueError(f"shard {shard} is cut")
            self._indices[shard] = checked(data).view("<u8").reshape(count, 2)
        return self._indices[shard]

    def _file(self, shard: int) -> str:
        return "/".join([self._name, "c", str(shard), *["0"] * (len(self.shape) - 1)])

    def _read_any(self, start: int, stop: int) -> NDArray[Any]:
        with damage_of(self._name, "is missing"):
            array = np.asarray(open_array(self._place, self._name)[start:stop])
        # Rows of a shard that is not there read as NaN, which no store holds.
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise Damage(f"array {self._name!r} lacks rows {start} to {stop}")
        return array


def _sharding(metadata: Any) -> tuple[tuple[int, ...], PlainCodec | None]:
    """Shape and decoder of the chunks in a shard; no decoder where only Zarr can read them."""
    plain = metadata["codecs"][0]
    if len(metadata["codecs"]) != 1 or plain["name"] != "sharding_indexed":
        return (), None
    options = plain["configuration"]
    chunk = tuple(options["chunk_shape"])
    shard = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    whole_rows = list(chunk[1:]) == metadata["shape"][1:] == shard[1:]
    usual = options["index_codecs"] == _INDEX_CODECS and options.get("index_location", "end") == "end"
    separator = metadata["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
    if not (whole_rows and usual and separator and math.prod(chunk)):
        return (), None
    return chunk, PlainCodec.of(options["codecs"], metadata["data_type"])
