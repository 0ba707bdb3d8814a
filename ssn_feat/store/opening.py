"""Create and open stores of both tiers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssn_feat.errors import UserError
from ssn_feat.store.arrays import Compression
from ssn_feat.store.backends import StoreBackend
from ssn_feat.store.feature_store import FeatureStore
from ssn_feat.store.local_backend import LocalBackend
from ssn_feat.store.location import open_backend
from ssn_feat.store.packed import PackedStore
from ssn_feat.store.reading import FAILED, RUNS, VIDEOS
from ssn_feat.store.recipe import plain_recipe
from ssn_feat.store.staging import list_folder, writing
from ssn_feat.store.store_writer import FORMAT, FORMAT_VERSION, root_attributes

# Object stores may list a new object before it can be read.
_RETRY_SECONDS = (0.0, 0.1, 0.3)


def create_store(
    path: Path | str, recipe: Mapping[str, Any], name: str = "", compress: Compression | None = None
) -> FeatureStore:
    """Create an empty store for features of ``recipe`` at a local path or URL.

    ``name`` is the name of the data set (default: that of the path). ``compress`` is how arrays are stored (default:
    none); it does not change their values. Raises UserError if ``path`` exists, StoreWriteError if it cannot be
    written.
    """
    backend = open_backend(path)
    # Local folders are committed atomically; the commit itself tells whether the path is taken.
    taken = backend.is_remote and backend.is_taken()
    store = None if taken else _create(backend, recipe, name, compress)
    if store is None:
        raise UserError(f"{backend.path} already exists; open it, or choose another name for the new store")
    return store


def open_store(path: Path | str) -> FeatureStore:
    """Open a store of either tier by its local path or URL.

    Raises UserError if there is no store, or one of another format version.

    ::

        store = sf.open_store("features.zarr")
        store.read("v1").features["rgb"]  # float16 (T, D)
    """
    return _open(open_backend(path))


def open_or_create_store(
    path: Path | str, recipe: Mapping[str, Any], name: str = "", compress: Compression | None = None
) -> FeatureStore:
    """Open a store to write features of ``recipe`` into it, or create it if it does not exist.

    Streams of ``recipe`` that the store lacks are added to its recipe; its videos keep their features and get those
    of the new streams by :meth:`FeatureStore.add_streams`. Also removes what ended processes of this machine left
    behind. Arguments as for :func:`create_store`. Raises UserError if the store holds features of another recipe (with
    each field that differs and both values), was created with a ``compress`` other than the requested one, or is
    packed.
    """
    backend = open_backend(path)
    created = None if backend.is_taken() else _create(backend, recipe, name, compress)
    store = created or _open(backend)
    store.require_growing()
    store.require_recipe(recipe)
    if compress and compress != store.compress:
        raise UserError(f"the store {store.path} was made with --compress {store.compress}: leave that option out")
    store.clean()
    store.extend_recipe(recipe)
    return store


def store_exists(path: Path | str) -> bool:
    """Whether anything exists at ``path``, a local path or URL."""
    return open_backend(path).is_taken()


def _create(
    backend: StoreBackend, recipe: Mapping[str, Any], name: str, compress: Compression | None
) -> FeatureStore | None:
    """None if the backend's path is taken."""
    recipe = plain_recipe(recipe)
    name = name or str(backend.path).rpartition("/")[2].removesuffix(".zarr")
    attributes = root_attributes(FeatureStore.tier, name, recipe, compress)
    with writing(backend.path, backend.write_errors), backend.build("") as builder:
        for child in (VIDEOS, FAILED, RUNS):
            builder.add_group(child, {})
        builder.add_group("", attributes)
        committed = builder.commit()
    return FeatureStore(backend, attributes) if committed else None


def _open(backend: StoreBackend) -> FeatureStore:
    path = backend.path
    try:
        attributes = _root_attributes(backend)
    except PermissionError as error:
        raise UserError(f"cannot read the feature store {path}: {error.strerror}") from None
    except OSError:
        problem, advice = "does not exist", f"python extract/run.py VIDEOS {path} creates one"
        if _is_remainder(backend):
            problem, advice = "has lost its zarr.json", "if it was deleted on purpose, delete this folder, too"
        elif backend.is_taken():
            problem, advice = "exists but is not a feature store", "choose a path that does not exist for a new one"
        raise UserError(f"feature store {path} {problem}; {_suggestion(backend) or advice}") from None
    except ValueError as error:
        raise UserError(f"{path} is not a feature store: {error}") from None
    if attributes.get("format") != FORMAT:
        suggestion = _suggestion(backend)
        raise UserError(
            f"{path} is a Zarr group but not a feature store (format {attributes.get('format')!r})"
            + (f"; {suggestion}" if suggestion else "")
        )
    if attributes.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"feature store {path} has format version {attributes.get('format_version')!r}, "
            f"this program reads version {FORMAT_VERSION}"
        )
    return (PackedStore if attributes.get("tier") == PackedStore.tier else FeatureStore)(backend, attributes)


def _root_attributes(backend: StoreBackend) -> dict[str, Any]:
    """Attributes of a store. Waits for another process that is creating it; raises OSError if there are none."""
    for seconds in _RETRY_SECONDS if backend.is_remote else _RETRY_SECONDS[:1]:
        try:
            return backend.attributes("")
        except FileNotFoundError:
            if not backend.is_taken():
                raise
        # Created by another process between the two calls.
        time.sleep(seconds)
    return backend.attributes("")


def _is_remainder(backend: StoreBackend) -> bool:
    """Whether a folder holds groups of a store and nothing else: the rest of a store that was deleted in part."""
    if not isinstance(backend, LocalBackend) or not backend.path.is_dir():
        return False
    names = {entry.name for entry in list_folder(backend.path)}
    return bool(names) and names <= {VIDEOS, FAILED, RUNS}


def _suggestion(backend: StoreBackend) -> str:
    """The store that was probably meant: the one that contains this folder, or one in it."""
    if not isinstance(backend, LocalBackend):
        return ""
    candidates = list(backend.path.absolute().parents)[:3]
    if backend.path.is_dir():
        candidates += sorted(backend.path.glob("*.zarr"))
    store = next((path for path in candidates if _is_store(path)), None)
    return f"did you mean {store}?" if store else ""


def _is_store(path: Path) -> bool:
    try:
        return LocalBackend(path).attributes("").get("format") == FORMAT
    except (OSError, ValueError):
        return False


__all__ = ["create_store", "open_or_create_store", "open_store", "store_exists"]
