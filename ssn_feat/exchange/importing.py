"""Import features of other projects into a feature store; each video is checked and committed separately."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations import Dataset, read_annotations
from ssn_feat.annotations.dataset import Video
from ssn_feat.annotations.duration_reasons import reason_for_durations
from ssn_feat.annotations.joining import check_own_times, check_times, times_of_dataset
from ssn_feat.annotations.similar import similar_name
from ssn_feat.errors import UserError, exit_code_of
from ssn_feat.exchange.array_files import read_array_file
from ssn_feat.exchange.import_options import ImportFeaturesOptions
from ssn_feat.exchange.layouts import Orientation
from ssn_feat.exchange.patterns import ID, Location
from ssn_feat.exchange.time_base import Rescaled, TimeBase
from ssn_feat.progress import progress_bar
from ssn_feat.store import FeatureStore, StoreReadError, StoreWriteError, open_or_create_store
from ssn_feat.store.times import times_of_store
from ssn_feat.terminal import counted, listing, printable

Streams = dict[str, NDArray[Any]]
# Of the arrays of one video, by stream.
Locations = Mapping[str, Location]
# Incremented when the same options give other values than before.
VERSION = 1


@dataclass(frozen=True)
class ImportReport:
    """The result of an import."""

    imported: dict[str, int]
    """Rows of each video that was committed."""
    done_before: int
    """Number of videos that were already in the store."""
    missing: tuple[str, ...]
    """Ids of the annotations without features."""
    extra: tuple[str, ...]
    """Ids of features that are not in the annotations."""
    failures: dict[str, str]
    """The reason for each video that was not imported, by id."""

    @property
    def exit_code(self) -> int:
        """0: no failures. 1: some videos failed. 2: all videos failed."""
        return exit_code_of(len(self.failures), len(self.imported) + self.done_before)


class _WrongTimeBase(UserError):
    """The rows of a video do not fit its duration; ``end``: seconds at which they end, None if they were rescaled."""

    def __init__(self, message: str, base: TimeBase, rows: int, duration: float) -> None:
        super().__init__(message)
        self.duration = duration
        self.end = None if isinstance(base, Rescaled) else float(base.windows(rows)[-1, 1])


def import_features(options: ImportFeaturesOptions) -> ImportReport:
    """Import features into a store, one commit for each video. A video that does not fit its time base is a failure.

    Prints the plan and then missing, extra and failed videos. Raises UserError if no features are found, if none of
    their ids is in the annotations, or if the store has another recipe.
    """
    dataset = read_annotations(options.annotations)
    locations = _locations(options)
    wanted = {video_id: locations[video_id] for video_id in dataset.videos if video_id in locations}
    missing = tuple(sorted(dataset.videos.keys() - locations.keys()))
    extra = tuple(sorted(locations.keys() - dataset.videos.keys()))
    if not wanted:
        raise UserError(
            f"none of the {counted(len(locations), 'video')} in {options.features} is in {options.annotations}: "
            f"features have ids such as {next(iter(locations))!r}, the annotations such as "
            f"{min(dataset.videos, default='')!r}; --files and --id tell what precedes or follows the id"
            f"{similar_name(sorted(dataset.videos), locations, str(options.features))}"
        )
    recipe = _recipe(options, dataset, wanted)
    print(_describe_plan(options, dataset, wanted, missing, extra, recipe), flush=True)
    report = ImportReport({}, 0, missing, extra, {})
    annotated = times_of_dataset(dataset.only(wanted), options.annotations)
    check_own_times(dataset.only(wanted), options, source=options.annotations)
    if options.dry_run:
        return report
    store = open_or_create_store(options.store, recipe, options.name or dataset.name, options.compress)
    check_times(annotated, times_of_store(store, wanted), options)
    report = _run(options, store, dataset, wanted, report)
    print(_describe_result(report, store), flush=True)
    return report


def import_main(options: ImportFeaturesOptions) -> int:
    """Import features of other projects into a feature store. Their time base must be given; it is never inferred."""
    return import_features(options).exit_code


def _locations(options: ImportFeaturesOptions) -> dict[str, Locations]:
    """Locations of each stream's array, by id as in the annotations, for the videos that have every stream."""
    streams = {pattern.stream: pattern.find(options.features) for pattern in options.patterns}
    complete = set.intersection(*(set(locations) for locations in streams.values()))
    if not complete:
        raise UserError(f"no video in {options.features} has all of the streams {', '.join(streams)}")
    return {
        options.id.replace(ID, video_id): {stream: locations[video_id] for stream, locations in streams.items()}
        for video_id in sorted(complete)
    }


