"""Arrays of one video on disk: features and float64 spans, one chunk each, checked at writing and reading."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import google_crc32c  # comes with zarr
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError

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
    folder: Path,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any] | str,
    chunks: tuple[int, ...] | None = None,
    shards: tuple[int, ...] | None = None,
    compress: Compression = "none",
) -> Any:
    """A new Zarr array ``folder/name``: crc32c, by default no compression and one chunk."""
    import zarr

    axes = {TIME: ("snippet", "bound"), "offsets": ("video",), "index": ("byte",)}
    return zarr.create_array(
        os.fspath(folder),
        name=name,
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
    )


def _codecs(compress: Compression, dtype: np.dtype[Any]) -> list[Any]:
    """Codecs after the one that makes bytes. The crc32c is the last, of the bytes on disk: decoders see whole data."""
    from zarr.codecs import BloscCodec, Crc32cCodec

    if compress == "none":
        return [Crc32cCodec()]
    # Shuffled by byte: of features with zeros in them that made 1.6 of the plain size where shuffled bits made 1.3.
    return [BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=dtype.itemsize), Crc32cCodec()]


def write_array(folder: Path, name: str, array: NDArray[Any], compress: Compression = "none") -> None:
    """Write ``array`` as the Zarr array ``folder/name``, in one chunk."""
    create_array(folder, name, array.shape, array.dtype, compress=compress)[...] = array


class Damage(Exception):
    """An array on disk is not what was written: missing, cut, changed. The message says which array and how."""


def read_array(folder: Path, name: str, described: Mapping[str, Any]) -> NDArray[Any]:
    """Read the Zarr array ``folder/name`` that :func:`describe` described.

    Raises Damage where it or a chunk is missing or does not match its crc32c, and for another shape or type.
    """
    try:
        metadata = json.loads((folder / name / "zarr.json").read_bytes())
        array = _read_plain(folder / name, metadata) if _is_plain(metadata) else _read_any(folder / name, name)
    except Damage:
        raise
    except FileNotFoundError as error:
        what = "is missing" if str(error.filename).endswith("zarr.json") else "lacks its chunk"
        raise Damage(f"array {name!r} {what}") from None
    except Exception as error:  # codecs raise what they like on bytes that are not theirs
        raise Damage(f"array {name!r} is damaged ({' '.join(str(error).split())[:120]})") from error
    check_shape(name, array, described)
    return array


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
# this program writes is so plain (one chunk, its values, four bytes of crc32c) that it can be read as a file.
_PLAIN_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
_PLAIN_TYPES = ("float16", "float32", "float64")
_CRC_BYTES = 4


def _is_plain(metadata: Mapping[str, Any]) -> bool:
    return (
        metadata["codecs"] == _PLAIN_CODECS
        and metadata["data_type"] in _PLAIN_TYPES
        and metadata["chunk_grid"]["configuration"]["chunk_shape"] == metadata["shape"]
        and metadata["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
    )


def _read_plain(path: Path, metadata: Mapping[str, Any]) -> NDArray[Any]:
    shape, dtype = metadata["shape"], np.dtype(metadata["data_type"]).newbyteorder("<")
    data = np.fromfile(path.joinpath("c", *["0"] * len(shape)), dtype=np.uint8)
    expected = math.prod(shape) * dtype.itemsize + _CRC_BYTES
    if len(data) != expected:
        raise ValueError(f"{len(data)} of {expected} bytes")
    values, stored = data[:-_CRC_BYTES], int(data[-_CRC_BYTES:].view("<u4")[0])
    if google_crc32c.value(values) != stored:
        raise ValueError("its crc32c does not match")
    return values.view(dtype).reshape(shape)


def _read_any(path: Path, name: str) -> NDArray[Any]:
    import zarr

    source = zarr.open_array(os.fspath(path), mode="r")
    if source.nchunks_initialized != source.nchunks:
        raise Damage(f"array {name!r} lacks {source.nchunks - source.nchunks_initialized} of {source.nchunks} chunks")
    return np.asarray(source[...])
