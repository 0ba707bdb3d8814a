"""The arrays of one video on disk: features and float64 spans, one chunk each, checked when written and read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import google_crc32c  # comes with zarr
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError
from ssn_feat.store.backends import GroupBuilder, StoreBackend

TIME = "time"
FEATURE_TYPES = ("float16", "float32")
Compression = Literal["none", "zstd"]


def as_features(values: ArrayLike, where: str, dtype: str = "float16") -> NDArray[np.floating[Any]]:
    """Features as stored: ``dtype`` (float16 or float32) ``(T, D)`` or ``(T, C, D)``, in C order.

    Raises UserError if ``values`` have another shape, are not floating-point numbers, are not finite or do not fit
    ``dtype``; ``where`` names the video and the stream in the message.
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
            f"{where}: {over} of {array.size} features do not fit {dtype}, whose maximum is {np.finfo(dtype).max:g}; "
            f"the largest is {float(np.abs(array).max()):g}"
        )
    return stored


def as_spans(spans: ArrayLike, where: str) -> NDArray[np.float64]:
    """Spans of snippets as stored: float64 ``(T, 2)``, seconds, with start <= end in each row and ascending starts.

    Raises UserError with the first row that violates this.
    """
    array = np.ascontiguousarray(spans, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or len(array) == 0:
        raise UserError(f"{where}: spans must be (T, 2) with at least one row, not {array.shape}")
    invalid = ~np.isfinite(array).all(axis=1) | (array[:, 1] < array[:, 0])
    invalid[1:] |= array[1:, 0] < array[:-1, 0]
    if invalid.any():
        row = int(np.argmax(invalid))
        raise UserError(
            f"{where}: span {row} of {len(array)} is {array[row].tolist()} seconds: "
            "spans must be finite, ascend, and not end before they start"
        )
    return array


def sha256(array: NDArray[Any]) -> str:
    """sha256 of an array's values as little-endian bytes in C order, independent of chunks and compression."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return hashlib.sha256(little.data.cast("B") if little.size else b"").hexdigest()


def describe_array(array: NDArray[Any]) -> dict[str, Any]:
    """The description of an array in the attributes of its video."""
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
    """Create the Zarr array ``name`` with a crc32c per chunk, by default without compression and in one chunk.

    ``target`` is from :meth:`ssn_feat.store.backends.GroupBuilder.zarr_target`. An array of that name that a killed
    writer left behind is overwritten.
    """
    import zarr

    axes = {TIME: ("snippet", "bound"), "offsets": ("video",), "index": ("byte",)}
    return zarr.create_array(
        # Not by name in a group: Zarr would then create the group too, which readers would take for committed.
        target,
        shape=shape,
        chunks=chunks or shape,
        shards=shards,
        dtype=np.dtype(dtype),
        compressors=_codecs(compress, np.dtype(dtype)),
        filters=None,
        # A reader that replaces a missing chunk by the fill value gets NaN, not plausible features.
        fill_value=np.nan if np.dtype(dtype).kind == "f" else 0,
        dimension_names=axes.get(
            name.partition("~")[0], ("snippet", "feature") if len(shape) == 2 else ("snippet", "crop", "feature")
        ),
        config={"write_empty_chunks": True},
        overwrite=True,
        zarr_format=3,
    )


def _codecs(compress: Compression, dtype: np.dtype[Any]) -> list[Any]:
    """Codecs after the bytes codec. The crc32c comes last and covers the bytes on disk: decoders see intact data."""
    from zarr.codecs import BloscCodec, Crc32cCodec

    if compress == "none":
        return [Crc32cCodec()]
    # Byte shuffle: sparse features shrink by a factor of 1.6, with bit shuffle only by 1.3.
    return [BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=dtype.itemsize), Crc32cCodec()]


def write_array(builder: GroupBuilder, name: str, array: NDArray[Any], compress: Compression = "none") -> None:
    """Write ``array`` as the Zarr array ``name`` of the group that is being built, in one chunk."""
    with builder.small_zarr_target(name) as target:
        create_array(target, name, array.shape, array.dtype, compress=compress)[...] = array


class Damage(Exception):
    """An array on disk is missing, truncated or changed. The message says which array and how."""


def read_array(backend: StoreBackend, name: str, described: Mapping[str, Any]) -> NDArray[Any]:
    """Read the Zarr array ``name`` of a store; ``described`` is from :func:`describe_array`.

    Raises Damage if the array or a chunk is missing, does not match its crc32c, or has another shape or dtype.
    """
    label = name.rpartition("/")[2]
    with as_damage(label, "is missing"):
        metadata = json.loads(backend.read(f"{name}/zarr.json"))
    with as_damage(label, "lacks its chunk"):
        plain = PlainCodec.of(metadata["codecs"], metadata["data_type"])
        if plain is not None and _is_one_chunk(metadata):
            shape = tuple(metadata["shape"])
            array = plain.decode(backend.read_bytes(f"{name}/{'/'.join(['c', *['0'] * len(shape)])}"), shape)
        else:
            array = _read_by_zarr(backend, name, label)
    check_shape(label, array, described)
    return array


@contextmanager
def as_damage(label: str, missing: str) -> Iterator[None]:
    """Turn exceptions from reading the array ``label`` into Damage; ``missing`` says what a missing file means."""
    try:
        yield
    except (Damage, UserError):
        raise
    except FileNotFoundError:
        raise Damage(f"array {label!r} {missing}") from None
    except Exception as error:  # codecs raise exceptions of any type for invalid bytes
        raise Damage(f"array {label!r} is damaged ({' '.join(str(error).split())[:120]})") from error


def check_shape(name: str, array: NDArray[Any], described: Mapping[str, Any]) -> None:
    """Raises Damage unless the array has the recorded shape and dtype."""
    shape, dtype = tuple(_recorded(name, described, "shape")), _recorded(name, described, "dtype")
    if array.shape != shape or array.dtype.name != dtype:
        raise Damage(f"array {name!r} is {array.dtype.name} {array.shape}, recorded was {dtype} {shape}")


def check_hash(name: str, array: NDArray[Any], described: Mapping[str, Any]) -> None:
    """Raises Damage unless the array has the recorded sha256."""
    if sha256(array) != _recorded(name, described, "sha256"):
        raise Damage(f"array {name!r} is damaged (its sha256 differs from the recorded one)")


def _recorded(name: str, described: Mapping[str, Any], what: str) -> Any:
    try:
        return described[what]
    except (KeyError, TypeError):
        raise Damage(f"zarr.json lacks the {what} of array {name!r}") from None


# Zarr passes every array through an event loop in another thread, which takes longer than reading the file. The codecs
# that this program uses (bytes, optional compression, crc32c) are simple enough to be decoded directly.
_PLAIN_TYPES = ("float16", "float32", "float64", "int64")
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC = {"name": "crc32c"}
CRC_BYTES = 4


@dataclass(frozen=True)
class PlainCodec:
    """Decoder of chunks that this program wrote."""

    dtype: np.dtype[Any]
    blosc: bool

    @classmethod
    def of(cls, codecs: Any, data_type: Any) -> PlainCodec | None:
        """The decoder for the codecs of a ``zarr.json``; None if only Zarr can decode them."""
        between = codecs[1:-1]
        if data_type not in _PLAIN_TYPES or codecs[:1] != [_BYTES] or codecs[-1:] != [_CRC] or len(between) > 1:
            return None
        if between and between[0]["name"] != "blosc":
            return None
        return cls(np.dtype(data_type).newbyteorder("<"), bool(between))

    def decode(self, data: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[Any]:
        """The values of a chunk. Raises ValueError if it is truncated or damaged."""
        expected = math.prod(shape) * self.dtype.itemsize
        if len(data) <= CRC_BYTES or (not self.blosc and len(data) != expected + CRC_BYTES):
            raise ValueError(f"{len(data)} of {expected + CRC_BYTES} bytes")
        values = strip_crc(data)
        if self.blosc:
            from numcodecs import blosc

            values = np.empty(expected, dtype=np.uint8)
            blosc.decompress(data[:-CRC_BYTES].tobytes(), values)
        return values.view(self.dtype).reshape(shape)


def strip_crc(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``data`` without the crc32c at its end. Raises ValueError if it does not match."""
    values, stored = data[:-CRC_BYTES], int(data[-CRC_BYTES:].copy().view("<u4")[0])
    if google_crc32c.value(values) != stored:
        raise ValueError("its crc32c does not match")
    return values


def _is_one_chunk(metadata: Mapping[str, Any]) -> bool:
    encoding = {"name": "default", "configuration": {"separator": "/"}}
    whole = metadata["chunk_grid"]["configuration"]["chunk_shape"] == metadata["shape"]
    return bool(whole and metadata["chunk_key_encoding"] == encoding)


def open_array(backend: StoreBackend, name: str) -> Any:
    """Open an array for reading by Zarr. Zarr 2 is refused because its codecs may unpickle data."""
    import zarr

    return zarr.open_array(backend.zarr_source(name), mode="r", zarr_format=3)


def _read_by_zarr(backend: StoreBackend, name: str, label: str) -> NDArray[Any]:
    source = open_array(backend, name)
    if source.nchunks_initialized != source.nchunks:
        raise Damage(f"array {label!r} lacks {source.nchunks - source.nchunks_initialized} of {source.nchunks} chunks")
    return np.asarray(source[...])


__all__ = [
    "CRC_BYTES",
    "FEATURE_TYPES",
    "TIME",
    "Compression",
    "Damage",
    "PlainCodec",
    "as_damage",
    "as_features",
    "as_spans",
    "check_hash",
    "check_shape",
    "create_array",
    "describe_array",
    "open_array",
    "read_array",
    "sha256",
    "strip_crc",
    "write_array",
]