def _run(
    options: ImportFeaturesOptions,
    store: FeatureStore,
    dataset: Dataset,
    wanted: Mapping[str, Locations],
    report: ImportReport,
) -> ImportReport:
    imported: dict[str, int] = {}
    failures: dict[str, str] = {}
    done = _complete(store, wanted.keys(), options)
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


def _import(options: ImportFeaturesOptions, store: FeatureStore, video: Video, locations: Locations) -> int:
    """Commit one video; returns the number of its rows."""
    base, streams = _loaded(options, video, locations)
    rows = len(next(iter(streams.values())))
    info = {
        "duration": video.duration,
        "fps": getattr(base, "fps", video.fps),
        "frames": video.frames,
        "source": {stream: location.path.name for stream, location in locations.items()},
        "time_base": base.describe(),
    }
    with store.claims.hold(video.id) as claim:
        if claim is None:
            raise UserError("another run is importing it")
        if video.id not in store:
            store.write(video.id, streams, base.spans(rows, video.duration), info)
        else:
            held = store.streams_in(store.recorded(video.id))
            added = {stream: array for stream, array in streams.items() if stream not in held}
            store.add_streams(video.id, added or streams, base.spans(rows, video.duration), claim)
    return rows


def _complete(store: FeatureStore, wanted: Collection[str], options: ImportFeaturesOptions) -> set[str]:
    """The videos that have all of the streams to import; damaged ones are left to ``verify``."""
    asked = set(options.columns) or {pattern.stream for pattern in options.patterns}

    def is_complete(video_id: str) -> bool:
        try:
            return asked <= set(store.streams_in(store.attributes(video_id)))
        except StoreReadError:
            raise
        except UserError:
            return True

    stored = [video_id for video_id in store.ids if video_id in wanted]
    return {i for i, complete in zip(stored, store.map(is_complete, stored), strict=True) if complete}


def _loaded(options: ImportFeaturesOptions, video: Video, locations: Locations) -> tuple[TimeBase, Streams]:
    """Time base and arrays of a video. Raises UserError if they contradict each other."""
    base = options.time_base(video)
    streams = _streams(options, video, locations, base)
    empty = next((stream for stream, array in streams.items() if not array.size), None)
    if empty is not None:
        raise UserError(f"the array of {empty} is {streams[empty].shape}: it is empty")
    rows = len(next(iter(streams.values())))
    wrong = base.contradiction(rows, video.duration, options.tolerance)
    if wrong:
        raise _WrongTimeBase(f"the time base does not fit: {wrong}", base, rows, video.duration)
    return base, streams


