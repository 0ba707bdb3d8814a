"""Writing into a growing store: new videos, failures, records of runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError
from ssn_feat.store.arrays import TIME, Compression, as_features, as_spans, write_array
from ssn_feat.store.keys import key_of
from ssn_feat.store.reading import FAILED, RUNS, StoreReader, group_of
from ssn_feat.store.recipe import fingerprint, plain_recipe, shorten
from ssn_feat.store.staging import StoreWriteError, writing
from ssn_feat.store.stored_video import video_attributes
from ssn_feat.store.stream_recipes import conflicts, fingerprints, streams_of

FORMAT = "ssn_feat feature store"
FORMAT_VERSION = 1
# Videos that are read to learn the layout of a stream. Most videos lack a stream that is being added.
_VIDEOS_FOR_LAYOUT = 20


def root_attributes(tier: str, name: str, recipe: Mapping[str, Any], compress: Compression | None) -> dict[str, Any]:
    """The attributes of a new store. ``recipe`` holds plain values (:func:`ssn_feat.store.recipe.plain_recipe`)."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "tier": tier,
        "checksums": True,
        "name": name,
        "recipe": recipe,
        "fingerprint": fingerprint(recipe),
        "fingerprints": fingerprints(recipe),
        **({"compress": compress} if compress and compress != "none" else {}),
    }


