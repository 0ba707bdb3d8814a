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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError
from ssn_feat.store.arrays import (
    FEATURE_TYPES,
    TIME,
    Compression,
    Damage,
    as_features,
    as_spans,
    check_hash,
    read_array,
    write_array,
)
from ssn_feat.store.claims import Claims
from ssn_feat.store.files import Staging, writing
from ssn_feat.store.keys import id_of, key_of
from ssn_feat.store.local import LocalPlace
from ssn_feat.store.places import GROUP, Place, place_of
from ssn_feat.store.recipe import Recipe, differences, fingerprint, plain_recipe, short
from ssn_feat.store.records import Failure, StoredVideo, attributes_of

FORMAT = "ssn_feat feature store"
FORMAT_VERSION = 1
_VIDEOS, _FAILED, _RUNS = "videos", "failed", "runs"
# Videos that are on their way at once where each file costs a round trip.
_AT_ONCE = 16
T = TypeVar("T")
R = TypeVar("R")


class FeatureStore:
    """Features of the videos of a data set. Made by :meth:`create`, :meth:`open` or :meth:`open_or_create`.

    Holds no open files and no caches: it sees what other processes commit, and may be pickled to other processes.
    """

    tier = "growing"

    def __init__(self, place: Place, attributes: Mapping[str, Any]) -> None:
        self.place = place
        place.checksummed = bool(attributes.get("checksums"))
        self.path = place.path
        self.name: str = attributes["name"]
        self.recipe: Recipe = attributes["recipe"]
        self.fingerprint: str = attributes["fingerprint"]
        self.compress: Compression = attributes.get("compress", "none")
        self.claims = Claims(place.board)

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
        store.claims.clean()
        place.clean()
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
            for child in (_VIDEOS, _FAILED, _RUNS):
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

    def require_growing(self) -> None:
        """Raises UserError for a packed store, which is never written to."""

    @property
    def dtype(self) -> str:
        """Name of the type of stored features: what the recipe says, else float16."""
        return str(self.recipe.get("dtype", FEATURE_TYPES[0]))

    # ------------------------------------------------------------------ what is there

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the committed videos, sorted."""
        return tuple(sorted(self._video_ids()))

    def _video_ids(self) -> Iterable[str]:
        return self._listed(_VIDEOS)

    def _keys(self, group: str) -> list[str]:
        try:
            return self.place.groups(group)
        except FileNotFoundError:
            raise UserError(f"the store {self.path} has no folder {group!r}: it was moved or cut apart") from None

    def _listed(self, group: str) -> Iterator[str]:
        for key in self._keys(group):
            video_id = id_of(key)
            if video_id is None:
                video_id = self._long_id(f"{group}/{key}")
            if video_id and key_of(video_id) == key:  # else a file manager's or an operating system's own folder
                yield video_id

    def _long_id(self, name: str) -> str:
        """The id of a video whose key was cut."""
        try:
            return str(self.place.attributes(name)["id"])
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"the store {self.path}: {name}/{GROUP} cannot be read ({error}); "
                "delete this folder and run extraction again"
            ) from None

    def commit_times(self) -> dict[str, float]:
        """When each video was committed: seconds since 1970 by id."""
        times = self.place.times(_VIDEOS)
        return {video_id: times[key] for video_id in self.ids if (key := key_of(video_id)) in times}

    def __contains__(self, video_id: str) -> bool:
        return self.place.exists(f"{_group(video_id)}/{GROUP}")

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[StoredVideo]:
        return self.read_all()

    def __repr__(self) -> str:
        try:
            count = f"{len(self)} videos"
            streams = " + ".join(f"{stream} {self.feature_dim(stream)}" for stream in self.streams) if len(self) else ""
        except UserError as error:
            count, streams = f"cannot be read: {error}", ""
        said = ", ".join(part for part in (count, streams and f"{streams} {self.dtype}", self.tier) if part)
        return f"<FeatureStore {self.name!r} at {self.path}: {said}, recipe {self.fingerprint[:12]}>"

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams that every video has, sorted; those of the recipe as long as there is no video."""
        for video_id in self._video_ids():
            return tuple(sorted(self._arrays(video_id).keys() - {TIME}))
        return tuple(sorted(self.recipe.get("streams", ())))

    def feature_dim(self, stream: str) -> int:
        """Number of features D of one row of ``stream``. Raises UserError for an unknown stream or an empty store."""
        for video_id in self._video_ids():
            arrays = self._arrays(video_id)
            if stream not in arrays or stream == TIME:
                raise UserError(f"the store {self.path} has no stream {stream!r}; it has {', '.join(self.streams)}")
            return int(arrays[stream]["shape"][-1])
        raise UserError(f"the store {self.path} holds no video yet")

    def rows(self, video_id: str) -> int:
        """Number T of snippets of a video, without reading its arrays."""
        return int(self._arrays(video_id)[TIME]["shape"][0])

    def _arrays(self, video_id: str) -> dict[str, dict[str, Any]]:
        arrays: dict[str, dict[str, Any]] = self.attributes(video_id)["arrays"]
        return arrays

    def attributes(self, video_id: str) -> dict[str, Any]:
        """Everything recorded of a committed video but its arrays. Raises UserError where it is missing or damaged."""
        try:
            attributes = self.place.attributes(_group(video_id))
            if attributes["id"] != video_id or TIME not in attributes["arrays"]:
                raise ValueError(f"is that of video {attributes['id']!r}")
        except OSError:
            if not self.place.is_remote and key_of(video_id) in self._keys(_VIDEOS):
                raise self.damaged(video_id, "zarr.json is missing") from None
            raise self._unknown(video_id) from None
        except (ValueError, KeyError, TypeError) as error:
            raise self.damaged(video_id, f"zarr.json is damaged ({error})") from None
        return attributes

    def _unknown(self, video_id: str) -> UserError:
        failure = self.failures().get(video_id)
        why = f": it could not be extracted ({failure.reason})" if failure else ""
        return UserError(
            f"the store {self.path} has no video {video_id!r}{why}; it holds {len(self)} videos, "
            f"python extract/status.py {self.path} tells more"
        )

    def damaged(self, video_id: str, what: str) -> UserError:
        """What to raise of a damaged video: names it, the damage and the command that mends it."""
        return UserError(
            f"video {video_id!r} of the store {self.path}: {what}; "
            f"python extract/verify.py {self.path} --repair extracts what is damaged again"
        )

    # ------------------------------------------------------------------ reading

    def read(self, video_id: str, streams: Sequence[str] | None = None) -> StoredVideo:
        """One video with the features of ``streams`` (default: all; an empty list reads the spans only).

        Raises UserError, naming the video and the array, for a video or stream that is not there, and where what is
        on disk is not what was written (a missing file is an error, never zeros).
        """
        attributes = self.attributes(video_id)
        described = attributes["arrays"]
        wanted = sorted(described.keys() - {TIME}) if streams is None else list(streams)
        for stream in wanted:
            if stream not in described or stream == TIME:
                known = ", ".join(sorted(described.keys() - {TIME}))
                raise UserError(f"video {video_id!r} of the store {self.path} has no stream {stream!r}; it has {known}")
        try:
            spans = self._named_array(video_id, TIME, described[TIME])
            features = {stream: self._named_array(video_id, stream, described[stream]) for stream in wanted}
        except Damage as damage:
            raise self.damaged(video_id, str(damage)) from damage
        return StoredVideo.of(video_id, attributes, spans, features)

    def read_all(self, ids: Iterable[str] | None = None, streams: Sequence[str] | None = None) -> Iterator[StoredVideo]:
        """Videos one after the other, in the order of ``ids`` (default: all, sorted): the fast way to read many.

        Arguments and errors as of :meth:`read`.
        """
        return self.map(lambda video_id: self.read(video_id, streams), self.ids if ids is None else ids)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """``function`` of each item, in order; several at a time where the store is far away."""
        if not self.place.is_remote:
            yield from map(function, items)
            return
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            waiting = []
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > _AT_ONCE:  # no more in memory than that
                    yield waiting.pop(0).result()
            yield from (future.result() for future in waiting)

    def _named_array(self, video_id: str, name: str, described: Mapping[str, Any]) -> NDArray[Any]:
        if name != key_of(name):  # a store of others must not lead out of its folder
            raise Damage(f"{name!r} is no name of an array")
        return self._array(video_id, name, described)

    def _array(self, video_id: str, name: str, described: Mapping[str, Any]) -> NDArray[Any]:
        return read_array(self.place, f"{_group(video_id)}/{name}", described)

    def check(self, video_id: str) -> list[str]:
        """What is damaged about a committed video, one line each: reads everything, compares its sha256."""
        try:
            described = self.attributes(video_id)["arrays"]
        except UserError as error:
            return [str(error)]
        found: list[str] = []
        for name, expected in described.items():
            try:
                array = self._named_array(video_id, name, expected)
                check_hash(name, array, expected)
                if len(array) != described[TIME]["shape"][0]:
                    found.append(f"array {name!r} has {len(array)} rows, the times {described[TIME]['shape'][0]}")
            except Damage as damage:
                found.append(str(damage))
        return found

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
        group = _group(video_id)
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
                self.place.remove(f"{_FAILED}/{key_of(video_id)}")
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
        for other in self._video_ids():
            held = {name: described["shape"][1:] for name, described in self._arrays(other).items()}
            if held != layout:
                raise UserError(
                    f"{where}: rows of the streams are {layout}, those of {other!r} in the store {self.path} are {held}"
                )
            return

    def discard(self, video_id: str) -> None:
        """Take a committed video out of the store, so that it is extracted again; nothing happens where it is not."""
        with self._writing():
            self.place.remove(_group(video_id))

    # ------------------------------------------------------------------ failures

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
            self.place.replace(f"{_FAILED}/{key}", attributes)

    def failures(self) -> dict[str, Failure]:
        """Videos that failed when last tried and are not committed, sorted by id."""
        found = (self._failure(key_of(video_id)) for video_id in sorted(self._listed(_FAILED)))
        return {f.id: f for f in found if f is not None and f.id not in self}

    def _failure(self, key: str) -> Failure | None:
        try:
            values = self.place.attributes(f"{_FAILED}/{key}")
            return Failure(values["id"], values["reason"], values["tries"], values["time"])
        except (OSError, ValueError, KeyError):  # no record, or one cut short by a crash: the next try writes a new one
            return None

    # ------------------------------------------------------------------ runs

    def record_run(self, run: Mapping[str, Any]) -> None:
        """Record what an extraction run means to do, so that others can tell what is pending.

        ``run``: ``videos``, the predicted number of rows by id; ``options``, plain values, those of the run. A later
        run with the same ``options`` replaces the record.
        """
        with self._writing():
            self.place.replace(f"{_RUNS}/{fingerprint(run['options'])[:16]}", plain_recipe(run))

    def runs(self) -> list[dict[str, Any]]:
        """What :meth:`record_run` recorded, in an order that does not change."""
        found = []
        for name in sorted(self._keys(_RUNS)):
            with suppress(OSError, ValueError):  # cut short by a crash: the next run writes it anew
                found.append(self.place.attributes(f"{_RUNS}/{name}"))
        return found


def _group(video_id: str) -> str:
    return f"{_VIDEOS}/{key_of(video_id)}"


def opened(place: Place) -> FeatureStore:
    """The store at a place. Raises UserError where there is none, or one of another format version."""
    path = place.path
    try:
        attributes = place.attributes("")
    except PermissionError as error:
        raise UserError(f"cannot read the feature store {path}: {error.strerror}") from None
    except OSError:
        what = "exists but is not a feature store" if place.is_taken() else "does not exist"
        raise UserError(
            f"feature store {path} {what}; {_advice(place) or f'python extract/run.py VIDEOS {path} makes one'}"
        ) from None
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
