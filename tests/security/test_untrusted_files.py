"""Files that could hold code, or bytes that no parser expects."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from attacks import Bomb, armed

from ssn_feat.annotations import Dataset, Video
from ssn_feat.backbones import read_weights
from ssn_feat.cli import load_yaml
from ssn_feat.detection.scores import ProposalScores, read_original
from ssn_feat.errors import UserError
from ssn_feat.exchange import ImportFeaturesOptions, import_main
from ssn_feat.proposals import Proposals, SlidingOptions
from ssn_feat.results.detections import Detections
from ssn_feat.results.snippet_scores import SnippetScores
from ssn_feat.runs.checkpoints import load_run
from ssn_feat.video.raft import load_raft


@pytest.fixture
def bomb(tmp_path: Path) -> Iterator[Bomb]:
    """An object to put into files; the test fails if it goes off."""
    with armed(tmp_path / "went-off") as bomb:
        yield bomb


def test_checkpoints_hold_only_tensors(tmp_path: Path, bomb: Bomb) -> None:
    run = tmp_path / "run"
    run.mkdir()
    as_torch, as_pickle = tmp_path / "new.pth", tmp_path / "old.pth"
    torch.save({"state_dict": {"conv.weight": torch.zeros(1), "bomb": bomb}}, as_torch)
    as_pickle.write_bytes(pickle.dumps({"state_dict": bomb}))
    readers: list[Callable[[Path], object]] = [
        read_weights,
        load_raft,
        lambda path: load_run(Path(shutil.copy(path, run / "checkpoint.pt")).parent),
    ]
    for path in (as_torch, as_pickle):
        for read in readers:
            with pytest.raises(UserError):
                read(path)


def test_yaml_makes_plain_values_only(tmp_path: Path, bomb: Bomb) -> None:
    for tag in ("!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir", "!!python/name:os.mkdir"):
        path = tmp_path / "options.yaml"
        path.write_text(f"overlap: {tag} ['{bomb.path}']\n")
        with pytest.raises(UserError, match="is not YAML"):
            load_yaml(SlidingOptions, path)


def test_features_of_others_hold_only_numbers(tmp_path: Path, bomb: Bomb) -> None:
    h5py = pytest.importorskip("h5py")
    truth = tmp_path / "truth.csv"
    truth.write_text("video,start,end,label,duration\na,0,1,jump,9\n")
    (tmp_path / "secret.npy").write_bytes(b"secret")
    folder = tmp_path / "features"
    folder.mkdir()
    np.save(folder / "a.npy", np.array([bomb], dtype=object), allow_pickle=True)
    np.savez(folder / "a.npz", rgb=np.array([bomb], dtype=object))
    (folder / "a.pkl").write_bytes(pickle.dumps({"rgb": bomb}))
    torch.save(bomb, folder / "a.pt")
    with h5py.File(folder / "a.h5", "w") as file:
        file["rgb"] = h5py.ExternalLink(str(tmp_path / "secret.npy"), "/")
    for pattern in ("{id}.npy", "{id}.npz", "{id}.pkl", "{id}.pt", "{id}.h5:rgb"):
        options = ImportFeaturesOptions(
            folder, tmp_path / "s.zarr", annotations=str(truth), files=(f"rgb={pattern}",), orientation="TD",
            fps="30", stride=8, window=16, offset=0, allow_pickle=True,
        )  # fmt: skip
        with pytest.raises(UserError, match=r"cannot be read|no data set"):
            import_main(options)
        shutil.rmtree(tmp_path / "s.zarr", ignore_errors=True)
    with pytest.raises(UserError, match="--allow-pickle"):
        replace(options, files=("rgb={id}.pkl",), allow_pickle=False)


def test_proposals_and_scores_hold_only_numbers(tmp_path: Path, bomb: Bomb) -> None:
    dataset = Dataset.of("d", [Video("a", 9.0, "testing", ())], ("jump",))
    header = np.frombuffer(json.dumps({"format": "x", "ids": ["a"]}).encode(), np.uint8)
    objects = np.array([bomb], dtype=object)
    arrays = dict.fromkeys(("ids", "offsets", "labels", "scores", "spans"), objects)
    np.savez(tmp_path / "objects.npz", header=header, intervals=objects, **arrays)
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps({"a": bomb}))
    for path in (tmp_path / "objects.npz", tmp_path / "pickle.npz"):
        for read in (Proposals.load, ProposalScores.load, SnippetScores.load):
            with pytest.raises(UserError, match=path.name):
                read(path)
    for allowed in (False, True):
        with pytest.raises(UserError):
            read_original(tmp_path / "pickle.npz", dataset, allow_pickle=allowed)


def test_bytes_that_are_no_archive(tmp_path: Path) -> None:
    """The readers of archives on damaged and truncated ones."""
    buffer = io.BytesIO()
    np.savez(buffer, header=np.zeros(3, np.uint8))
    for number, content in enumerate([b"", b"PK\x03\x04", buffer.getvalue()[:-9], b"\x93NUMPY\xff" * 9]):
        path = tmp_path / f"{number}.npz"
        path.write_bytes(content)
        for read in (Proposals.load, ProposalScores.load, SnippetScores.load):
            with pytest.raises(UserError, match=path.name):
                read(path)


@pytest.mark.parametrize(
    "content",
    [
        '{"results": {"a": [{"label": "jump", "score": NaN, "segment": [0, 1]}]}}',
        '{"results": {"a": [{"label": "jump", "score": 1e999, "segment": [0, 1]}]}}',
        '{"results": {"a": [{"label": {"__class__": "os"}, "score": 1, "segment": [0, 1]}]}}',
        '{"results": {"a": [{"label": "jump", "score": 1, "segment": [0, 1, 2]}]}}',
        '{"results": [[[]]]}',
        "\ufeff\0{",
    ],
)
def test_result_files_are_checked_row_by_row(tmp_path: Path, content: str) -> None:
    path = tmp_path / "found.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"found\.json"):
        Detections.read(path)
