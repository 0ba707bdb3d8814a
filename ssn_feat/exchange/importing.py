"""Features of others into a feature store: what is there, what is missing, each video checked and committed alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations import Dataset, read_annotations
from ssn_feat.annotations.dataset import Video
from ssn_feat.errors import UserError
from ssn_feat.exchange.arrays import read_array
from ssn_feat.exchange.import_options import ImportOptions
from ssn_feat.exchange.layouts import Orientation
from ssn_feat.exchange.patterns import ID, Location
from ssn_feat.exchange.time_base import Rescaled, TimeBase
from ssn_feat.progress import progress_bar
from ssn_feat.store import FeatureStore, StoreWriteError, open_or_create_store
from ssn_feat.terminal import printable

Streams = dict[str, NDArray[Any]]
# Raised whenever the same options begin to give other values.
VERSION = 1
_LISTED = 20


@dataclass(frozen=True)
class ImportReport:
    """What an import did."""

    imported: dict[str, int]
    """Rows of each video that was committed."""
    done_before: int
    """Videos that were there already."""
    missing: tuple[str, ...]
    """Ids that the annotations name and that have no features."""
    extra: tuple[str, ...]
    """Ids of features that the annotations do not name."""
    failures: dict[str, str]
    """Why, by id, for each video that was not imported."""

    @property
    def exit_code(self) -> int:
        """0: no failures. 1: some videos failed. 2: nothing but failures."""
        if not self.failures:
            return 0
        return 1 if self.imported or self.done_before else 2


def import_features(options: ImportOptions) -> ImportReport:
    """Import features into a store, one commit a video; a video that does not fit its time base is a failure.

    Prints what it will do and what was missing, extra or wrong. Raises UserError where nothing can be done at all:
    nothing found, no id that the annotations know, a store of another recipe.
    """
    dataset = read_annotations(options.annotations)
    found = _found(options)
    wanted = {video_id: found[video_id] for video_id in dataset.videos if video_id in found}
    missing = tuple(sorted(dataset.videos.keys() - found.keys()))
    extra = tuple(sorted(found.keys() - dataset.videos.keys()))
    if not wanted:
        raise UserError(
            f"none of the {len(found)} videos in {options.features} is in {options.annotations}: features have ids "
            f"such as {next(iter(found))!r}, the annotations such as {min(dataset.videos, default='')!r}; --files and "
            "--id say what is before or after the id"
        )
    recipe = _recipe(options, dataset, wanted)
    print(_plan(options, dataset, wanted, missing, extra, recipe), flush=True)
    report = ImportReport({}, 0, missing, extra, {})
    if options.dry_run:
        return report
    store = open_or_create_store(options.store, recipe, options.name or dataset.name, options.compress)
    report = _run(options, store, dataset, wanted, report)
    print(_summary(report, store), flush=True)
    return report


def main(options: ImportOptions) -> int:
    """Import features that others extracted into a feature store; their time base must be given, is never guessed."""
    return import_features(options).exit_code


def _found(options: ImportOptions) -> dict[str, dict[str, Location]]:
    """Locations per stream of each video, by the id that the annotations use; of videos that have every stream."""
    streams = {pattern.stream: pattern.find(options.features) for pattern in options.patterns}
    complete = set.intersection(*(set(found) for found in streams.values()))
    if not complete:
        raise UserError(f"no video in {options.features} has all of the streams {', '.join(streams)}")
    return {
        options.id.replace(ID, video_id): {stream: found[video_id] for stream, found in streams.items()}
        for video_id in sorted(complete)
    }


def _run(
    options: ImportOptions,
    store: FeatureStore,
    dataset: Dataset,
    wanted: Mapping[str, Mapping[str, Location]],
    report: ImportReport,
) -> ImportReport:
    imported: dict[str, int] = {}
    failures: dict[str, str] = {}
    done = set(store.ids) & wanted.keys()
    with progress_bar("videos", len(wanted) - len(done)) as advance:
        for video_id, locations in wanted.items():
            if video_id in done:
                continue
            try:
                imported[video_id] = _import(options, store, dataset.videos[video_id], locations)
            except StoreWriteError:
                raise
            except (UserError, OSError) as error:
                failures[video_id] = str(error)
                store.record_failure(video_id, str(error))
            advance()
    return ImportReport(imported, len(done), report.missing, report.extra, failures)


def _import(options: ImportOptions, store: FeatureStore, video: Video, locations: Mapping[str, Location]) -> int:
    """Commit one video; the number of its rows."""
    base, streams = _loaded(options, video, locations)
    rows = len(next(iter(streams.values())))
    info = {
        "duration": video.duration,
        "fps": getattr(base, "fps", video.fps),
        "frames": video.frames,
        "source": {stream: location.path.name for stream, location in locations.items()},
        "time_base": base.describe(),
    }
    store.write(video.id, streams, base.spans(rows, video.duration), info)
    return rows


def _loaded(options: ImportOptions, video: Video, locations: Mapping[str, Location]) -> tuple[TimeBase, Streams]:
    """Time base and arrays of a video. Raises UserError where they do not go together."""
    base = options.time_base(video)
    streams = _streams(options, video, locations, base)
    wrong = base.contradiction(len(next(iter(streams.values()))), video.duration, options.tolerance)
    if wrong:
        raise UserError(f"the time base does not fit: {wrong}")
    return base, streams


def _streams(options: ImportOptions, video: Video, locations: Mapping[str, Location], base: TimeBase) -> Streams:
    """The arrays of a video, rows first, split, all of one length."""
    arrays = {
        stream: _rows_first(
            read_array(location.path, location.key),
            options.axes,
            base,
            video.duration,
            options.tolerance,
            str(location),
        )
        for stream, location in locations.items()
    }
    arrays = _split(arrays, options.columns)
    counts = {stream: len(array) for stream, array in arrays.items()}
    if len(set(counts.values())) > 1:
        if not options.shortest:
            raise UserError(f"the streams differ in rows ({counts}); --shortest cuts them to the shortest")
        arrays = {stream: array[: min(counts.values())] for stream, array in arrays.items()}
    return arrays


def _rows_first(
    array: NDArray[Any], axes: Orientation, base: TimeBase, duration: float, tolerance: float, where: str
) -> NDArray[Any]:
    """``(T, D)`` or ``(T, C, D)``. Raises UserError where the order of axes is not said and not plain."""
    if array.ndim == 1 and base == Rescaled(1):  # one row a video
        array = array[None] if axes != "DT" else array[:, None]
    if array.ndim == 3 and axes != "CTD" and 1 in array.shape[::2]:  # (1, T, D), (T, D, 1)
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if array.ndim != (3 if axes == "CTD" else 2):
        expected = ", ".join("TD" if axes == "auto" else axes)
        raise UserError(f"{where}: the array is {array.shape}, which is not ({expected})")
    if axes == "CTD":
        return np.swapaxes(array, 0, 1)
    if axes == "auto":
        fits = [base.contradiction(rows, duration, tolerance) is None for rows in array.shape]
        if fits[0] == fits[1]:
            which = "either" if fits[0] else "neither"
            raise UserError(
                f"{where}: the array is {array.shape} and by the time base {which} axis may be that of rows: "
                "say --orientation TD or DT" + ("" if fits[0] else ", and look at the time base")
            )
        axes = "TD" if fits[0] else "DT"
    return array if axes == "TD" else array.T


def _split(arrays: Streams, columns: Mapping[str, tuple[int, int]]) -> Streams:
    if not columns:
        return arrays
    (whole,) = arrays.values()
    width, last = whole.shape[-1], max(end for _, end in columns.values())
    if last > width:
        raise UserError(f"split goes up to column {last}, but there are {width}")
    return {stream: whole[..., start:end] for stream, (start, end) in columns.items()}


def _recipe(options: ImportOptions, dataset: Dataset, wanted: Mapping[str, Mapping[str, Location]]) -> dict[str, Any]:
    """All that decides the features, with the width of each stream as the first readable video has it."""
    widths = _widths(options, dataset, wanted)
    columns = options.columns
    recipe = {
        "imported": VERSION,
        "origin": options.origin,
        "time_base": options.described,
        "streams": {
            stream: {"feature_dim": width, **({"columns": list(columns[stream])} if stream in columns else {})}
            for stream, width in sorted(widths.items())
        },
    }
    return recipe if options.dtype == "float16" else {**recipe, "dtype": options.dtype}


def _widths(options: ImportOptions, dataset: Dataset, wanted: Mapping[str, Mapping[str, Location]]) -> dict[str, int]:
    first = None
    for video_id, locations in wanted.items():
        video = dataset.videos[video_id]
        try:
            return {name: array.shape[-1] for name, array in _loaded(options, video, locations)[1].items()}
        except (UserError, OSError) as error:
            first = first or f"video {video_id!r}: {error}"
    raise UserError(f"none of the {len(wanted)} videos can be imported; {first}")


def _plan(
    options: ImportOptions,
    dataset: Dataset,
    wanted: Mapping[str, Any],
    missing: tuple[str, ...],
    extra: tuple[str, ...],
    recipe: Mapping[str, Any],
) -> str:
    lines = [f"features {len(wanted)} of {len(dataset.videos)} videos that {options.annotations} names"]
    lines += [f"missing  {len(missing)}: {_listing(missing)}"] if missing else []
    lines += [f"extra    {len(extra)} that it does not name are left out: {_listing(extra)}"] if extra else []
    streams = ", ".join(f"{name} ({stream['feature_dim']})" for name, stream in recipe["streams"].items())
    lines.append(f"streams  {streams}, {options.dtype}")
    lines.append(f"time     {', '.join(f'{name} {value}' for name, value in recipe['time_base'].items())}")
    return "\n".join(lines)


def _listing(ids: tuple[str, ...]) -> str:
    return ", ".join(map(printable, ids[:_LISTED])) + (", ..." if len(ids) > _LISTED else "")


def _summary(report: ImportReport, store: FeatureStore) -> str:
    lines = [
        f"imported {len(report.imported)} videos, {sum(report.imported.values()):,} rows into {store.path}; "
        f"{report.done_before} were there before"
    ]
    if report.failures:
        lines.append(f"{len(report.failures)} failed:")
        lines += [f"  {printable(video_id)}: {printable(reason)}" for video_id, reason in report.failures.items()]
    return "\n".join(lines)
