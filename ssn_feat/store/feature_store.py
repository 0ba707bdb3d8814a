"""The growing feature store, format 1: features of a data set, one Zarr group per video, safe against interruption.

:mod:`ssn_feat.store.packed` is the other tier, made from this one and read through the same interface.

::

    NAME.zarr/                 attributes: format, format_version, tier, name, recipe, fingerprint, fingerprints
      videos/<key>/            committed when it exists; attributes: id, duration, fps, ..., fingerprints, arrays
        rgb, flow, ...         float16 (T, D) or (T, C, D); float32 if the recipe has "dtype": "float32"
        time                   float64 (T, 2), start and end of each snippet in seconds
        flow~2, ...            an array that was added or replaced later; ``folder`` in the attributes names it
      failed/<key>/            attributes: id, reason, tries, time, streams
      runs/<key>/              attributes: the plan of an extraction run (videos, their predicted rows, options)
    NAME.zarr.staging/         videos that are being written or changed, claims of the processes that do so

Any Zarr 3 library reads it. Any number of processes may write at once.

A committed video is changed in one way: new arrays are written beside the old ones under a new name, then the
attributes of the video, which name the arrays that belong to it, are replaced atomically, and then the old arrays are
removed. A process that is killed leaves either the old or the new video, and arrays to which no attributes refer;
:meth:`FeatureStore.clean` removes these.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError
from ssn_feat.store.arrays import TIME, Damage, check_hash, describe_array, write_array
from ssn_feat.store.backends import GROUP
from ssn_feat.store.claims import HeldClaim
from ssn_feat.store.keys import key_of
from ssn_feat.store.reading import FAILED, group_of
from ssn_feat.store.recipe import Recipe, fingerprint, plain_recipe
from ssn_feat.store.staging import StoreWriteError
from ssn_feat.store.store_writer import StoreWriter
from ssn_feat.store.stored_video import array_folders, video_attributes
from ssn_feat.store.stream_recipes import combine, fingerprints, restrict, streams_of

# The claim of a process that changes the recipe of the store. No video has this id.
RECIPE_CLAIM = "\0recipe"
_SECONDS_FOR_RECIPE = 60.0
_POLL_SECONDS = 0.1


class FeatureStore(StoreWriter):
    """Features of the videos of a data set, returned by :func:`~ssn_feat.store.open_store`.

    Holds no open files, and no caches of anything that may change except the recipe, to which a stream may be added. It
    sees what other processes commit, and may be pickled.
    """

    def clean(self) -> None:
        """Remove what ended processes left behind: incomplete videos, arrays of interrupted changes, and claims."""
        self.claims.clean()
        self.backend.clean()
        for key, video_id in self.backend.noted_changes().items():
            if not video_id or key_of(video_id) != key:  # not fully written, so nothing was changed
                self.backend.forget_change(key)
                continue
            with self.claims.hold(video_id) as claim:
                if claim is not None:  # else it is still being changed
                    self._remove_unused(video_id)
                    self.backend.forget_change(key)

    # --- changing committed videos

    def add_streams(self, video_id: str, features: Mapping[str, ArrayLike], spans: ArrayLike, claim: HeldClaim) -> None:
        """Add streams to a committed video, or replace them, in one atomic step; its other streams are not touched.

        ``claim``: the claim on the video, held by the caller (:attr:`claims`). Other arguments and errors as for
        :meth:`write`. Raises UserError if the spans differ from those of the video.
        """
        self.require_growing()
        before = self.recorded(video_id)
        arrays = self._checked(video_id, features, spans)
        times, recorded = describe_array(arrays[TIME]), before["arrays"][TIME]
        if recorded.get("sha256") != times["sha256"]:
            raise UserError(
                f"its snippets differ from those of its streams in the store: {recorded.get('shape', '?')[0]} rows to "
                f"{float(recorded.get('max_abs', 0)):.3f} s there, {len(arrays[TIME])} rows to "
                f"{times['max_abs']:.3f} s now"
            )
        with suppress(Damage):
            check_hash(TIME, self._named_array(video_id, TIME, recorded), recorded)
            del arrays[TIME]
        made_by = {**self._made_by(self.streams_in(before)), **(before.get("fingerprints") or {})}
        attributes = {
            **before,
            "fingerprints": dict(sorted({**made_by, **self._made_by(features)}.items())),
            "arrays": {**before["arrays"], **{name: describe_array(array) for name, array in arrays.items()}},
        }
        self._change(video_id, attributes, arrays, claim)

    def replace_video(
        self,
        video_id: str,
        features: Mapping[str, ArrayLike],
        spans: ArrayLike,
        info: Mapping[str, Any] | None,
        claim: HeldClaim,
    ) -> None:
        """Replace everything that is stored of a committed, possibly damaged video in one atomic step.

        ``claim`` as for :meth:`add_streams`, other arguments and errors as for :meth:`write`. Raises UserError if the
        video has a stream that is not among ``features``: it would be lost.
        """
        self.require_growing()
        arrays = self._checked(video_id, features, spans)
        held: set[str] = set()
        with suppress(UserError):  # of a damaged video it is not known
            held = set(self.streams_in(self.recorded(video_id)))
        if held - features.keys():
            raise UserError(
                f"its stream {', '.join(sorted(held - features.keys()))} would be lost: extract all of them"
            )
        attributes = video_attributes(video_id, arrays, info or {}, self._made_by(features))
        self._change(video_id, attributes, arrays, claim)

    def remove_video(self, video_id: str) -> None:
        """Remove a committed video, so that it is extracted again. Does nothing if it is not in the store.

        Hold the claim on the video (:attr:`claims`) if other processes may be writing it.
        """
        with self._writing():
            self.backend.remove(group_of(video_id))

    def remove_stream(self, stream: str, advance: Callable[[], object] = lambda: None) -> tuple[str, ...]:
        """Remove a stream from the recipe and then from every video; returns ids of videos that still hold it.

        These are in work elsewhere; call it again later. Readers see the stream no longer as soon as the recipe has
        changed. A video without another stream is removed. ``advance`` is called after each video. Raises UserError
        for an unknown stream and for the last one.
        """
        self.require_growing()
        listed = streams_of(self.recipe)
        if stream in listed:
            if len(listed) == 1:
                raise UserError(f"{stream!r} is the only stream of the store {self.path}: delete the store instead")
            self._change_recipe(lambda held: restrict(held, streams_of(held).keys() - {stream}))
        busy, found = [], False
        for video_id in self.ids:
            if stream in self.recorded(video_id)["arrays"] and stream != TIME:
                found = True
                with self.claims.hold(video_id) as claim:
                    if claim is None:
                        busy.append(video_id)
                    else:
                        self._remove_stream_of(video_id, stream, claim)
            advance()
        if not found and stream not in listed:
            raise UserError(f"the store {self.path} has no stream {stream!r}; it has {', '.join(self.streams)}")
        return tuple(busy)

    def _remove_stream_of(self, video_id: str, stream: str, claim: HeldClaim) -> None:
        before = self.recorded(video_id)  # again, under the claim
        arrays = {name: described for name, described in before["arrays"].items() if name != stream}
        if arrays.keys() <= {TIME}:
            self.remove_video(video_id)
            return
        made_by = {**self._made_by(arrays.keys() - {TIME}), **(before.get("fingerprints") or {})}
        made_by.pop(stream, None)
        self._change(video_id, {**before, "fingerprints": made_by, "arrays": arrays}, {}, claim)

    def _change(
        self, video_id: str, attributes: Mapping[str, Any], new: Mapping[str, NDArray[Any]], claim: HeldClaim
    ) -> None:
        """Commit other attributes and ``new`` arrays of a committed video, then remove the arrays that it lost."""
        group, key = group_of(video_id), key_of(video_id)
        before, revision = self._raw(group), self._revision(group) + 1
        folders = {name: {"folder": f"{name}~{revision}"} for name in new}
        arrays = {name: {**described, **folders.get(name, {})} for name, described in attributes["arrays"].items()}
        with self._writing():
            self.backend.note_change(key, video_id)
            try:
                with self.backend.rebuild(group) as builder:
                    for name, array in new.items():
                        write_array(builder, folders[name]["folder"], array, self.compress)
                    builder.add_group("", {**attributes, "revision": revision, "arrays": arrays})
                    self.require_unchanged(new.keys() - {TIME})
                    if not claim.is_held() or self._raw(group) != before or not builder.commit():
                        raise StoreWriteError(
                            f"video {video_id!r} of the store {self.path} was changed by another process meanwhile; "
                            "that change was kept"
                        )
                self.backend.remove_record(f"{FAILED}/{key}")
            finally:
                with suppress(UserError, *self.backend.write_errors):  # the next call of clean() tries again
                    if claim.is_held():
                        self._remove_unused(video_id)
                        self.backend.forget_change(key)

    def _raw(self, group: str) -> bytes | None:
        try:
            return self.backend.read(f"{group}/{GROUP}")
        except FileNotFoundError:
            return None

    def _revision(self, group: str) -> int:
        """How often a video was written. Every change has another number, so names of arrays are never used again."""
        try:
            return int(self.backend.attributes(group).get("revision", 1))
        except (OSError, ValueError, TypeError):  # damaged: the names of its arrays tell
            numbers = (name.partition("~")[2] for name in self.backend.arrays(group))
            return max((int(number) for number in numbers if number.isdecimal()), default=1)

    def _remove_unused(self, video_id: str) -> None:
        """Remove arrays to which the attributes of a video do not refer."""
        group = group_of(video_id)
        try:
            used = array_folders(self.backend.attributes(group))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, Damage):  # damage is reported elsewhere
            return
        for name in self.backend.arrays(group):
            if name not in used:
                self.backend.remove(f"{group}/{name}")

    # --- changing the recipe

    def extend_recipe(self, recipe: Mapping[str, Any]) -> None:
        """Add the streams of ``recipe`` that the store lacks to its recipe.

        Videos get them by :meth:`add_streams`. Raises UserError as :meth:`require_recipe` does.
        """
        asked = plain_recipe(recipe)
        self.require_recipe(asked)
        if streams_of(self.recipe) and streams_of(asked).keys() - streams_of(self.recipe).keys():
            self._change_recipe(lambda held: combine(held, asked))
            self.require_recipe(asked)  # another process may have added the stream in another way

    def _change_recipe(self, change: Callable[[Recipe], Recipe]) -> None:
        with self._writing(), self._recipe_claimed():
            self.require_unchanged()
            attributes = self.backend.attributes("")
            recipe = change(attributes["recipe"])
            attributes |= {"recipe": recipe, "fingerprint": fingerprint(recipe)}
            if "fingerprints" in attributes:
                attributes["fingerprints"] = fingerprints(recipe)
            self.backend.replace("", attributes)
        self._take_recipe(attributes)

    @contextmanager
    def _recipe_claimed(self) -> Iterator[None]:
        end = time.monotonic() + _SECONDS_FOR_RECIPE
        while True:
            with self.claims.hold(RECIPE_CLAIM) as claim:
                if claim is not None:
                    yield
                    return
            if time.monotonic() > end:
                raise StoreWriteError(
                    f"another process has been changing the streams of the store {self.path} for "
                    f"{_SECONDS_FOR_RECIPE:.0f} s; run the same command again later"
                )
            time.sleep(_POLL_SECONDS)


__all__ = ["RECIPE_CLAIM", "FeatureStore"]
