"""The growing feature store, format 1: features of a data set, one Zarr group per video, safe against interruption.

:mod:`ssn_feat.store.packed` is the other tier, made from this one and read through the same interface.

::

    NAME.zarr/                 attributes: format, format_version, tier, name, recipe, fingerprint
      videos/<key>/            committed when it exists; attributes: id, duration, fps, ..., arrays
        rgb, flow, ...         float16 (T, D) or (T, C, D); float32 if the recipe has "dtype": "float32"
        time                   float64 (T, 2), start and end of each snippet in seconds
      failed/<key>/            attributes: id, reason, tries, time
      runs/<key>/              attributes: the plan of an extraction run (videos, their predicted rows, options)
    NAME.zarr.staging/         videos that are being written, claims of the processes that write them

Any Zarr 3 library reads it. Any number of processes may write at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError
from ssn_feat.store.arrays import TIME, as_features, as_spans, write_array
from ssn_feat.store.keys import key_of
from ssn_feat.store.reading import FAILED, RUNS, StoreReader, group_of
from ssn_feat.store.recipe import differences, fingerprint, plain_recipe, shorten
from ssn_feat.store.staging import writing
from ssn_feat.store.stored_video import video_attributes

FORMAT = "ssn_feat feature store"
FORMAT_VERSION = 1


class FeatureStore(StoreReader):
    """Features of the videos of a data set, returned by :func:`~ssn_feat.store.open_store`.

    Holds no open files and no caches of anything that may change: it sees what other processes commit, and may be
    pickled.
    """

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with writing(self.path, self.backend.write_errors):
            yield

    def require_recipe(self, recipe: Mapping[str, Any]) -> None:
        """Raises UserError, naming each field that differs and both values, unless the store's recipe is ``recipe``."""
        fields = [
            f"{field} is {shorten(held)} there and {shorten(asked)} here"
            for field, held, asked in differences(self.recipe, plain_recipe(recipe))
        ]
        if fields:
            raise UserError(
                f"the store {self.path} holds features of another recipe: {'; '.join(fields)}. "
                "Use the options it was made with, or another store"
            )

    def clean(self) -> None:
        """Remove what ended processes of this machine left behind: incomplete videos and claims."""
        self.claims.clean()
        self.backend.clean()

    def require_growing(self) -> None:
        """Raises UserError for a packed store, which is read-only."""

    # --- writing

    def write(
        self,
        video_id: str,
        features: Mapping[str, ArrayLike],
        spans: ArrayLike,
        info: Mapping[str, Any] | None = None,
    ) -> bool:
        """Commit one video atomically. False, without any change, if it is already committed.

        Args:
            video_id: any text except the empty string.
            features: floats ``(T, D)`` or ``(T, C, D)`` for each stream, stored as :attr:`dtype`.
            spans: start and end of each snippet, ``(T, 2)``, seconds.
            info: plain values to record. :meth:`read` returns ``duration`` (seconds; default: the end of the last
                span) and ``fps`` as separate fields.

        Raises:
            UserError: features are not finite, do not fit :attr:`dtype`, differ from the spans in the number of rows,
                or differ from the other videos of the store in streams or widths.
            StoreWriteError: the disk is full, the store is read-only, ...
        """
        group = group_of(video_id)
        if video_id in self:
            return False
        where = f"video {video_id!r}"
        if not features or TIME in features:
            raise UserError(f"{where}: at least one stream is needed, and no stream may be called {TIME!r}")
        arrays: dict[str, NDArray[Any]] = {
            s: as_features(v, f"{where}, stream {s!r}", self.dtype) for s, v in features.items()
        }
        arrays[TIME] = as_spans(spans, where)
        self._check_layout(where, arrays)
        attributes = video_attributes(video_id, arrays, info or {})
        with self._writing(), self.backend.build(group) as builder:
            for name, array in arrays.items():
                write_array(builder, name, array, self.compress)
            builder.add_group("", attributes)
            committed = builder.commit()
            if committed:
                self.backend.remove_record(f"{FAILED}/{key_of(video_id)}")
        return committed

    def _check_layout(self, where: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raises UserError unless all arrays have the spans' rows and the layout of the videos in the store."""
        rows = len(arrays[TIME])
        for name, array in arrays.items():
            if name != key_of(name):
                raise UserError(f"{where}: {name!r} cannot be the name of a stream; use a-z, 0-9, - and _")
            if len(array) != rows:
                raise UserError(f"{where}: stream {name!r} has {len(array)} rows but there are {rows} spans")
        layout = {name: list(array.shape[1:]) for name, array in arrays.items()}
        if self._layout is None:
            # All videos have the same layout. It is kept because finding a video in an object store means listing all.
            for video_id in self._video_ids():
                with suppress(UserError):  # another video can tell
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
        """Compare videos written from now on with the streams and widths of this committed video.

        Call it before a store is passed to other processes, each of which would otherwise list all videos to find one.
        Does nothing if a layout is known. Raises UserError if the video is damaged.
        """
        if self._layout is not None:
            return
        held = {name: described["shape"][1:] for name, described in self._arrays(video_id).items()}
        self._layout = video_id, held

    def discard(self, video_id: str) -> None:
        """Remove a committed video, so that it is extracted again. Does nothing if it is not in the store."""
        with self._writing():
            self.backend.remove(group_of(video_id))

    # --- failures and runs

    def record_failure(self, video_id: str, reason: str) -> None:
        """Record that a video could not be extracted, replacing an earlier record. The next run tries it again."""
        key = key_of(video_id)
        earlier = self._failure(key)
        attributes = {
            "id": video_id,
            "reason": reason,
            "tries": 1 + (earlier.tries if earlier else 0),
            "time": time.time(),
        }
        with self._writing():
            self.backend.replace(f"{FAILED}/{key}", attributes)

    def record_run(self, run: Mapping[str, Any]) -> None:
        """Record the plan of an extraction run, so that the status shows what is pending.

        ``run`` holds ``videos`` (predicted number of rows by id), ``missing`` (ids without a file) and ``options``
        (plain values). A later run with the same ``options`` replaces the record.
        """
        with self._writing():
            self.backend.replace(f"{RUNS}/{fingerprint(run['options'])[:16]}", plain_recipe(run))


__all__ = ["FORMAT", "FORMAT_VERSION", "FeatureStore"]