def _streams(options: ImportFeaturesOptions, video: Video, locations: Locations, base: TimeBase) -> Streams:
    """The arrays of a video, rows first, split into streams of equal length."""
    arrays = {
        stream: _rows_first(
            read_array_file(location.path, location.key),
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
    """Reorder axes to ``(T, D)`` or ``(T, C, D)``. Raises UserError if the order is neither given nor unambiguous."""
    if array.ndim == 1 and base == Rescaled(1):  # one row for each video
        array = array[None] if axes != "DT" else array[:, None]
    if array.ndim == 3 and axes != "CTD" and 1 in array.shape[::2]:  # (1, T, D), (T, D, 1)
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if array.ndim != (3 if axes == "CTD" else 2):
        expected = ", ".join("TD" if axes == "auto" else axes)
        raise UserError(f"{where}: the array is {array.shape}, which is not ({expected})")
    if axes == "CTD":
        return np.swapaxes(array, 0, 1)
    if axes == "auto":
        fits = [rows > 0 and base.contradiction(rows, duration, tolerance) is None for rows in array.shape]
        if fits[0] == fits[1]:
            which = "either" if fits[0] else "neither"
            raise UserError(
                f"{where}: the array is {array.shape}, and {which} axis fits the time base as rows: "
                "give --orientation TD or DT" + ("" if fits[0] else ", or correct the time base")
            )
        axes = "TD" if fits[0] else "DT"
    return array if axes == "TD" else array.T


def _split(arrays: Streams, columns: Mapping[str, tuple[int, int]]) -> Streams:
    if not columns:
        return arrays
    (whole,) = arrays.values()
    width, last = whole.shape[-1], max(end for _, end in columns.values())
    if last > width:
        raise UserError(f"split needs {last} columns, but there are {width}")
    return {stream: whole[..., start:end] for stream, (start, end) in columns.items()}


def _recipe(options: ImportFeaturesOptions, dataset: Dataset, wanted: Mapping[str, Locations]) -> dict[str, Any]:
    """The recipe of the features. The width of each stream is taken from the first readable video."""
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


def _widths(options: ImportFeaturesOptions, dataset: Dataset, wanted: Mapping[str, Locations]) -> dict[str, int]:
    first, wrong = "", list[_WrongTimeBase]()
    for video_id, locations in wanted.items():
        video = dataset.videos[video_id]
        try:
            return {name: array.shape[-1] for name, array in _loaded(options, video, locations)[1].items()}
        except (UserError, OSError) as error:
            first = first or f"video {video_id!r}: {error}"
            wrong += [error] if isinstance(error, _WrongTimeBase) else []
    reason = _reason(wrong)
    raise UserError(f"none of the {counted(len(wanted), 'video')} can be imported; {first}{reason and f'; {reason}'}")


def _reason(wrong: list[_WrongTimeBase]) -> str:
    """Why the rows of all these videos end elsewhere than the videos; empty if no reason fits."""
    ends = [(error.end, error.duration) for error in wrong if error.end is not None]
    if not ends:
        return ""
    rows, durations = np.array(ends).T
    unknown = np.full(len(ends), np.nan)
    reason = reason_for_durations(rows, durations, unknown, "the rows", "the annotations")
    return reason and f"of the durations, {reason}"


def _describe_plan(
    options: ImportFeaturesOptions,
    dataset: Dataset,
    wanted: Mapping[str, Any],
    missing: tuple[str, ...],
    extra: tuple[str, ...],
    recipe: Mapping[str, Any],
) -> str:
    lines = [f"features {len(wanted)} of {counted(len(dataset.videos), 'video')} in {options.annotations}"]
    hint = similar_name(missing, extra, str(options.features))
    lines += [f"missing  {len(missing)}: {listing(missing)}{printable(hint)}"] if missing else []
    lines += [f"extra    {len(extra)} that are not in it are ignored: {listing(extra)}"] if extra else []
    streams = ", ".join(f"{name} ({stream['feature_dim']})" for name, stream in recipe["streams"].items())
    lines.append(f"streams  {streams}, {options.dtype}")
    lines.append(f"time     {', '.join(f'{name} {value}' for name, value in recipe['time_base'].items())}")
    return "\n".join(lines)


def _describe_result(report: ImportReport, store: FeatureStore) -> str:
    lines = [
        f"imported {counted(len(report.imported), 'video')}, {sum(report.imported.values()):,} rows into {store.path}; "
        f"{report.done_before} were already there"
    ]
    if report.failures:
        lines.append(f"{len(report.failures)} failed:")
        lines += [f"  {printable(video_id)}: {printable(reason)}" for video_id, reason in report.failures.items()]
    return "\n".join(lines)


__all__ = ["ImportReport", "import_features", "import_main"]
