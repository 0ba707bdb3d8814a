"""Arrays of one video on disk: features and float64 spans, one chunk each, checked at writing and reading."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import google_crc32c  # comes with zarr
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError

if TYPE_CHECKING:
    from ssn_feat.store.backends import Build, Place

TIME = "time"
FEATURE_TYPES = ("float16", "float32")
Compression = Literal["none", "zstd"]


def as_features(values: ArrayLike, where: str, dtype: str = "float16") -> NDArray[np.floating[Any]]:
    """Features as stored: ``dtype`` (float16 or float32) ``(T, D)`` or ``(T, C, D)``, in C order.

    Raises UserError where ``values`` have another shape, are no floats, are not finite or do not fit ``dtype``;
    ``where`` names the video and the stream in the message.
    """
    array = np.asarray(values)
    if array.dtype.kind != "f":
        raise UserError(f"{where}: features must be floating-point numbers, not {array.dtype}")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise UserError(f"{where}: features must be (T, D) or (T, C, D) with no empty axis, not {array.shape}")
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        row = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise UserError(f"{where}: {bad} of {array.size} features are not finite, the first in row {row}")
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(array, dtype=dtype)
    over = array.size - int(np.isfinite(stored).sum())
    if over:
        raise UserError(
            f"{where}: {over} of {array.size} features do not fit {dtype}, which ends at {np.finfo(dtype).max:g}; "
            f"the largest is {float(np.abs(array).max()):g}"
        )
    return stored


def as_spans(spans: ArrayLike, where: str) -> NDArray[np.float64]:
    """Spans of snippets as stored: float64 ``(T, 2)``, seconds; each ends after it starts, starts never go back.

    Raises UserError with the first row that breaks this.
    """
    array = np.ascontiguousarray(spans, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or len(array) == 0:
        raise UserError(f"{where}: spans must be (T, 2) with at least one row, not {array.shape}")
    wrong = ~np.isfinite(array).all(axis=1) | (array[:, 1] < array[:, 0])
    wrong[1:] |= array[1:, 0] < array[:-1, 0]
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"{where}: span {row} of {len(array)} is {array[row].tolist()} seconds: "
            "spans must be finite, start in order and end after they start"
        )
    return array


def sha256(array: NDArray[Any]) -> str:
    """sha256 of an array's values as little-endian bytes in C order: independent of chunks and compression."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return hashlib.sha256(little.data.cast("B") if little.size else b"").hexdigest()


def describe(array: NDArray[Any]) -> dict[str, Any]:
    """What a video's attributes say of one of its arrays."""
    return {
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "sha256": sha256(array),
        "max_abs": float(np.abs(array).max()),
    }


def create_array(
    target: Any,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any] | str,
    chunks: tuple[int, ...] | None = None,
    shards: tuple[int, ...] | None = None,
    compress: Compression = "none",
) -> Any:
    """A new Zarr array ``name`` at a place in a group in the making: crc32c, by default no compression and one chunk.

    ``target``: as :meth:`ssn_feat.store.backends.Build.array` gives it. What is there under that name, left behind by a
    writer that was killed, is written over.
    """
    import zarr

    axes = {TIME: ("snippet", "bound"), "offsets": ("video",), "index": ("byte",)}
    return zarr.create_array(
        # At its own place: given a name, Zarr makes the group around it too, which would be taken for committed.
        target,
        shape=shape,
        chunks=chunks or shape,
        shards=shards,
        dtype=np.dtype(dtype),
        compressors=_codecs(compress, np.dtype(dtype)),
        filters=None,
        # Readers that take a missing chunk for fill values get NaN from it, not features that look real.
        fill_value=np.nan if np.dtype(dtype).kind == "f" else 0,
        dimension_names=axes.get(name, ("snippet", "feature") if len(shape) == 2 else ("snippet", "crop", "feature")),
        config={"write_empty_chunks": True},
        overwrite=True,
        zarr_format=3,
    )


def _codecs(compress: Compression, dtype: np.dtype[Any]) -> list[Any]:
    """Codecs after the one that makes bytes. The crc32c is the last, of the bytes on disk: decoders see whole data."""
    from zarr.codecs import BloscCodec, Crc32cCodec

    if compress == "none":
        return [Crc32cCodec()]
    # Shuffled by byte: features with zeros in them shrink to 1/1.6 of their size then, with shuffled bits to 1/1.3.
    return [BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=dtype.itemsize), Crc32cCodec()]


def write_array(build: Build, name: str, array: NDArray[Any], compress: Compression = "none") -> None:
    """Write ``array`` as the Zarr array ``name`` in a group in the making, in one chunk."""
    with build.small_array(name) as target:
        create_array(target, name, array.shape, array.dtype, compress=compress)[...] = array


class Damage(Exception):
    """An array on disk is not what was written: missing, cut, changed. The message says which array and how."""


