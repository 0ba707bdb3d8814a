"""Export the features of a store as files for other projects, with their time base."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
import yaml
from numpy.typing import NDArray

from ssn_feat.annotations import Dataset, read_annotations
from ssn_feat.annotations.dataset import Video
from ssn_feat.annotations.joining import JoinOptions, check_times, times_of_dataset
from ssn_feat.annotations.matching import match_dataset
from ssn_feat.errors import UserError
from ssn_feat.exchange.grids import Grid, grid_of
from ssn_feat.exchange.patterns import ID
from ssn_feat.exchange.rescale import rescaled
from ssn_feat.files import replacing, write_npy, write_text
from ssn_feat.progress import progress_bar
from ssn_feat.store import FeatureStore, StoredVideo, open_store
from ssn_feat.store.times import times_of_store
from ssn_feat.terminal import counted

ExportFormat = Literal["actionformer", "opentad", "bmn"]
_LONGEST_NAME = 200


@dataclass(frozen=True)
class ExportFeaturesOptions(JoinOptions):
    """A feature store as files for another project."""

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """The feature store."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The folder to write, new or empty."""
    format: ExportFormat
    """Format: actionformer (npy, json, yaml), opentad (npy, json, py, missing_files.txt) or bmn (csv)."""
    annotations: str = ""
    """Annotations (a path or DIALECT:PATH) to write beside the features; required for actionformer and opentad."""
    streams: tuple[str, ...] = ()
    """Streams to concatenate in this order; default: all, rgb before flow."""
    files: str = ""
    """File names without ending, e.g. v_{id}; default: {id}, and v_{id} for bmn."""
    rows: int = 100
    """For bmn: number of rows of each video."""
    tolerance: float = 0.05
    """Seconds by which the times that the other project computes may differ from the times in the store."""

    def __post_init__(self) -> None:
        if self.files and ID not in self.files:
            raise UserError(f"files must contain {ID}, e.g. v_{ID}, not {self.files!r}")
        if self.format != "bmn" and not self.annotations:
            raise UserError(f"{self.format} needs --annotations for its data set")
        if self.rows < 1:
            raise UserError(f"rows must be at least 1, not {self.rows}")


@dataclass(frozen=True)
class ExportReport:
    """The result of an export."""

    videos: dict[str, int]
    """Rows of each video."""
    missing: tuple[str, ...]
    """Ids of the annotations that are not in the store."""
    grid: Grid | None
    """The time base for the other project; None for the rescaled rows of bmn."""


def export_features(options: ExportFeaturesOptions) -> ExportReport:
    """Write the features of a store as files for another project; prints a summary.

    Raises UserError if the folder is not empty, if an id cannot be a file name, and if the times that the other project
    computes would differ by more than ``tolerance`` from the times in the store.
    """
    store = open_store(options.store)
    stored = store.ids
    present = frozenset(stored)
    dataset = read_annotations(options.annotations) if options.annotations else None
    if dataset is not None:
        dataset = match_dataset(dataset, stored, f"the store {store.path}")
    ids = [i for i in dataset.videos if i in present] if dataset else list(stored)
    if not ids:
        in_annotations = f", none of them in {options.annotations}" if dataset else ""
        raise UserError(
            f"nothing to export: the store {store.path} holds {counted(len(stored), 'video')}{in_annotations}"
        )
    if dataset is not None:
        check_times(times_of_dataset(dataset, options.annotations), times_of_store(store, ids), options)
    missing = tuple(i for i in dataset.videos if i not in present) if dataset else ()
    streams = _streams(store, options.streams)
    names = {video_id: _file_name(video_id, options) for video_id in ids}
    grid = None if options.format == "bmn" else grid_of(store, ids, options.tolerance)
    features = _folder(options.out) / (f"csv_mean_{options.rows}" if options.format == "bmn" else "features")
    counts: dict[str, int] = {}
    with progress_bar("videos", len(ids)) as advance:
        for video in store.read_all(ids, streams):
            rows = _concatenated(video, streams)
            if options.format == "bmn":
                rows = rescaled(rows, video.spans, video.duration, options.rows)
                _write_csv(features / f"{names[video.id]}.csv", rows)
            else:
                write_npy(features / f"{names[video.id]}.npy", rows.astype(np.float32))
            counts[video.id] = len(rows)
            advance()
    width = sum(store.feature_dim(stream) for stream in streams)
    if dataset is not None and grid is not None:
        _DESCRIBE[options.format](_Export(options, dataset, grid, width, missing))
    report = ExportReport(counts, missing, grid)
    print(_describe_result(options, report, width))
    return report


def export_main(options: ExportFeaturesOptions) -> None:
    """Write a feature store as files for ActionFormer, OpenTAD or BMN."""
    export_features(options)


def _streams(store: FeatureStore, chosen: Sequence[str]) -> list[str]:
    unknown = [stream for stream in chosen if stream not in store.streams]
    if unknown:
        raise UserError(f"the store {store.path} has no stream {unknown[0]!r}; it has {', '.join(store.streams)}")
    # The order of published two-stream features.
    return list(chosen) or sorted(store.streams, key=lambda stream: (stream != "rgb", stream))


def _concatenated(video: StoredVideo, streams: Sequence[str]) -> NDArray[Any]:
    """The streams concatenated to ``(T, D)``; crops are averaged."""
    parts = [video.features[stream] for stream in streams]
    return np.concatenate([p.astype(np.float32).mean(axis=1) if p.ndim == 3 else p for p in parts], axis=1)


