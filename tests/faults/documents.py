"""Annotations, proposals, results, scores, options and checkpoints that are not what they should be."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis.strategies import SearchStrategy, sampled_from
from training.synthetic_store import quick, write

from ssn_feat.annotations import (
    Dataset,
    Instance,
    Video,
    read_activitynet,
    read_annotations,
    write_activitynet,
    write_csv,
)
from ssn_feat.annotations.dialects import load_records
from ssn_feat.annotations.validate import problems
from ssn_feat.backbones import read_weights
from ssn_feat.cli import load_yaml, to_dict
from ssn_feat.detection.classifier import read_class_scores
from ssn_feat.detection.detect_store import DetectOptions
from ssn_feat.detection.model_folder import ModelSettings
from ssn_feat.detection.scores import ProposalScores, VideoScores, read_original
from ssn_feat.errors import UserError
from ssn_feat.exchange.array_files import read_array_file
from ssn_feat.extraction import ExtractOptions
from ssn_feat.proposals import Proposals
from ssn_feat.proposals.foreign import read_csv_folder, read_frame_list, read_proposal_json
from ssn_feat.results.detections import Detections
from ssn_feat.runs.checkpoints import load_run, read_run_checkpoint
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import FitOptions
from ssn_feat.video.raft import load_raft

from . import mutations as other
from .outcome import Outcome, unforeseen

_EACH = 8
_MEMORY = 4 << 30  # beside what the process has already
_LABELS = ("climb", "run fast", "jump, high")


@dataclass(frozen=True)
class Kind:
    """One kind of file: how it is spoilt and how it is read, and what can be done with what was read."""

    name: str
    file: str
    strategy: SearchStrategy[bytes]
    read: Callable[[Path], Any]
    use: Callable[[Any], Any] = lambda value: value


def rounds(generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """A spoilt file is refused in a line that names it, or gives a valid object; no code in it is ever run."""
    marker = folder / "code-was-run"
    kinds = _kinds(folder, marker)
    with _limited_memory():
        while True:
            for kind in kinds:
                for content in other.examples(kind.strategy, _EACH, int(generator.integers(1 << 30))):
                    path = folder / kind.file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                    failing = _failing(kind, path)
                    if marker.exists():
                        failing = "code of the file was run"
                        marker.rmdir()
                    yield Outcome(f"{kind.name}: {content[:300]!r}" if failing else kind.name, failing)


def _failing(kind: Kind, path: Path) -> str:
    try:
        value = kind.read(path)
    except UserError as error:
        told = str(error)
        if path.stem not in told and path.parent.name not in told:
            return f"the message does not name the file: {told[:200]}"
        return f"the message has {told.count(chr(10)) + 1} lines: {told[:300]!r}" if "\n" in told.strip() else ""
    except Exception as error:
        return f"read: {unforeseen(error)}"
    try:
        kind.use(value)
    except UserError:
        return ""
    except Exception as error:
        return f"use: {unforeseen(error)}"
    return ""


@contextmanager
def _limited_memory() -> Iterator[None]:
    """A file that claims to be huge must not take the machine's memory."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    held = Path("/proc/self/statm")
    if held.exists():  # elsewhere nothing says what the process has
        most = int(held.read_text().split()[0]) * resource.getpagesize() + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most if before[1] < 0 else min(most, before[1]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def _kinds(folder: Path, marker: Path) -> list[Kind]:
    evil = Evil(marker)
    return [
        *_annotations(folder),
        *_proposals(folder, evil),
        *_results(folder, evil),
        *_options(f"mkdir {marker}"),
        *_runs(folder, evil),
        *_arrays(folder, evil),
        *_weights(evil),
    ]


def _dataset() -> Dataset:
    videos = [
        Video("a", 10.0, "training", (Instance("climb", 1.0, 2.5), Instance("jump, high", 3.0, 9.0)), 25.0, 250),
        Video("v_b", 20.5, "validation", (Instance("run fast", 0.0, 20.5),), 30.0, 615),
        Video("c", 7.0, "testing", ()),
    ]
    return Dataset.of("toy", videos, _LABELS)


def _annotations(folder: Path) -> list[Kind]:
    dataset = _dataset()
    write_activitynet(dataset, folder / "sound.json")
    write_csv(dataset, folder / "sound.csv")
    official = json.loads((folder / "sound.json").read_text())
    flat = {
        "a": {"duration_second": 10.0, "duration_frame": 250, "annotations": [{"label": "run", "segment": [1, 2]}]},
        "b": {"duration_second": 3.0, "annotations": []},
    }
    multithumos = {"a": {"subset": "test", "duration": 9.5, "actions": [[1, 0.5, 2.0], [65, 3.0, 4.0]]}}
    ssn_list = "# 0\na\n250\n1\n1\n1 10 60\n2\n1 0.61 1.0 12 59\n0 0.0 0.0 100 120\n# 1\nframes/v_b\n600\n1\n0\n0\n"
    thumos = folder / "thumos14"
    for kind in ("annotation", "TH14"):
        (thumos / kind).mkdir(parents=True, exist_ok=True)
    (thumos / "test_durations.txt").write_text("a.mp4\n10.0\nb.mp4\n20.0\n")
    (thumos / "test_avoid_videos.txt").write_text("a Diving\n")
    (thumos / "annotation" / "Diving_test.txt").write_text("a  1.0 2.0\nb  3.5 4.5\n")
    sound = folder / "sound.json"

    def used(read: Dataset) -> None:
        for video in read.videos.values():
            times = [time for i in video.instances for time in (i.start, i.end)]
            if not np.isfinite([video.duration, *times]).all() or video.duration <= 0 or min(times, default=0) < 0:
                raise ValueError(f"video {video.id!r} has times that are none: {video.duration}, {times[:4]}")
        write_activitynet(read, folder / "again.json")
        if read_activitynet(folder / "again.json", read.name) != read:
            raise ValueError("written and read again it is another data set")

    def validated(spec: str) -> Callable[[Path], Any]:
        return lambda path: problems(load_records(spec.format(path)))

    def kind(name: str, file: str, strategy: SearchStrategy[bytes], spec: str) -> list[Kind]:
        return [
            Kind(name, file, strategy, lambda path: read_annotations(spec.format(path)), used),
            Kind(f"{name} (validate)", file, strategy, validated(spec)),
        ]

    return [
        *kind("activitynet", "spoilt.json", other.other_json(official), "activitynet:{}"),
        *kind("activitynet-v", "spoilt.json", other.other_json(official), "activitynet-v:{}"),
        *kind("flat json", "spoilt.json", other.other_json(flat), "activitynet:{}"),
        *kind("csv", "spoilt.csv", other.other_lines((folder / "sound.csv").read_text(), ","), "csv:{}"),
        *kind("csv bytes", "spoilt.csv", other.other_bytes((folder / "sound.csv").read_bytes()), "csv:{}"),
        *kind("multithumos", "spoilt.json", other.other_json(multithumos), "multithumos:{}"),
        *kind("ssn list", "spoilt.txt", other.other_lines(ssn_list), f"ssn-list:{{}}@{sound}"),
        *kind("ssn list bytes", "spoilt.txt", other.other_bytes(ssn_list.encode()), f"ssn-list:{{}}@{sound}"),
        *_thumos(thumos),
    ]


def _thumos(folder: Path) -> list[Kind]:
    found = []
    for place in ("test_durations.txt", "test_avoid_videos.txt", "annotation/Diving_test.txt"):
        whole = (folder / place).read_text()

        def read(path: Path, whole: str = whole) -> Any:
            try:
                return read_annotations(f"thumos14-ssn:{folder}")
            finally:
                path.write_text(whole)

        found.append(Kind(f"thumos14 {place}", f"thumos14/{place}", other.other_lines(whole), read))
    return found


def _proposals(folder: Path, evil: object) -> list[Kind]:
    intervals = {"a": np.array([[0.0, 2.0], [1.0, 9.0]]), "b": np.zeros((0, 2))}
    scores = {"a": np.array([0.5, 0.25]), "b": np.zeros(0)}
    actionness = {"a": np.linspace(0, 1, 5, dtype=np.float32), "b": np.zeros(1, np.float32)}
    spans = {id: np.stack((np.arange(len(v)), np.arange(1, len(v) + 1)), axis=1) for id, v in actionness.items()}
    whole = Proposals(intervals, scores, "toy", {"n": 2}, actionness, spans)
    listed = "a 10 50 0.5\na 60 90 0.25\nb 1 2 0.125\n"
    table = "xmin,xmax,xmin_score,xmax_score\n0.1,0.5,0.9,0.8\n0.2,0.9,0.5,0.5\n"
    results = {"results": {"a": [{"score": 0.5, "segment": [1.0, 2.0]}], "b": []}}

    def used(read: Proposals) -> None:
        read.save(Path(folder, "again.npz"))
        read.top(1)

    return [
        Kind("proposals", "spoilt.npz", other.other_npz(_arrays_of(whole), evil, "header"), Proposals.load, used),
        Kind("proposal json", "spoilt.json", other.other_json(results), read_proposal_json, used),
        Kind(
            "frame list", "spoilt.txt", other.other_lines(listed), lambda p: read_frame_list(p, {"a": 25.0, "b": 30.0})
        ),
        Kind(
            "csv folder", "tables/a.csv", other.other_lines(table, ","), lambda p: read_csv_folder(p.parent, {"a": 9.0})
        ),
        Kind(
            "csv folder",
            "tables/a.csv",
            other.other_bytes(table.encode()),
            lambda p: read_csv_folder(p.parent, {"a": 9.0}),
        ),
    ]


def _arrays_of(whole: Any) -> dict[str, np.ndarray]:
    """The arrays of what ``save`` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "whole.npz")
        whole.save(path)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


def _results(folder: Path, evil: object) -> list[Kind]:
    rows = [
        {"label": "climb", "score": 0.5, "segment": [1.0, 2.0]},
        {"label": "run fast", "score": -1, "segment": [0, 9]},
    ]
    results = {"version": "1", "results": {"a": rows, "b": []}, "external_data": {"used": False, "details": ""}}
    zeros = np.zeros
    video = VideoScores(np.array([[0.0, 2.0]]), zeros((1, 4), "f4"), zeros((1, 3), "f4"), zeros((1, 3, 2), "f4"), 9.0)
    scores = ProposalScores.of(_LABELS, {"a": video})
    classes = {"a": {"climb": 0.5, "run fast": 0.1}, "b": [0.1, 0.2, 0.3]}
    table = "video,climb,run fast\na,0.5,0.25\nb,1,2\n"
    archive = {"video_id": np.array(["a", "b"]), "scores": np.ones((2, 3)), "labels": np.array(_LABELS)}
    original = {"a": (np.array([[0.1, 0.5]]), zeros((1, 4)), zeros((1, 3)), zeros((1, 3, 2)))}
    dataset = _dataset()
    pickles = [pickle.dumps(evil), pickle.dumps({"a": evil}), pickle.dumps({"a": (1, 2)}), pickle.dumps([1]), b""]

    def used(read: Detections) -> None:
        read.write(Path(folder, "again.json"))

    def class_scores(path: Path) -> Any:
        return read_class_scores(path, _LABELS)

    def score_pickle(path: Path) -> Any:
        return read_original(path, dataset, allow_pickle=True)

    return [
        Kind("detections", "spoilt.json", other.other_json(results), Detections.read, used),
        Kind("detections, labels", "spoilt.json", other.other_json(results), lambda p: Detections.read(p, _LABELS)),
        Kind("scores", "spoilt.npz", other.other_npz(_arrays_of(scores), evil), ProposalScores.load),
        Kind("class scores json", "spoilt.json", other.other_json(classes), class_scores),
        Kind("class scores csv", "spoilt.csv", other.other_lines(table, ","), class_scores),
        Kind("class scores npz", "spoilt.npz", other.other_npz(archive, evil), class_scores),
        Kind(
            "score pickle",
            "spoilt.pkl",
            other.other_bytes(pickle.dumps(original)) | sampled_from(pickles),
            score_pickle,
        ),
    ]


def _options(command: str) -> list[Kind]:
    wholes = {
        FitOptions: FitOptions(store=Path("s.zarr"), annotations="a.json", out=Path("run"), proposals=Path("p.npz")),
        DetectOptions: DetectOptions(Path("s.zarr"), Path("p.npz"), (Path("run"),)),
        ExtractOptions: ExtractOptions(Path("videos"), Path("s.zarr")),
        ModelSettings: ModelSettings(("actionness-1",), ("ssn-1",)),
    }
    return [
        Kind(
            cls.__name__,
            "spoilt.yaml",
            other.other_yaml(to_dict(whole), command),
            lambda path, cls=cls: load_yaml(cls, path),
            to_dict,
        )
        for cls, whole in wholes.items()
    ]


def _runs(folder: Path, evil: object) -> list[Kind]:
    data = write(folder / "synthetic", videos=6, dim=4)
    found = []
    for head in ("ssn", "actionness"):
        out = folder / f"run-{head}"
        proposals = data.proposals if head == "ssn" else None
        steps = quick(epochs=1, epoch_multiplier=1, batch_videos=2)
        fit(data.options(out, head=head, proposals=proposals, optimisation=steps))
        whole = read_run_checkpoint(out / "checkpoint.pt")
        found.append(Kind(f"checkpoint {head}", "spoilt.pt", other.other_checkpoint(whole, evil), load_run))
        shutil.rmtree(out)
    return found


def _arrays(folder: Path, evil: object) -> list[Kind]:
    """Features as other programs write them."""
    rows = np.arange(12, dtype="f4").reshape(4, 3)
    np.save(folder / "whole.npy", rows)
    kinds = [
        Kind("features npy", "spoilt.npy", other.other_bytes((folder / "whole.npy").read_bytes()), read_array_file),
        Kind("features npz", "spoilt.npz", other.other_npz({"rgb": rows}, evil), lambda p: read_array_file(p, "rgb")),
        Kind("features pt", "spoilt.pt", other.other_checkpoint({"rgb": torch.ones(3, 2)}, evil), read_array_file),
        Kind("features csv", "spoilt.csv", other.other_lines("a,b\n1,2\n3,4\n", ","), read_array_file),
        Kind(
            "features pickle",
            "spoilt.pkl",
            other.other_bytes(pickle.dumps({"rgb": rows})) | sampled_from([pickle.dumps(evil), b"", pickle.dumps([1])]),
            read_array_file,
        ),
    ]
    try:
        import h5py
    except ImportError:
        return kinds
    with h5py.File(folder / "whole.h5", "w") as file:
        file["rgb"] = rows
        file.create_dataset("a/flow", data=rows, compression="gzip", chunks=(2, 3))
    whole = other.other_bytes((folder / "whole.h5").read_bytes())
    return [
        *kinds,
        Kind("features hdf5", "spoilt.h5", whole, lambda path: read_array_file(path, "a/flow")),
        Kind("features hdf5, the only one", "spoilt.h5", whole, read_array_file),
    ]


def _weights(evil: object) -> list[Kind]:
    state = {f"module.base_model.{name}": torch.ones(3) for name in ("conv.weight", "conv.bias")}
    whole = {"state_dict": state, "epoch": 3, "arch": "x", "reg_stats": torch.ones(2, 2)}
    raft = {"feature_encoder.convnormrelu.0.weight": torch.ones(32, 3, 7, 7)}
    return [
        Kind("weights", "spoilt.pth", other.other_checkpoint(whole, evil), read_weights),
        Kind("RAFT weights", "spoilt.pth", other.other_checkpoint(raft, evil), load_raft),
    ]
