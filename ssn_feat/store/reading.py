"""Reading a feature store: what both tiers and all backends have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from numpy.typing import NDArray

from ssn_feat.annotations.similar import similar_name
from ssn_feat.errors import UserError
from ssn_feat.store.arrays import FEATURE_TYPES, TIME, Compression, Damage, check_hash, read_array
from ssn_feat.store.backends import GROUP, StoreBackend
from ssn_feat.store.claims import Claims
from ssn_feat.store.keys import id_of, key_of
from ssn_feat.store.recipe import Recipe
from ssn_feat.store.sources import checked_run
from ssn_feat.store.stored_video import FailedVideo, StoredVideo, array_folder
from ssn_feat.store.stream_recipes import fingerprints, streams_of
from ssn_feat.terminal import counted

VIDEOS, FAILED, RUNS = "videos", "failed", "runs"
# Concurrent requests to a remote store.
_CONCURRENT = 16
T = TypeVar("T")
R = TypeVar("R")


def group_of(video_id: str) -> str:
    """The name of a video's group in a store."""
    return f"{VIDEOS}/{key_of(video_id)}"


class StoreReader:
    """The read interface of a store, returned by :func:`~ssn_feat.store.open_store`."""

    tier = "growing"

    def __init__(self, backend: StoreBackend, attributes: Mapping[str, Any]) -> None:
        self.backend = backend
        backend.checksummed = bool(attributes.get("checksums"))
        self.path = backend.path
        self.name: str = attributes["name"]
        self.compress: Compression = attributes.get("compress", "none")
        self.claims = Claims(backend.claim_store)
        # Of each stream: a video that has it, and the axes of its rows there.
        self._layout: dict[str, tuple[str, list[int]]] = {}
        self._take_recipe(attributes)

    def _take_recipe(self, attributes: Mapping[str, Any]) -> None:
        self.recipe: Recipe = attributes["recipe"]
        self.fingerprint: str = attributes["fingerprint"]
        # Stores of earlier versions have none; their videos may have none either.
        self._recorded: Mapping[str, str] | None = attributes.get("fingerprints")
        self._fingerprints: dict[str, str] = dict(self._recorded or {})

    def fingerprint_of(self, stream: str) -> str:
        """The fingerprint of one stream: sha256 of the part of the recipe that decides its features."""
        if stream not in self._fingerprints:
            self._fingerprints |= fingerprints(self.recipe, (stream,))
        return self._fingerprints[stream]

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each stream of the recipe."""
        return {stream: self.fingerprint_of(stream) for stream in self.streams}

    @property
    def dtype(self) -> str:
        """Name of the dtype of stored features: as in the recipe, otherwise float16."""
        return str(self.recipe.get("dtype", FEATURE_TYPES[0]))

    # --- content

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the committed videos, sorted."""
        return tuple(sorted(self._video_ids()))

    def _video_ids(self) -> Iterable[str]:
        return self._listed(VIDEOS)

    def _keys(self, group: str) -> list[str]:
        try:
            return self.backend.groups(group)
        except FileNotFoundError:
            raise UserError(f"the store {self.path} has no folder {group!r}: it is incomplete") from None

    def _listed(self, group: str) -> Iterator[str]:
        return self._identified(group, self._keys(group))

    def _identified(self, group: str, keys: Iterable[str]) -> Iterator[str]:
        """The ids of the videos among subgroups of ``group``."""
        for key in keys:
            video_id = id_of(key)
            if video_id is None:
                video_id = self._long_id(f"{group}/{key}")
            if video_id and key_of(video_id) == key:  # otherwise a folder of a file manager or an operating system
                yield video_id

    def _long_id(self, name: str) -> str:
        """The id of a video whose key was shortened."""
        try:
            return str(self.backend.attributes(name)["id"])
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"the store {self.path}: {name}/{GROUP} cannot be read ({error}); "
                "delete this folder and run extraction again"
            ) from None

    def commit_times(self) -> dict[str, float]:
        """The time at which each video was committed, seconds since 1970, by id."""
        times = self.backend.commit_times(VIDEOS)
        return {video_id: times[key_of(video_id)] for video_id in self._identified(VIDEOS, times)}

    def __contains__(self, video_id: str) -> bool:
        return self.backend.exists(f"{group_of(video_id)}/{GROUP}")

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
        parts = (count, streams and f"{streams} {self.dtype}", self.tier, f"recipe {self.fingerprint[:12]}")
        return f"<FeatureStore {self.name!r} at {self.path}: {', '.join(part for part in parts if part)}>"

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams of the store, sorted. Some videos may lack one that is still being added."""
        if listed := streams_of(self.recipe):
            return tuple(sorted(listed))
        for video_id in self._video_ids():
            return tuple(sorted(self._arrays(video_id).keys() - {TIME}))
        return ()

    def streams_in(self, attributes: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the streams that a video with these attributes has, sorted."""
        held = attributes["arrays"].keys() - {TIME}
        listed = streams_of(self.recipe)
        return tuple(sorted(held & listed.keys() if listed else held))

    def feature_dim(self, stream: str) -> int:
        """Number D of features of a row of ``stream``. Raises UserError for an unknown stream or an empty store."""
        for video_id in self._video_ids():
            attributes = self.attributes(video_id)
            if stream in self.streams_in(attributes):
                return int(attributes["arrays"][stream]["shape"][-1])
            if stream not in streams_of(self.recipe):
                raise UserError(f"the store {self.path} has no stream {stream!r}; it has {', '.join(self.streams)}")
        if stream in streams_of(self.recipe) and len(self):
            raise UserError(f"no video of the store {self.path} has a stream {stream!r}; {self._completing(stream)}")
        raise UserError(f"the store {self.path} holds no video yet")

    def rows(self, video_id: str) -> int:
        """Number T of snippets of a video, without reading its arrays."""
        return int(self._arrays(video_id)[TIME]["shape"][0])

    def _arrays(self, video_id: str) -> dict[str, dict[str, Any]]:
        arrays: dict[str, dict[str, Any]] = self.attributes(video_id)["arrays"]
        return arrays

    def attributes(self, video_id: str) -> dict[str, Any]:
        """Everything recorded about a committed video except its arrays.

        Raises UserError if it is missing, damaged, or holds features of another recipe than that of the store.
        """
        attributes = self.recorded(video_id)
        if foreign := self.foreign_streams(attributes):
            raise self.damaged(video_id, "; ".join(foreign.values()))
        return attributes

    def recorded(self, video_id: str) -> dict[str, Any]:
        """Like :meth:`attributes`, also for features of another recipe: see :meth:`foreign_streams`."""
        try:
            attributes = self.backend.attributes(group_of(video_id))
            if attributes["id"] != video_id or TIME not in attributes["arrays"]:
                raise ValueError(f"it belongs to video {attributes['id']!r}")
        except OSError:
            if not self.backend.is_remote and key_of(video_id) in self._keys(VIDEOS):
                raise self.damaged(video_id, "zarr.json is missing") from None
            raise self._unknown(video_id) from None
        except (ValueError, KeyError, TypeError) as error:
            raise self.damaged(video_id, f"zarr.json is damaged ({error})") from None
        return attributes

    def foreign_streams(self, attributes: Mapping[str, Any]) -> dict[str, str]:
        """The reason for each stream of a video that was not made by the recipe of this store."""
        held = attributes.get("fingerprints")
        if held is None and self._recorded is None:
            return {}
        held, foreign = held if isinstance(held, Mapping) else {}, {}
        for stream in self.streams_in(attributes):
            made, expected = str(held.get(stream, "(absent)")), self.fingerprint_of(stream)
            if made != expected:
                foreign[stream] = (
                    f"stream {stream!r} is of another recipe (fingerprint {made[:12]}, that of the store is "
                    f"{expected[:12]}), as if the video was copied from another store"
                )
        return foreign

    def _unknown(self, video_id: str) -> UserError:
        failure = self.failures().get(video_id)
        alike = similar_name([video_id], self.ids, "it")
        why = f": it could not be extracted ({failure.reason})" if failure else alike
        return UserError(
            f"the store {self.path} has no video {video_id!r}{why}; it holds {counted(len(self), 'video')}, "
            f"see python extract/status.py {self.path}"
        )

    def damaged(self, video_id: str, what: str) -> UserError:
        """The error for a damaged video: names it, the damage and the command that repairs it."""
        return UserError(
            f"video {video_id!r} of the store {self.path}: {what}; "
            f"python extract/verify.py {self.path} --repair extracts damaged videos again"
        )

    # --- reading

    def read(self, video_id: str, streams: Sequence[str] | None = None) -> StoredVideo:
        """Read one video with the features of ``streams`` (default: all that it has; an empty list: spans only).

        Raises UserError, naming the video and the array, for an unknown video or stream, for a stream that was added to
        the store and is not extracted for this video yet, for features of another recipe, and for damaged or missing
        files (which are never read as zeros).
        """
        attributes = self.attributes(video_id)
        while True:
            try:
                return self._read(video_id, attributes, streams)
            except Damage as damage:
                # Another process may have replaced the arrays and removed the old ones.
                before, attributes = attributes, self.attributes(video_id)
                if attributes == before:
                    raise self.damaged(video_id, str(damage)) from damage

    def _read(self, video_id: str, attributes: dict[str, Any], streams: Sequence[str] | None) -> StoredVideo:
        held, described = self.streams_in(attributes), attributes["arrays"]
        wanted = held if streams is None else streams
        for stream in wanted:
            if stream not in held:
                raise self._without(video_id, stream, held)
        spans = self._named_array(video_id, TIME, described[TIME])
        features = {stream: self._named_array(video_id, stream, described[stream]) for stream in wanted}
        return StoredVideo.of(video_id, attributes, spans, features)

    def _without(self, video_id: str, stream: str, held: Sequence[str]) -> UserError:
        if stream not in streams_of(self.recipe):
            return UserError(
                f"video {video_id!r} of the store {self.path} has no stream {stream!r}; it has {', '.join(held)}"
            )
        videos = list(self.map(self.attributes, self.ids))
        lacking = sum(stream not in self.streams_in(attributes) for attributes in videos)
        return UserError(
            f"video {video_id!r} of the store {self.path} has no stream {stream!r} yet, like {lacking} of "
            f"{len(videos)} videos; {self._completing(stream)}"
        )

    def _completing(self, stream: str) -> str:
        return f"python extract/run.py VIDEOS {self.path} --streams {stream} extracts it for the videos that lack it"

    def read_all(self, ids: Iterable[str] | None = None, streams: Sequence[str] | None = None) -> Iterator[StoredVideo]:
        """Read many videos in the order of ``ids`` (default: all, sorted), faster than single calls of :meth:`read`.

        Arguments and errors as for :meth:`read`.
        """
        return self.map(lambda video_id: self.read(video_id, streams), self.ids if ids is None else ids)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Apply ``function`` to each item, in order, concurrently if the store is remote."""
        if not self.backend.is_remote:
            yield from map(function, items)
            return
        with ThreadPoolExecutor(_CONCURRENT) as pool:
            waiting = []
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > _CONCURRENT:  # bounds the results in memory
                    yield waiting.pop(0).result()
            yield from (future.result() for future in waiting)

    def _named_array(self, video_id: str, name: str, described: Mapping[str, Any]) -> NDArray[Any]:
        array_folder(name, described)
        return self._array(video_id, name, described)

    def _array(self, video_id: str, name: str, described: Mapping[str, Any]) -> NDArray[Any]:
        return read_array(self.backend, f"{group_of(video_id)}/{array_folder(name, described)}", described)

    def check(self, video_id: str) -> dict[str, str]:
        """Read all arrays of a committed video and compare their sha256; the damage of each damaged array, by name.

        Damage of the attributes of the video has the name "".
        """
        try:
            attributes = self.recorded(video_id)
        except UserError as error:
            return {"": str(error)}
        described = attributes["arrays"]
        damage = self.foreign_streams(attributes)
        for name, expected in described.items():
            try:
                array = self._named_array(video_id, name, expected)
                check_hash(name, array, expected)
                if len(array) != described[TIME]["shape"][0]:
                    raise Damage(f"array {name!r} has {len(array)} rows, the times {described[TIME]['shape'][0]}")
            except Damage as error:
                damage[name] = str(error)
        return damage

    def failures(self) -> dict[str, FailedVideo]:
        """Videos that failed when last tried and are not committed since, sorted by id."""
        found = self.map(self._failure, (key_of(video_id) for video_id in sorted(self._listed(FAILED))))
        failures = [failure for failure in found if failure is not None]
        return {f.id: f for f, done in zip(failures, self.map(self._is_done, failures), strict=True) if not done}

    def _is_done(self, failure: FailedVideo) -> bool:
        """Whether the video has been committed since it failed."""
        if not failure.streams or failure.id not in self:
            return failure.id in self
        try:
            return set(failure.streams) <= set(self.streams_in(self.attributes(failure.id)))
        except UserError:  # damage is reported elsewhere
            return True

    def _failure(self, key: str) -> FailedVideo | None:
        try:
            values = self.backend.attributes(f"{FAILED}/{key}")
            streams = tuple(values.get("streams", ()))
            return FailedVideo(values["id"], values["reason"], values["tries"], values["time"], streams)
        except (OSError, ValueError, KeyError):  # no record, or one truncated by a crash: the next attempt replaces it
            return None

    def runs(self) -> list[dict[str, Any]]:
        """Recorded plans of extraction runs (see ``FeatureStore.record_run``), in a fixed order."""
        runs = []
        for name in sorted(self._keys(RUNS)):
            with suppress(OSError, ValueError):  # truncated by a crash: the next run replaces it
                runs.append(checked_run(self.backend.attributes(f"{RUNS}/{name}")))
        return runs


__all__ = ["FAILED", "RUNS", "VIDEOS", "StoreReader", "group_of"]
