"""One array out of one file of features, without ever running what is in the file."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError

# All that a pickled array of numbers refers to, by the names that numpy 1 and 2 give it.
_HARMLESS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((module, "_reconstruct") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    *((module, "scalar") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    *((module, "_frombuffer") for module in ("numpy.core.numeric", "numpy._core.numeric")),
    ("_codecs", "encode"),
}


class _NumbersOnly(pickle.Unpickler):
    """Unpickles arrays, lists, dicts and plain values; whatever else a file asks for is refused, not called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _HARMLESS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array of numbers")


def import_h5py() -> Any:
    """The h5py module. Raises UserError naming the extra where it is not installed."""
    try:
        import h5py
    except ImportError:
        raise UserError("HDF5 files need h5py: pip install 'ssn-feat[hdf5]'") from None
    return h5py


def read_array(path: Path, key: str = "") -> NDArray[Any]:
    """The array in a file: .npy, .npz, .pt, .csv, .pkl or .h5, by its ending.

    ``key`` says which one where a file holds several by name. Raises UserError where there is none, or no such one.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: features are read from files that end in {' '.join(sorted(_READERS))}")
    try:
        found = reader(path, key)
    except (UserError, FileNotFoundError):
        raise
    except Exception as error:  # parsers of damaged files raise what they like
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from error
    try:
        array = np.asarray(found)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "fiu":
        raise UserError(f"{path} holds no array of numbers{f' under {key!r}' if key else ''}, but {_kind(found)}")
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
    wanted = f"no entry {key!r}" if key else f"{len(held)} entries"
    raise UserError(f"{path} holds {wanted}: it has {names}; name one as {path.name}:NAME")


def _npy(path: Path, key: str) -> Any:
    return np.load(path, allow_pickle=False)


def _npz(path: Path, key: str) -> Any:
    with np.load(path, allow_pickle=False) as archive:
        names = {name: name for name in archive.files}
        return archive[_pick(path, names, key)]


def _pt(path: Path, key: str) -> Any:
    import torch

    found = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(found, Mapping):
        found = _pick(path, found, key)
    if isinstance(found, list | tuple) and all(isinstance(item, torch.Tensor) for item in found):
        found = torch.stack([item.squeeze(0) for item in found])
    if isinstance(found, torch.Tensor):
        found = found.detach()
        found = (found.float() if found.dtype == torch.bfloat16 else found).numpy()
    return found


def _csv(path: Path, key: str) -> Any:
    """Rows of numbers, separated by commas or white space; a first line that is not numbers is a header."""
    text = path.read_text(encoding="utf-8")
    first = text.lstrip().partition("\n")[0]
    separator = "," if "," in first else None
    try:
        [float(cell) for cell in first.split(separator)]
        skipped = 0
    except ValueError:
        skipped = 1
    return np.loadtxt(io.StringIO(text.lstrip()), delimiter=separator, skiprows=skipped, ndmin=2, dtype=np.float64)


def _pkl(path: Path, key: str) -> Any:
    with open(path, "rb") as file:
        found = _NumbersOnly(file).load()
    return _pick(path, found, key) if isinstance(found, dict) else found


def _hdf5(path: Path, key: str) -> Any:
    h5py = import_h5py()
    with h5py.File(path, "r") as file:
        if not key:
            return _pick(path, {name: file[name] for name in datasets(path)}, "")[()]
        if key not in file or not isinstance(file.get(key, getlink=True), h5py.HardLink):
            raise UserError(f"{path} has no data set {key!r}")
        if not isinstance(file[key], h5py.Dataset):
            raise UserError(f"{key!r} in {path} is a group, not a data set: name one in it, as {key}/NAME")
        return file[key][()]


def datasets(path: Path) -> list[str]:
    """Names of the data sets in an HDF5 file, groups included in the names. Links to other files are not followed."""
    h5py = import_h5py()
    names: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            names.append(name)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except OSError as error:
        raise UserError(f"{path} cannot be read as HDF5: {' '.join(str(error).split())[:200]}") from None
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
