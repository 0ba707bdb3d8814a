"""The command ``remove``: videos, a stream or records of failures leave a growing store."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ssn_feat.errors import UserError
from ssn_feat.progress import progress_bar
from ssn_feat.store.feature_store import FeatureStore
from ssn_feat.store.opening import open_store
from ssn_feat.terminal import counted, listing, printable


@dataclass(frozen=True)
class RemoveOptions:
    """What to remove from a feature store."""

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """The feature store."""
    ids: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[ID ...]")] = ()
    """Videos to remove, with the records of their failures."""
    streams: tuple[str, ...] = ()
    """Streams to remove from all videos."""
    failed: bool = False
    """Remove the records of all failures; the next run tries these videos again in any case."""

    def __post_init__(self) -> None:
        if not self.ids and not self.streams and not self.failed:
            raise UserError("nothing to remove: name ids of videos, --streams NAME, or --failed")
        if self.ids and self.streams:
            raise UserError("streams are removed from all videos: leave out the ids, or --streams")


def remove(options: RemoveOptions) -> None:
    """Remove videos, streams or records of failures from a feature store, also while other processes write to it.

    Nothing is asked and nothing can be undone. Unknown names are an error, and then nothing is removed. The next
    extraction with the same options extracts removed videos and streams again.
    """
    store = open_store(options.store)
    store.require_growing()
    if options.ids:
        remove_videos(store, options.ids)
        print(f"removed {counted(len(set(options.ids)), 'video')}: {listing(sorted(set(options.ids)))}")
    if options.streams:
        _remove_streams(store, options.streams)
    if options.failed:
        failures = store.failures()
        for video_id in failures:
            store.forget_failure(video_id)
        listed = f": {listing(tuple(failures))}" if failures else ""
        print(f"removed {counted(len(failures), 'record')} of failures{listed}")


def remove_videos(store: FeatureStore, ids: Iterable[str]) -> None:
    """Remove videos and the records of their failures.

    Raises UserError, without removing anything, if a video is unknown or another process is working on it.
    """
    wanted = sorted(set(ids))
    known = {*store.ids, *store.failures()}
    unknown = [video_id for video_id in wanted if video_id not in known]
    if unknown:
        raise UserError(
            f"the store {store.path} has no video {listing(unknown)}; python extract/status.py {store.path} --videos "
            "lists all"
        )
    with ExitStack() as claims:
        busy = [video_id for video_id in wanted if claims.enter_context(store.claims.hold(video_id)) is None]
        if busy:
            raise UserError(
                f"another process is working on {listing(busy)}: nothing was removed; try again when it has finished"
            )
        for video_id in wanted:
            store.remove_video(video_id)
            store.forget_failure(video_id)


def _remove_streams(store: FeatureStore, streams: Iterable[str]) -> None:
    """Remove streams from all videos, and print which."""
    wanted = sorted(set(streams))
    unknown = [stream for stream in wanted if stream not in store.streams]
    if unknown:
        raise UserError(f"the store {store.path} has no stream {listing(unknown)}; it has {', '.join(store.streams)}")
    if set(wanted) == set(store.streams):
        raise UserError(f"the store {store.path} has no other stream: delete the store instead")
    for stream in wanted:
        with progress_bar("videos", len(store)) as advance:
            busy = store.remove_stream(stream, advance)
        print(f"removed stream {printable(stream)}")
        if busy:
            print(f"note: {listing(busy)} still hold it on the disk, unused, because other processes work on them")


__all__ = ["RemoveOptions", "remove", "remove_videos"]