def _file_name(video_id: str, options: ExportFeaturesOptions) -> str:
    """The file name of a video, without its ending. Raises UserError for an id that cannot be a file name."""
    name = (options.files or ("v_{id}" if options.format == "bmn" else ID)).replace(ID, video_id)
    if name.startswith(".") or len(name.encode()) > _LONGEST_NAME or any(c in name for c in "/\\\0"):
        raise UserError(f"the id {video_id[:80]!r} cannot be the name of a file, which {options.format} needs")
    return name


def _folder(out: Path) -> Path:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already and is not empty: choose another folder")
    return out


def _write_csv(path: Path, rows: NDArray[Any]) -> None:
    """Write with nine digits, which reproduce every float32 (and float16) exactly."""
    header = ",".join(f"f{i}" for i in range(rows.shape[1]))
    with replacing(path) as part:
        np.savetxt(part, rows, fmt="%.9g", delimiter=",", header=header, comments="")


@dataclass(frozen=True)
class _Export:
    """The values for the files beside the features."""

    options: ExportFeaturesOptions
    dataset: Dataset
    grid: Grid
    width: int
    missing: tuple[str, ...]

    @property
    def around_id(self) -> tuple[str, str]:
        """The parts of file names before and after the id."""
        head, _, tail = (self.options.files or ID).partition(ID)
        return head, tail

    def write_annotations(self, dataset: Dataset) -> str:
        """Write annotations with frames and frame rates as both projects read them; returns the path of the file."""
        database = {
            video.id: _entry(video, dataset, self.grid.fps.get(video.id) or video.fps)
            for video in dataset.videos.values()
        }
        path = self.options.out / "annotations.json"
        write_text(path, json.dumps({"version": dataset.name, "database": database}))
        return str(path)


def _entry(video: Video, dataset: Dataset, fps: float | None) -> dict[str, Any]:
    instances = [
        {
            "label": instance.label,
            "segment": [instance.start, instance.end],
            "label_id": dataset.label_index[instance.label],
        }
        for instance in video.instances
    ]
    # OpenTAD computes the frame rate as frame / duration, so the number of frames is not rounded.
    rate = {} if fps is None else {"fps": fps, "frame": video.duration * fps}
    return {"subset": video.subset, "duration": video.duration, **rate, "annotations": instances}


def _actionformer(export: _Export) -> None:
    """The configuration for the loaders ``thumos`` and ``anet``. The latter needs a file for every video."""
    options, grid = export.options, export.grid
    exported = export.dataset.only(set(export.dataset.videos) - set(export.missing))
    head, tail = export.around_id
    values = {
        "json_file": export.write_annotations(exported),
        "feat_folder": str(options.out / "features"),
        "file_prefix": head or None,
        "file_ext": f"{tail}.npy",
        "num_classes": len(exported.labels),
        "input_dim": export.width,
        # -1 and 1 mean that rows are spread evenly over each video.
        "feat_stride": _whole_if_close(grid.stride),
        "num_frames": _whole_if_close(grid.window),
        "default_fps": _whole_if_close(grid.common_fps),
        "downsample_rate": 1,
    }
    text = yaml.safe_dump({"dataset": values, "model": {"input_dim": export.width}}, sort_keys=False)
    write_text(options.out / "actionformer.yaml", text)
    _write_lines(options.out / "missing_files.txt", export.missing)


def _opentad(export: _Export) -> None:
    """The data set of a configuration. OpenTAD skips the videos listed in missing_files.txt."""
    options, grid = export.options, export.grid
    features = options.out / "features"
    _write_lines(features / "missing_files.txt", export.missing)
    _write_lines(options.out / "category_idx.txt", export.dataset.labels)
    head, tail = export.around_id
    base: dict[str, Any] = {
        "type": "ThumosPaddingDataset" if grid.rows is None else "AnetResizeDataset",
        "ann_file": export.write_annotations(export.dataset),
        "class_map": str(options.out / "category_idx.txt"),
        "data_path": str(features),
        "block_list": str(features / "missing_files.txt"),
    }
    if grid.rows is None:
        base |= {
            "feature_stride": _whole_if_close(grid.stride),
            "sample_stride": 1,
            "offset_frames": _whole_if_close(grid.window / 2),
        }
    else:
        base |= {"resize_length": grid.rows}
    load_feats = {"type": "LoadFeats", "feat_format": "npy", "prefix": head, "suffix": tail}
    lines = [f"dataset = {base!r}", f"load_feats = {load_feats!r}", f"in_channels = {export.width}"]
    write_text(options.out / "opentad.py", "\n".join(lines) + "\n")


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))


_DESCRIBE: dict[str, Callable[[_Export], None]] = {"actionformer": _actionformer, "opentad": _opentad}


def _whole_if_close(value: float | None) -> float | int | None:
    return int(value) if value is not None and math.isclose(value, round(value), abs_tol=1e-9) else value


def _describe_result(options: ExportFeaturesOptions, report: ExportReport, width: int) -> str:
    lines = [
        f"{options.out}: {counted(len(report.videos), 'video')}, {sum(report.videos.values()):,} rows "
        f"of {width} columns"
    ]
    if report.missing:
        verb = "is" if len(report.missing) == 1 else "are"
        lines.append(f"{counted(len(report.missing), 'video')} of {options.annotations} {verb} not in the store")
    grid = report.grid
    if grid is not None and grid.rows is not None:
        lines.append(f"every video has {grid.rows} rows, spread evenly over it")
    elif grid is not None:
        rate = f"{grid.common_fps:g} frames a second" if grid.common_fps else "the frame rate of each video"
        lines.append(f"a row every {grid.stride:g} frames around the middle of {grid.window:g}, at {rate}")
    return "\n".join(lines)


__all__ = ["ExportFeaturesOptions", "ExportFormat", "ExportReport", "export_features", "export_main"]
