"""Reads rows of the large, sharded arrays of a packed store with few file accesses."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.store.arrays import CRC_BYTES, Damage, PlainCodec, as_damage, open_array, strip_crc
from ssn_feat.store.backends import StoreBackend

_INDEX_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
_MISSING = np.uint64(2**64 - 1)
# Gaps between chunks up to this size are read too, to save a file access.
_GAP = 1 << 20


class ShardedRows:
    """Reads rows of a Zarr array that is sharded and chunked along its first axis. Not thread-safe.

    Keeps the last decoded chunk, since consecutive videos share the chunk at their border. Arrays with codecs that
    this program does not write are read by Zarr.
    """

    def __init__(self, backend: StoreBackend, name: str) -> None:
        self._backend, self._name = backend, name
        with as_damage(name, "is missing"):
            metadata = json.loads(backend.read(f"{name}/zarr.json"))
        with as_damage(name, "is missing"):
            self.shape: tuple[int, ...] = tuple(metadata["shape"])
            self._shard: tuple[int, ...] = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])
            self._chunk, self._codec = _sharding(metadata)
        self._indices: dict[int, NDArray[np.uint64]] = {}
        self._last: tuple[int, NDArray[Any]] | None = None

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """A copy of rows ``start`` to ``stop``. Raises Damage if they are missing or damaged."""
        if self._codec is None:
            return self._read_by_zarr(start, stop)
        out = np.empty((stop - start, *self.shape[1:]), dtype=self._codec.dtype)
        height = self._chunk[0]
        with as_damage(self._name, f"lacks rows {start} to {stop}"):
            for number, rows in self._chunks(start // height, -(-stop // height)):
                first = number * height
                begin, end = max(start, first), min(stop, first + height)
                out[begin - start : end - start] = rows[begin - first : end - first]
        return out

    def _chunks(self, first: int, last: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Numbers (across all shards) and rows of chunks ``first`` to ``last``."""
        if self._last is not None and self._last[0] == first:
            yield self._last
            first += 1
        per_shard = self._shard[0] // self._chunk[0]
        while first < last:
            shard, begin = divmod(first, per_shard)
            end = min(per_shard, begin + last - first)
            for number, rows in self._chunks_of_shard(shard, begin, end):
                self._last = (shard * per_shard + number, rows)
                yield self._last
            first += end - begin

    def _chunks_of_shard(self, shard: int, begin: int, end: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Numbers and rows of chunks ``begin`` to ``end`` of a shard. Neighbouring chunks are read together."""
        index = self._index(shard)[begin:end]
        if (index == _MISSING).any():
            raise Damage(f"array {self._name!r} lacks a chunk of shard {shard}")
        offsets, sizes = index.astype(np.int64).T
        apart = np.flatnonzero((offsets[1:] < offsets[:-1]) | (offsets[1:] > offsets[:-1] + sizes[:-1] + _GAP)) + 1
        assert self._codec is not None
        for run in np.split(np.arange(end - begin), apart):
            base = offsets[run[0]]
            data = self._backend.read_bytes(self._file(shard), int(base), int(offsets[run[-1]] + sizes[run[-1]] - base))
            for i in run:
                chunk = data[offsets[i] - base : offsets[i] - base + sizes[i]]
                yield begin + int(i), self._codec.decode(chunk, self._chunk)

    def _index(self, shard: int) -> NDArray[np.uint64]:
        """Offset and size of each chunk of a shard, uint64 ``(chunks, 2)``, stored at the end of the shard."""
        if shard not in self._indices:
            count = self._shard[0] // self._chunk[0]
            data = self._backend.read_bytes(self._file(shard), -(16 * count + CRC_BYTES))
            if len(data) != 16 * count + CRC_BYTES:
                raise ValueError(f"shard {shard} is truncated")
            self._indices[shard] = strip_crc(data).view("<u8").reshape(count, 2)
        return self._indices[shard]

    def _file(self, shard: int) -> str:
        return "/".join([self._name, "c", str(shard), *["0"] * (len(self.shape) - 1)])

    def _read_by_zarr(self, start: int, stop: int) -> NDArray[Any]:
        with as_damage(self._name, "is missing"):
            array = np.asarray(open_array(self._backend, self._name)[start:stop])
        # Zarr fills rows of a missing shard with NaN, which no store contains.
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise Damage(f"array {self._name!r} lacks rows {start} to {stop}")
        return array


def _sharding(metadata: Any) -> tuple[tuple[int, ...], PlainCodec | None]:
    """Shape and decoder of the chunks in a shard; the decoder is None if only Zarr can read them."""
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


__all__ = ["ShardedRows"]
