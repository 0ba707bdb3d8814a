"""Read an array from a file of features without executing anything in the file."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.safe_loading import MOST_DEFLATED, load_npy, load_npz, load_torch, one_line

# Everything that a pickled array of numbers refers to, by the names in NumPy 1 and 2.
_HARMLESS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((module, "_reconstruct") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    *((module, "scalar") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    *((module, "_frombuffer") for module in ("numpy.core.numeric", "numpy._core.numeric")),
    ("_codecs", "encode"),
}


class _NumbersOnly(pickle.Unpickler):
    """Unpickles arrays, lists, dicts and plain values. Refuses everything else without calling it."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _HARMLESS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is not part of an array of numbers")


def import_h5py() -> Any:
    """The h5py module. Raises UserError naming the extra if it is not installed."""
    try:
        import h5py
    except ImportError:
        raise UserError("HDF5 files need h5py: pip install 'ssn-feat[hdf5]'") from None
    return h5py


def read_array_file(path: Path, key: str = "") -> NDArray[Any]:
    """Read the array in a .npy, .npz, .pt, .csv, .pkl or .h5 file.

    ``key`` is the name of the array in a file that holds several. Integers become float64. Raises UserError if there
    is no such array, or if it is not numeric.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: features must be in a file that ends in {' '.join(sorted(_READERS))}")
    try:
        value = reader(path, key)
    except (UserError, FileNotFoundError):
        raise
    except Exception as error:  # parsers raise exceptions of any type for damaged files
        raise UserError(f"{path} cannot be read: {one_line(error)}") from None
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "fiu":
        raise UserError(f"{path} holds {_kind(value)}{f' under {key!r}' if key else ''}, not an array of numbers")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _kind(value: Any) -> str:
    return f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__


def _pick(path: Path, held: Mapping[Any, Any], key: str) -> Any:
    """The entry ``key``, or the only one."""
    if key in held:
        return held[key]
    if not key and len(held) == 1:
        return next(iter(held.values()))
    names = ", ".join(repr(str(name)) for name in list(held)[:10])
    problem = f"has no entry {key!r}" if key else f"has {len(held)} entries"
    raise UserError(f"{path} {problem} (entries: {names}); choose one with {path.name}:NAME")


def _npy(path: Path, key: str) -> Any:
    return load_npy(path)


def _npz(path: Path, key: str) -> Any:
    (array,) = load_npz(path, lambda names: [_pick(path, {name: name for name in names}, key)]).values()
    return array


def _pt(path: Path, key: str) -> Any:
    import torch

    value = load_torch(path.read_bytes())
    if isinstance(value, Mapping):
        value = _pick(path, value, key)
    if isinstance(value, list | tuple) and all(isinstance(item, torch.Tensor) for item in value):
        value = torch.stack([item.squeeze(0) for item in value])
    if isinstance(value, torch.Tensor):
        value = value.detach()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return value


def _csv(path: Path, key: str) -> Any:
    """Rows of numbers separated by commas or white space. A first line that is not numeric is a header."""
    text = path.read_text(encoding="utf-8")
    first = text.lstrip().partition("\n")[0]
    separator = "," if "," in first else None
    try:
        [float(cell) for cell in first.split(separator)]
        skipped = 0
    except ValueError:
        skipped = 1
    if not text.strip().partition("\n")[2] and skipped:
        raise ValueError("it has no row of numbers")
    return np.loadtxt(io.StringIO(text.lstrip()), delimiter=separator, skiprows=skipped, ndmin=2, dtype=np.float64)


def _pkl(path: Path, key: str) -> Any:
    with open(path, "rb") as file:
        value = _NumbersOnly(file).load()
        size = file.tell()
    for array in value.values() if isinstance(value, dict) else [value]:
        if isinstance(array, np.ndarray) and array.nbytes > size:
            raise ValueError(f"an array of shape {array.shape} does not fit into {size:,} bytes")
    return _pick(path, value, key) if isinstance(value, dict) else value


def _hdf5(path: Path, key: str) -> Any:
    h5py = import_h5py()
    with h5py.File(path, "r") as file:
        if not key:
            return _values(path, _pick(path, {name: file[name] for name in hdf5_datasets(path)}, ""))
        if key not in file or not isinstance(file.get(key, getlink=True), h5py.HardLink):
            raise UserError(f"{path} has no data set {key!r}")
        if not isinstance(file[key], h5py.Dataset):
            raise UserError(f"{key!r} in {path} is a group, not a data set: choose a data set in it with {key}/NAME")
        return _values(path, file[key])


def _values(path: Path, data: Any) -> Any:
    """The values of a data set. Raises UserError if they are in another file or only claimed."""
    if data.is_virtual or data.external:
        raise UserError(f"{path}: the values of the data set {data.name!r} are in other files, which are not read")
    stored = data.id.get_storage_size()
    if data.nbytes > MOST_DEFLATED * stored:
        raise UserError(
            f"{path}: the data set {data.name!r} claims {data.dtype} {data.shape}, {data.nbytes:,} bytes, of which "
            f"{stored:,} are there"
        )
    return data[()]


def hdf5_datasets(path: Path) -> list[str]:
    """Names (with their groups) of the data sets in an HDF5 file. Links to other files are not followed.

    Raises UserError if the file cannot be read.
    """
    h5py = import_h5py()
    names: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            names.append(name)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except Exception as error:  # the library raises exceptions of any type for damaged files
        raise UserError(f"{path} cannot be read as HDF5: {one_line(error)}") from None
    return names


HDF5_ENDINGS = (".h5", ".hdf5")
PICKLE_ENDINGS = (".pkl", ".pickle")
_READERS: dict[str, Callable[[Path, str], Any]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".pt": _pt,
    ".pth": _pt,
    ".csv": _csv,
    ".txt": _csv,
    **dict.fromkeys(PICKLE_ENDINGS, _pkl),
    **dict.fromkeys(HDF5_ENDINGS, _hdf5),
}


__all__ = ["HDF5_ENDINGS", "PICKLE_ENDINGS", "hdf5_datasets", "import_h5py", "read_array_file"]