class StoreWriter(StoreReader):
    """The part of :class:`~ssn_feat.store.FeatureStore` that adds to a store."""

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self.require_growing()
        with writing(self.path, self.backend.write_errors):
            yield

    def require_growing(self) -> None:
        """Raises UserError for a packed store, which is read-only."""

    def require_recipe(self, recipe: Mapping[str, Any]) -> None:
        """Raises UserError, naming each field that differs and both values, if ``recipe`` contradicts the store's.

        Streams that only one of the recipes has do not contradict; what all streams share must be equal.
        """
        fields = [
            f"{field} is {shorten(held)} there and {shorten(asked)} here"
            for field, held, asked in conflicts(self.recipe, plain_recipe(recipe))
        ]
        if fields:
            raise UserError(
                f"the store {self.path} holds features of another recipe: {'; '.join(fields)}. "
                "Use the options it was made with, or another store"
            )

    def require_unchanged(self, streams: Iterable[str] = ()) -> None:
        """Raises StoreWriteError unless :attr:`path` is still this store, with the same fingerprints of ``streams``.

        Called right before every commit: the store may be removed or replaced while a video is being extracted.
        """
        try:
            there = StoreReader(self.backend, self.backend.attributes(""))
        except FileNotFoundError:
            raise StoreWriteError(
                f"the store {self.path} was deleted or moved during this run: move it back, or run the same command "
                "again to extract everything anew"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise StoreWriteError(f"the store {self.path} cannot be written: zarr.json is damaged ({error})") from None
        changes = [("name", there.name, self.name), ("dtype", there.dtype, self.dtype)]
        listed = streams_of(there.recipe)
        for stream in streams:
            held = there.fingerprint_of(stream)[:12] if stream in listed or not listed else "(absent)"
            changes.append((f"the fingerprint of stream {stream!r}", held, self.fingerprint_of(stream)[:12]))
        differing = [f"{what} is {held} there and {ours} here" for what, held, ours in changes if held != ours]
        if differing:
            raise StoreWriteError(
                f"the store {self.path} was replaced while this run was writing into it ({'; '.join(differing)}); "
                "nothing was written into the new one. Extract into another store"
            )

    def write(
        self,
        video_id: str,
        features: Mapping[str, ArrayLike],
        spans: ArrayLike,
        info: Mapping[str, Any] | None = None,
    ) -> bool:
        """Commit one new video atomically. False, without any change, if it is already committed.

        Args:
            video_id: any text except the empty string.
            features: floats ``(T, D)`` or ``(T, C, D)`` for each stream, stored as :attr:`dtype`. Streams of the
                recipe that are not among them can be added later (:meth:`FeatureStore.add_streams`).
            spans: start and end of each snippet, ``(T, 2)``, seconds.
            info: plain values to record. :meth:`read` returns ``duration`` (seconds; default: the end of the last
                span) and ``fps`` as separate fields.

        Raises:
            UserError: features are not finite, do not fit :attr:`dtype`, differ from the spans in the number of rows,
                differ from the other videos of the store in widths, or are of a stream that is not in the recipe.
            StoreWriteError: the disk is full, the store is read-only, was removed, or was replaced by another one.
        """
        self.require_growing()
        if video_id in self:
            return False
        arrays = self._checked(video_id, features, spans)
        attributes = video_attributes(video_id, arrays, info or {}, self._made_by(features))
        with self._writing(), self.backend.build(group_of(video_id)) as builder:
            for name, array in arrays.items():
                write_array(builder, name, array, self.compress)
            builder.add_group("", attributes)
            self.require_unchanged(features)
            committed = builder.commit()
            if committed:
                self.backend.remove_record(f"{FAILED}/{key_of(video_id)}")
        return committed

    def _made_by(self, streams: Iterable[str]) -> dict[str, str]:
        return {stream: self.fingerprint_of(stream) for stream in sorted(streams)}

    def _checked(self, video_id: str, features: Mapping[str, ArrayLike], spans: ArrayLike) -> dict[str, NDArray[Any]]:
        """The arrays to store. Raises UserError as described for :meth:`write`."""
        where = f"video {video_id!r}"
        if not features or TIME in features:
            raise UserError(f"{where}: at least one stream is needed, and no stream may be called {TIME!r}")
        listed = streams_of(self.recipe)
        for stream in features:
            if stream != key_of(stream):
                raise UserError(f"{where}: {stream!r} cannot be the name of a stream; use a-z, 0-9, - and _")
            if listed and stream not in listed:
                raise UserError(
                    f"{where}: the recipe of the store {self.path} has no stream {stream!r}; it has {', '.join(listed)}"
                )
        arrays: dict[str, NDArray[Any]] = {
            s: as_features(v, f"{where}, stream {s!r}", self.dtype) for s, v in features.items()
        }
        arrays[TIME] = as_spans(spans, where)
        self._check_layout(video_id, arrays)
        return arrays

    def _check_layout(self, video_id: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raises UserError unless all arrays have the spans' rows and the layout of the videos in the store."""
        where, rows = f"video {video_id!r}", len(arrays[TIME])
        for name, array in arrays.items():
            if len(array) != rows:
                raise UserError(f"{where}: stream {name!r} has {len(array)} rows but there are {rows} spans")
        for name, array in arrays.items():
            axes = list(array.shape[1:])
            other, held = self._layout_of(name) or (video_id, axes)
            if held != axes:
                raise UserError(
                    f"{where}: rows of the stream {name!r} are {axes}, those of {other!r} in the store {self.path} are "
                    f"{held}"
                )

    def _layout_of(self, stream: str) -> tuple[str, list[int]] | None:
        """A video that has the stream, and the axes of its rows; None if none of the first videos has it."""
        if stream not in self._layout:
            # It is kept because finding a video in an object store means listing all of them.
            for video_id in islice(self._video_ids(), _VIDEOS_FOR_LAYOUT):
                with suppress(UserError):  # another video can tell
                    self.learn_layout(video_id)
                    if stream in self._layout:
                        break
        return self._layout.get(stream)

    def learn_layout(self, video_id: str) -> None:
        """Compare videos written from now on with the widths of the streams of this committed video.

        Call it before a store is passed to other processes, each of which would otherwise list all videos to find one.
        Raises UserError if the video is damaged.
        """
        for name, described in self._arrays(video_id).items():
            self._layout.setdefault(name, (video_id, list(described["shape"][1:])))

    # --- failures and runs

    def record_failure(self, video_id: str, reason: str, streams: Iterable[str] = ()) -> None:
        """Record that ``streams`` of a video could not be extracted, replacing an earlier record.

        The next run tries it again.
        """
        key = key_of(video_id)
        earlier = self._failure(key)
        attributes = {
            "id": video_id,
            "reason": reason,
            "tries": 1 + (earlier.tries if earlier else 0),
            "time": time.time(),
            "streams": sorted(streams),
        }
        with self._writing():
            self.require_unchanged(streams)
            self.backend.replace(f"{FAILED}/{key}", attributes)

    def forget_failure(self, video_id: str) -> None:
        """Remove the record that a video could not be extracted. Does nothing if there is none."""
        with self._writing():
            self.backend.remove_record(f"{FAILED}/{key_of(video_id)}")

    def record_run(self, run: Mapping[str, Any]) -> None:
        """Record the plan of an extraction run, so that the status shows what is pending.

        ``run`` holds ``videos`` (predicted number of rows by id), ``missing`` (ids without a file), ``options`` (plain
        values) and, if it does not extract all streams, ``streams``. A later run with the same ``options`` replaces
        the record.
        """
        with self._writing():
            self.require_unchanged()
            self.backend.replace(f"{RUNS}/{fingerprint(run['options'])[:16]}", plain_recipe(run))


__all__ = ["FORMAT", "FORMAT_VERSION", "StoreWriter", "root_attributes"]
