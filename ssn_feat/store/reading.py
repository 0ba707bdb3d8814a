"""Reading a feature store: all that both tiers and all places have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.store.arrays import FEATURE_TYPES, TIME, Compression, Damage, check_hash, read_array
from ssn_feat.store.backends import GROUP, Place
from ssn_feat.store.claims import Claims
from ssn_feat.store.keys import id_of, key_of
from ssn_feat.store.recipe import Recipe
from ssn_feat.store.records import Failure, StoredVideo

VIDEOS, FAILED, RUNS = "videos", "failed", "runs"
# Videos that are on their way at once where each file costs a round trip.
_AT_ONCE = 16
T = TypeVar("T")
R = TypeVar("R")


def group_of(video_id: str) -> str:
    """The name of a video's group in a store."""
    return f"{VIDEOS}/{key_of(video_id)}"


class StoreReader:
    """What may be asked of a store. Opened by :meth:`ssn_feat.store.FeatureStore.open`."""

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
        self._layout: tuple[str, dict[str, list[int]]] | None = None

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
        return self._listed(VIDEOS)

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
        times = self.place.times(VIDEOS)
        return {video_id: times[key] for video_id in self.ids if (key := key_of(video_id)) in times}

    def __contains__(self, video_id: str) -> bool:
        return self.place.exists(f"{group_of(video_id)}/{GROUP}")

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
            attributes = self.place.attributes(group_of(video_id))
            if attributes["id"] != video_id or TIME not in attributes["arrays"]:
                raise ValueError(f"is that of video {attributes['id']!r}")
        except OSError:
            if not self.place.is_remote and key_of(video_id) in self._keys(VIDEOS):
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
        return read_array(self.place, f"{group_of(video_id)}/{name}", described)

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

    def failures(self) -> dict[str, Failure]:
        """Videos that failed when last tried and are not committed, sorted by id."""
        found = (self._failure(key_of(video_id)) for video_id in sorted(self._listed(FAILED)))
        return {f.id: f for f in found if f is not None and f.id not in self}

    def _failure(self, key: str) -> Failure | None:
        try:
            values = self.place.attributes(f"{FAILED}/{key}")
            return Failure(values["id"], values["reason"], values["tries"], values["time"])
        except (OSError, ValueError, KeyError):  # no record, or one cut short by a crash: the next try writes a new one
            return None

    def runs(self) -> list[dict[str, Any]]:
        """What :meth:`record_run` recorded, in an order that does not change."""
        found = []
        for name in sorted(self._keys(RUNS)):
            with suppress(OSError, ValueError):  # cut short by a crash: the next run writes it anew
                found.append(self.place.attributes(f"{RUNS}/{name}"))
        return found
