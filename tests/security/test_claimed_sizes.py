"""Files whose headers claim far more than they hold."""

from __future__ import annotations

import io
import pickle
import resource
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ssn_feat.backbones import read_weights
from ssn_feat.cli import read_yaml
from ssn_feat.detection.classifier import read_class_scores
from ssn_feat.detection.scores import ProposalScores
from ssn_feat.errors import UserError
from ssn_feat.exchange.array_files import read_array_file
from ssn_feat.proposals import Proposals
from ssn_feat.runs.checkpoints import load_run
from ssn_feat.video.raft import load_raft

MOST = 3 << 30  # bytes of address space beside those that the process has


@pytest.fixture(autouse=True)
def _little_memory() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MOST, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def npy(shape: tuple[int, ...], version: tuple[int, int] = (1, 0)) -> bytes:
    """A .npy file that claims float32 values of ``shape`` and holds four of them."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header + bytes(16)


def npz(content: bytes, compression: int = zipfile.ZIP_STORED, claimed: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name in ("scores", "header", "video_id", "ids"):
            archive.writestr(f"{name}.npy", content)
    whole = file.getvalue()
    if claimed:  # in the headers of the archive as well
        whole = whole.replace(struct.pack("<II", len(content), len(content)), struct.pack("<II", claimed, claimed))
    return whole


ARRAYS = {
    "16 TB": npy((1 << 42,)),
    "16 TB, version 2": npy((1 << 42,), (2, 0)),
    "8 GB": npy((1 << 31, 1)),
    "overflow": npy((1 << 40, 1 << 40)),
    "negative": npy((-1, 5)),
    "zero and huge": npy((0, 1 << 62)),
}


@pytest.mark.parametrize("claim", ARRAYS)
def test_arrays_are_no_larger_than_their_files(claim: str, tmp_path: Path) -> None:
    content = ARRAYS[claim]
    (tmp_path / "a.npy").write_bytes(content)
    readers: dict[str, Callable[[Path], object]] = {"a.npy": read_array_file} if claim != "zero and huge" else {}
    compressions = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)
    archives = [npz(content, compression) for compression in compressions]
    for number, whole in enumerate([*archives, npz(content, claimed=0xFFFFFFF0)]):
        for name, read in {
            "features": lambda path: read_array_file(path, "scores"),
            "proposals": Proposals.load,
            "scores": ProposalScores.load,
            "classes": lambda path: read_class_scores(path, ("a",)),
        }.items():
            path = tmp_path / f"{name}-{number}.npz"
            path.write_bytes(whole)
            readers[path.name] = read
    for name, read in readers.items():
        if claim == "zero and huge" and name.startswith("features"):
            continue
        with pytest.raises(UserError, match=name.replace(".", r"\.")) as refused:
            read(tmp_path / name)
        assert "\n" not in str(refused.value)


def as_zip(content: object, extra: bytes) -> bytes:
    """A file of torch.save with one more part, deflated."""
    file = io.BytesIO()
    torch.save(content, file)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/9", extra)
    return file.getvalue()


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def test_tensors_are_no_larger_than_their_files(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    contents = {
        "expanded": saved({"state_dict": {"a": torch.zeros(1).expand(1 << 40)}}),
        "expanded in a list": saved({"state_dict": {}, "a": [(torch.zeros(1).expand(1 << 40),)]}),
        "bomb": as_zip({"state_dict": {"a": torch.zeros(1)}}, bytes(64 << 20)),
        "sparse": saved(
            {"a": torch.sparse_coo_tensor(torch.zeros((1, 1)).long(), torch.ones(1), (1 << 40,), check_invariants=True)}
        ),
        "meta": saved({"a": torch.zeros(1 << 40, device="meta")}),
        "old": pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + b"\x80\x02.",
    }
    for name, content in contents.items():
        path = tmp_path / "w.pth"
        path.write_bytes(content)
        (run / "checkpoint.pt").write_bytes(content)
        for read, given in ((read_weights, path), (load_raft, path), (read_array_file, path), (load_run, run)):
            with pytest.raises(UserError) as refused:
                read(given)
            assert "\n" not in str(refused.value), name


def test_pickled_arrays_are_no_larger_than_their_files(tmp_path: Path) -> None:
    # numpy.ndarray((2 ** 33,), "f4"), which needs no values
    (tmp_path / "a.pkl").write_bytes(b"cnumpy\nndarray\n(L8589934592L\ntVf4\n\x86R.")
    with pytest.raises(UserError, match=r"a\.pkl cannot be read"):
        read_array_file(tmp_path / "a.pkl")


def test_yaml_does_not_multiply(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 24)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"bomb\.yaml"):
        read_yaml(tmp_path / "bomb.yaml")
    (tmp_path / "loop.yaml").write_text("a: &a [*a]\n")
    with pytest.raises(UserError, match=r"loop\.yaml"):
        read_yaml(tmp_path / "loop.yaml")
    shared = np.arange(3).tolist()
    (tmp_path / "fine.yaml").write_text(yaml.safe_dump({"a": shared, "b": shared}))
    assert read_yaml(tmp_path / "fine.yaml") == {"a": shared, "b": shared}