def read_array(place: Place, name: str, described: Mapping[str, Any]) -> NDArray[Any]:
    """Read the Zarr array ``name`` of a store that :func:`describe` described.

    Raises Damage where it or a chunk is missing or does not match its crc32c, and for another shape or type.
    """
    label = name.rpartition("/")[2]
    with damage_of(label, "is missing"):
        metadata = json.loads(place.read(f"{name}/zarr.json"))
    with damage_of(label, "lacks its chunk"):
        plain = PlainCodec.of(metadata["codecs"], metadata["data_type"])
        if plain is not None and _is_one_chunk(metadata):
            shape = tuple(metadata["shape"])
            array = plain.decode(place.read_bytes(f"{name}/{'/'.join(['c', *['0'] * len(shape)])}"), shape)
        else:
            array = _read_any(place, name, label)
    check_shape(label, array, described)
    return array


@contextmanager
def damage_of(label: str, missing: str) -> Iterator[None]:
    """Turns what reading the array ``label`` raises into Damage; ``missing`` says what a file's absence means."""
    try:
        yield
    except (Damage, UserError):
        raise
    except FileNotFoundError:
        raise Damage(f"array {label!r} {missing}") from None
    except Exception as error:  # codecs raise what they like on bytes that are not theirs
        raise Damage(f"array {label!r} is damaged ({' '.join(str(error).split())[:120]})") from error


def check_shape(name: str, array: NDArray[Any], described: Mapping[str, Any]) -> None:
    """Raises Damage unless the array has the shape and type that :func:`describe` recorded."""
    shape, dtype = tuple(_recorded(name, described, "shape")), _recorded(name, described, "dtype")
    if array.shape != shape or array.dtype.name != dtype:
        raise Damage(f"array {name!r} is {array.dtype.name} {array.shape}, recorded was {dtype} {shape}")


def check_hash(name: str, array: NDArray[Any], described: Mapping[str, Any]) -> None:
    """Raises Damage unless the array has the sha256 that :func:`describe` recorded."""
    if sha256(array) != _recorded(name, described, "sha256"):
        raise Damage(f"array {name!r} is damaged (its sha256 is not the one recorded)")


def _recorded(name: str, described: Mapping[str, Any], what: str) -> Any:
    try:
        return described[what]
    except (KeyError, TypeError):
        raise Damage(f"zarr.json lacks the {what} of array {name!r}") from None


# A Zarr reader passes every array through an event loop in another thread, which takes longer than reading it. What
# this program writes is so plain (bytes, at most compressed, and a crc32c of them) that it can be read as a file.
_PLAIN_TYPES = ("float16", "float32", "float64", "int64")
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC = {"name": "crc32c"}
CRC_BYTES = 4


@dataclass(frozen=True)
class PlainCodec:
    """Decodes chunks that this program wrote."""

    dtype: np.dtype[Any]
    blosc: bool

    @classmethod
    def of(cls, codecs: Any, data_type: Any) -> PlainCodec | None:
        """The decoder for chunks of these codecs (as in ``zarr.json``); None where only Zarr can read them."""
        between = codecs[1:-1]
        if data_type not in _PLAIN_TYPES or codecs[:1] != [_BYTES] or codecs[-1:] != [_CRC] or len(between) > 1:
            return None
        if between and between[0]["name"] != "blosc":
            return None
        return cls(np.dtype(data_type).newbyteorder("<"), bool(between))

    def decode(self, data: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[Any]:
        """The values of a chunk. Raises ValueError where it is not whole."""
        expected = math.prod(shape) * self.dtype.itemsize
        if len(data) <= CRC_BYTES or (not self.blosc and len(data) != expected + CRC_BYTES):
            raise ValueError(f"{len(data)} of {expected + CRC_BYTES} bytes")
        values = checked(data)
        if self.blosc:
            from numcodecs import blosc

            values = np.empty(expected, dtype=np.uint8)
            blosc.decompress(data[:-CRC_BYTES].tobytes(), values)
        return values.view(self.dtype).reshape(shape)


def checked(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``data`` without the crc32c at its end. Raises ValueError where that does not match."""
    values, stored = data[:-CRC_BYTES], int(data[-CRC_BYTES:].copy().view("<u4")[0])
    if google_crc32c.value(values) != stored:
        raise ValueError("its crc32c does not match")
    return values


def _is_one_chunk(metadata: Mapping[str, Any]) -> bool:
    encoding = {"name": "default", "configuration": {"separator": "/"}}
    one = metadata["chunk_grid"]["configuration"]["chunk_shape"] == metadata["shape"]
    return bool(one and metadata["chunk_key_encoding"] == encoding)


def open_array(place: Place, name: str) -> Any:
    """An array by Zarr, for reading, which must be one of Zarr 3: codecs of Zarr 2 may unpickle what they read."""
    import zarr

    return zarr.open_array(place.arrays(name), mode="r", zarr_format=3)


def _read_any(place: Place, name: str, label: str) -> NDArray[Any]:
    source = open_array(place, name)
    if source.nchunks_initialized != source.nchunks:
        raise Damage(f"array {label!r} lacks {source.nchunks - source.nchunks_initialized} of {source.nchunks} chunks")
    return np.asarray(source[...])
