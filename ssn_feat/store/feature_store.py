"""The feature store, format 1: features of a data set, one Zarr group per video, safe against any end.

This is the growing tier; :mod:`ssn_feat.store.packed` is the other, made from it and read through the same interface.

::

    NAME.zarr/                 attributes: format, format_version, tier, name, recipe, fingerprint
      videos/<key>/            there under this name = committed; attributes: id, duration, fps, ..., arrays
        rgb, flow, ...         float16 (T, D) or (T, C, D); float32 where the recipe says "dtype": "float32"
        time                   float64 (T, 2), start and end of each snippet in seconds
      failed/<key>/            attributes: id, reason, tries, time
      runs/<key>/              attributes: what an extraction run meant to do (videos, their predicted rows, options)
    NAME.zarr.staging/         videos that are being written, claims of the processes that do so

Any Zarr 3 library reads it. Any number of processes may write at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError
from ssn_feat.store.arrays import TIME, Compression, as_features, as_spans, write_array
from ssn_feat.store.backends import Place, place_of
from ssn_feat.store.files import Staging, writing
from ssn_feat.store.keys import key_of
from ssn_feat.store.local_store import LocalPlace
from ssn_feat.store.reading import FAILED, RUNS, VIDEOS, StoreReader, group_of
from ssn_feat.store.recipe import differences, fingerprint, plain_recipe, short
from ssn_feat.store.records import attributes_of

FORMAT = "ssn_feat feature store"
FORMAT_VERSION = 1
# Object stores may show a new object in a list before they give it out.
_WAITS = (0.0, 0.1, 0.3)


class FeatureStore(StoreReader):
    """Features of the videos of a data set. Made by :meth:`create`, :meth:`open` or :meth:`open_or_create`.

    Holds no open files and no caches of what may change: it sees what other processes commit, and may be pickled to
    other processes.
    """

    # ------------------------------------------------------------------ making and opening

    @classmethod
    def create(
        cls, path: Path | str, recipe: Mapping[str, Any], name: str = "", compress: Compression | None = None
    ) -> FeatureStore:
        """Make an empty store at a local path or URL for features of ``recipe``.

        ``name`` is that of the data set (default: the file's); ``compress`` says how arrays are kept (default: none),
        which changes nothing about what is read. Raises UserError where ``path`` is taken, StoreWriteError where it
        cannot be written.
        """
        place = place_of(path)
        store = None if place.is_remote and place.is_taken() else cls._make(place, recipe, name, compress)
        if store is None:
            raise UserError(f"{place.path} exists already; open it, or choose another name for the new store")
        return store

    @classmethod
    def open(cls, path: Path | str) -> FeatureStore:
        """Open an existing store of either tier, by its local path or URL.

        Raises UserError where there is none, or one of another format version.
        """
        return opened(place_of(path))

    @staticmethod
    def exists(path: Path | str) -> bool:
        """Whether there is anything at ``path``, a local path or URL."""
        return place_of(path).is_taken()

    @classmethod
    def open_or_create(
        cls, path: Path | str, recipe: Mapping[str, Any], name: str = "", compress: Compression | None = None
    ) -> FeatureStore:
        """Open a store to write features of ``recipe`` into it, making it first where there is none.

        What dead processes of this machine left behind is removed. Raises UserError where the store holds features of
        another recipe, with each field that differs and both values, and where it was made with another ``compress``
        than the one asked for.
        """
        place = place_of(path)
        store = (None if place.is_taken() else cls._make(place, recipe, name, compress)) or opened(place)
        store.require_recipe(recipe)
        if compress and compress != store.compress:
            raise UserError(f"the store {store.path} was made with --compress {store.compress}: leave that option out")
        store.require_growing()
        store.clean()
        return store

    @classmethod
    def _make(
        cls, place: Place, recipe: Mapping[str, Any], name: str, compress: Compression | None
    ) -> FeatureStore | None:
        """A new store, None where the place is taken."""
        recipe = plain_recipe(recipe)
        attributes = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "tier": cls.tier,
            "checksums": True,
            "name": name or str(place.path).rpartition("/")[2].removesuffix(".zarr"),
            "recipe": recipe,
            "fingerprint": fingerprint(recipe),
            **({"compress": compress} if compress and compress != "none" else {}),
        }
        with writing(place.path, place.write_errors), place.building("") as build:
            for child in (VIDEOS, FAILED, RUNS):
                build.group(child, {})
            build.group("", attributes)
            made = build.commit()
        return cls(place, attributes) if made else None

    @property
    def staging(self) -> Staging:
        """Where a store in a folder builds videos. Raises UserError for one in an object store, which has none."""
        if not isinstance(self.place, LocalPlace):
            raise UserError(f"the store {self.path} is no folder: nothing is staged")
        return self.place.staging

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with writing(self.path, self.place.write_errors):
            yield

    def require_recipe(self, recipe: Mapping[str, Any]) -> None:
        """Raises UserError, naming each field that differs and both values, unless the store's recipe is ``recipe``."""
        found = differences(self.recipe, plain_recipe(recipe))
        if found:
            fields = "; ".join(f"{name} is {short(held)} there and {short(asked)} here" for name, held, asked in found)
            raise UserError(
                f"the store {self.path} holds features of another recipe: {fields}. "
                "Use the options it was made with, or another store"
            )

    def clean(self) -> None:
        """Remove what dead processes of this machine left behind: videos half written, claims."""
        self.claims.clean()
        self.place.clean()

    def require_growing(self) -> None:
        """Raises UserError for a packed store, which is never written to."""

    # ------------------------------------------------------------------ writing

    def write(
        self,
        video_id: str,
        features: Mapping[str, ArrayLike],
        spans: ArrayLike,
        info: Mapping[str, Any] | None = None,
    ) -> bool:
        """Commit one video, all at once or not at all; False where it is committed already (nothing changes then).

        Args:
            video_id: any text but the empty one.
            features: per stream floats ``(T, D)`` or ``(T, C, D)``; stored as :attr:`dtype`.
            spans: start and end of each snippet, ``(T, 2)``, seconds.
            info: plain values to record; ``duration`` (seconds; default: the end of the last span) and ``fps`` are
                given back by :meth:`read`.

        Raises:
            UserError: features that are not finite, do not fit :attr:`dtype`, have another number of rows than the
                spans or other streams or widths than the videos of the store.
            StoreWriteError: the disk is full, the store read-only, ...
        """
        group = group_of(video_id)
        if video_id in self:
            return False
        where = f"video {video_id!r}"
        if not features or TIME in features:
            raise UserError(f"{where}: at least one stream is needed, and none may be called {TIME!r}")
        arrays: dict[str, NDArray[Any]] = {
            s: as_features(v, f"{where}, stream {s!r}", self.dtype) for s, v in features.items()
        }
        arrays[TIME] = as_spans(spans, where)
        self._check(where, arrays)
        attributes = attributes_of(video_id, arrays, info or {})
        with self._writing(), self.place.building(group) as build:
            for name, array in arrays.items():
                write_array(build, name, array, self.compress)
            build.group("", attributes)
            committed = build.commit()
            if committed:
                self.place.remove_record(f"{FAILED}/{key_of(video_id)}")
        return committed

    def _check(self, where: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raises UserError unless all arrays have the spans' rows and the layout of the videos already there."""
        rows = len(arrays[TIME])
        for name, array in arrays.items():
            if name != key_of(name):
                raise UserError(f"{where}: {name!r} is no name for a stream; use lower-case letters, digits, - and _")
            if len(array) != rows:
                raise UserError(f"{where}: stream {name!r} has {len(array)} rows but there are {rows} spans")
        layout = {name: list(array.shape[1:]) for name, array in arrays.items()}
        if self._layout is None:
            # Kept: it is that of all videos, and finding one of them means listing them where they are objects.
            for video_id in self._video_ids():
                with suppress(UserError):  # a damaged video does not keep others out
                    self.learn_layout(video_id)
                    break
            else:
                return
        assert self._layout is not None
        other, held = self._layout
        if held != layout:
            raise UserError(
                f"{where}: rows of the streams are {layout}, those of {other!r} in the store {self.path} are {held}"
            )

    def learn_layout(self, video_id: str) -> None:
        """Compare what is written from now on with the rows of this committed video.

        For a store that is handed to other processes: without it each of them looks for a video by itself, and lists
        all there are for that. Nothing happens where such a video is known. Raises UserError where it is damaged.
        """
        if self._layout is not None:
            return
        held = {name: described["shape"][1:] for name, described in self._arrays(video_id).items()}
        self._layout = video_id, held

    def discard(self, video_id: str) -> None:
        """Take a committed video out of the store, so that it is extracted again; nothing happens where it is not."""
        with self._writing():
            self.place.remove(group_of(video_id))

    # ------------------------------------------------------------------ records

    def record_failure(self, video_id: str, reason: str) -> None:
        """Record that a video could not be extracted, in place of an earlier record; it stays pending."""
        key = key_of(video_id)
        earlier = self._failure(key)
        attributes = {
            "id": video_id,
            "reason": reason,
            "tries": 1 + (earlier.tries if earlier else 0),
            "time": time.time(),
        }
        with self._writing():
            self.place.replace(f"{FAILED}/{key}", attributes)

    def record_run(self, run: Mapping[str, Any]) -> None:
        """Record what an extraction run means to do, so that others can tell what is pending.

        ``run``: ``videos``, the predicted number of rows by id; ``options``, plain values, those of the run. A later
        run with the same ``options`` replaces the record.
        """
        with self._writing():
            self.place.replace(f"{RUNS}/{fingerprint(run['options'])[:16]}", plain_recipe(run))


def opened(place: Place) -> FeatureStore:
    """The store at a place. Raises UserError where there is none, or one of another format version."""
    path = place.path
    try:
        attributes = _root(place)
    except PermissionError as error:
        raise UserError(f"cannot read the feature store {path}: {error.strerror}") from None
    except OSError:
        what, mend = "does not exist", f"python extract/run.py VIDEOS {path} makes one"
        if place.is_taken():
            what, mend = "exists but is not a feature store", "a new one needs a name that is free"
        raise UserError(f"feature store {path} {what}; {_advice(place) or mend}") from None
    except ValueError as error:
        raise UserError(f"{path} is not a feature store: {error}") from None
    if attributes.get("format") != FORMAT:
        raise UserError(
            f"{path} is a Zarr group but not a feature store (format {attributes.get('format')!r})"
            + (f"; {advice}" if (advice := _advice(place)) else "")
        )
    if attributes.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"feature store {path} has format version {attributes.get('format_version')!r}, "
            f"this program reads version {FORMAT_VERSION}"
        )
    if attributes.get("tier") == "packed":
        from ssn_feat.store.packed import PackedStore

        return PackedStore(place, attributes)
    return FeatureStore(place, attributes)


def _root(place: Place) -> dict[str, Any]:
    """Attributes of a store. Raises OSError where there are none, not even after somebody's making of it."""
    for seconds in _WAITS if place.is_remote else _WAITS[:1]:
        try:
            return place.attributes("")
        except FileNotFoundError:
            if not place.is_taken():
                raise
        # Made between the two looks, by a process that was here first.
        time.sleep(seconds)
    return place.attributes("")


def _advice(place: Place) -> str:
    """Which store was probably meant: the one around this folder, or the one in it."""
    if not isinstance(place, LocalPlace):
        return ""
    around = [parent for parent in list(place.path.absolute().parents)[:3] if _is_store(parent)]
    inside = sorted(place.path.glob("*.zarr")) if place.path.is_dir() else []
    found = around or [path for path in inside if _is_store(path)]
    return f"did you mean {found[0]}?" if found else ""


def _is_store(path: Path) -> bool:
    try:
        return LocalPlace(path).attributes("").get("format") == FORMAT
    except (OSError, ValueError):
        return False
