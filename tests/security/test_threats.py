"""Every row of the threat table in docs/security.md, attacked once from end to end."""

from __future__ import annotations

import http.server
import io
import json
import os
import pickle
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT

from ssn_feat.annotations import Dataset, Instance, Video, load, write_activitynet
from ssn_feat.backbones import load_backbone, read_checkpoint
from ssn_feat.cli import load_yaml, run
from ssn_feat.detection.detect import summarise
from ssn_feat.detection.results import Detections
from ssn_feat.detection.scores import ProposalScores, read_original
from ssn_feat.errors import UserError
from ssn_feat.exchange import ExportOptions, ImportOptions, export_main, import_main
from ssn_feat.extraction import backbones_of
from ssn_feat.extraction.maintenance import StatusOptions, VerifyOptions, print_status, verify_store
from ssn_feat.proposals import Proposals, SlidingOptions
from ssn_feat.store import FeatureStore, pack
from ssn_feat.terminal import printable
from ssn_feat.training.checkpoints import load_run
from ssn_feat.video import frames, probe
from ssn_feat.video.cache import PixelCache
from ssn_feat.video.raft import load_raft

HOSTILE_IDS = (
    "../../outside", "/outside", "..", ".", "a/../../b", "a\\..\\b", "nul\0byte", "x" * 300, "CON", "~", "-rf",
    "a\nb", "\x1b[2J", "__group__", "$(touch outside)", "<script>alert(1)</script>", "ä\u202e", "%2e%2e%2f",
)  # fmt: skip


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.fixture
def bomb(tmp_path: Path) -> Iterator[Bomb]:
    """An object to put into files; the test fails if it goes off."""
    mark = tmp_path / "went-off"
    pickle.loads(pickle.dumps(Bomb(mark)))  # noqa: S301
    assert mark.is_dir(), "it does go off where files are trusted"
    mark.rmdir()
    yield Bomb(mark)
    assert not mark.exists(), "code of the file was run"


def tree(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def store_of(path: Path, *ids: str) -> FeatureStore:
    store = FeatureStore.create(path, {"streams": ["rgb"], "backbones": {"rgb": {"name": "stolen_module:net"}}})
    for number, video_id in enumerate(ids or ("a",)):
        spans = np.arange(4.0)[:, None] + [0.0, 1.0]
        store.write(video_id, {"rgb": np.full((4, 3), number, np.float32)}, spans)
    return store


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the attributes of a Zarr group as somebody would who knows the format."""
    node = json.loads(path.read_text())
    node["attributes"].pop("checksum", None)
    change(node["attributes"])
    path.write_text(json.dumps(node))


# ---------------------------------------------------------------------- videos


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """Address of a server on this machine, and what was asked of it."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_videos_that_are_something_else(tmp_path: Path, listener: tuple[str, list[str]]) -> None:
    address, asked = listener
    segment = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}/part.ts\n#EXT-X-ENDLIST\n"
    manifest = (
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT9S"><Period>'
        f'<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{address}/part.mp4'
        "</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )
    files = {
        "playlist.mp4": segment,
        "playlist.m3u8": segment,
        "manifest.mp4": manifest,
        "list.avi": f"ffconcat version 1.0\nfile {address}/part.ts\n",
        "absolute.avi": "ffconcat version 1.0\nfile /etc/passwd\n",
        "stream.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "pattern%02d.avi": "RIFF",
        "header.avi": "RIFF\xff\xff\xff\x7fAVI LIST\xff\xff\xff\x7fhdrlavih" * 50,
        "empty.mp4": "",
        "zeros.mp4": "\0" * 5000,
    }
    for name, content in files.items():
        path = tmp_path / name
        path.write_bytes(content.encode("latin-1"))
        with pytest.raises(UserError, match=re.escape(name)):
            sum(1 for _ in frames(path))
        with pytest.raises(UserError, match=re.escape(name)):
            probe(path)
    assert asked == []


# ---------------------------------------------------------------------- ids


def test_ids_are_never_paths(tmp_path: Path) -> None:
    work = tmp_path / "far" / "down" / "here"
    work.mkdir(parents=True)
    videos = [Video(i, 9.0, "testing", (Instance("jump", 1.0, 2.0),)) for i in HOSTILE_IDS]
    write_activitynet(Dataset.of("hostile", videos, ("jump",)), work / "truth.json")
    ids = tuple(load(str(work / "truth.json")).videos)
    assert ids == HOSTILE_IDS
    store = store_of(work / "s.zarr", *ids)
    for number, video_id in enumerate(ids):
        store.record_failure(f"{video_id}!", "tried")
        assert float(store.read(video_id).features["rgb"][0, 0]) == number
    assert set(store.failures()) == {f"{video_id}!" for video_id in ids}
    assert set(pack(store, work / "p.zarr").ids) == set(ids)
    cache = PixelCache(work / "cache", 1 << 20)
    for video_id in ids:
        cache.put(video_id, np.zeros((2, 2, 3), np.uint8))
    rows = {video_id: np.array([[0.0, 1.0]]) for video_id in ids}
    Proposals(rows, {i: np.ones(1) for i in ids}, "sliding", {}).save(work / "p.npz")
    assert Proposals.load(work / "p.npz").ids == ids
    Detections.of(["jump"], {i: ([[0, 1]], [0], [1.0]) for i in ids}).write(work / "d.json")
    assert Detections.read(work / "d.json").ids == ids
    assert tree(tmp_path / "far" / "down") - {Path("here") / p for p in tree(work)} == {Path("here")}
    assert tree(work) >= {Path("s.zarr"), Path("p.zarr"), Path("cache"), Path("p.npz"), Path("d.json")}
    assert all(len(part.encode()) <= 255 for path in tree(work) for part in path.parts)


@pytest.mark.parametrize("video_id", ["../../outside", "/outside", "nul\0byte", "x" * 300, "..", "a\\..\\b"])
def test_ids_that_would_become_file_names_are_refused(tmp_path: Path, video_id: str) -> None:
    store_of(tmp_path / "s.zarr", video_id)
    before = tree(tmp_path)
    with pytest.raises(UserError, match="cannot be the name of a file"):
        export_main(ExportOptions(tmp_path / "s.zarr", tmp_path / "down" / "out", "bmn", files="{id}"))
    assert tree(tmp_path) - before <= {Path("down"), Path("down/out")}


# ---------------------------------------------------------------------- files that could hold code


def test_checkpoints_hold_only_tensors(tmp_path: Path, bomb: Bomb) -> None:
    run = tmp_path / "run"
    run.mkdir()
    as_torch, as_pickle = tmp_path / "new.pth", tmp_path / "old.pth"
    torch.save({"state_dict": {"conv.weight": torch.zeros(1), "bomb": bomb}}, as_torch)
    as_pickle.write_bytes(pickle.dumps({"state_dict": bomb}))
    readers: list[Callable[[Path], object]] = [
        read_checkpoint,
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
        options = ImportOptions(
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
    np.savez(tmp_path / "objects.npz", header=header, intervals=np.array([bomb], dtype=object))
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps({"a": bomb}))
    for path in (tmp_path / "objects.npz", tmp_path / "pickle.npz"):
        for read in (Proposals.load, ProposalScores.load):
            with pytest.raises(UserError, match=path.name):
                read(path)
    for allowed in (False, True):
        with pytest.raises(UserError):
            read_original(tmp_path / "pickle.npz", dataset, allow_pickle=allowed)


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


# ---------------------------------------------------------------------- stores of others


@pytest.fixture
def stolen_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bomb: Bomb) -> str:
    """A module that could be imported, and whose import runs code."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "stolen_module.py").write_text(f"import os\nos.mkdir({bomb.path!r})\n")
    monkeypatch.syspath_prepend(folder)
    return "stolen_module"


def test_a_store_runs_nothing_when_read(tmp_path: Path, bomb: Bomb, stolen_module: str) -> None:
    store = store_of(tmp_path / "s.zarr", "a")
    packed = pack(store, tmp_path / "p.zarr")
    for each in (store, packed):
        opened = FeatureStore.open(each.path)
        assert opened.ids == ("a",)
        assert opened.read("a").features["rgb"].shape == (4, 3)
        assert opened.check("a") == []
    assert stolen_module not in sys.modules


def test_codecs_of_a_store_run_nothing(tmp_path: Path, bomb: Bomb) -> None:
    """Codecs that unpickle, in the metadata of Zarr 3 and, beside or instead of it, of Zarr 2."""
    unpickle = {"id": "pickle", "protocol": 4}
    described = {"zarr_format": 2, "order": "C", "fill_value": None, "shape": [4, 3], "chunks": [4, 3], "dtype": "<f2"}
    old = [
        described | {"compressor": unpickle, "filters": None},
        described | {"compressor": None, "filters": [unpickle]},
        described | {"compressor": None, "filters": [unpickle], "dtype": "|O"},
    ]
    new = [{"name": name, "configuration": unpickle} for name in ("pickle", "numcodecs.pickle", "numcodecs.json2")]
    made = store_of(tmp_path / "made.zarr", "a")
    pack(made, tmp_path / "made-packed.zarr")
    arrays = {"made.zarr": "videos/a/rgb", "made-packed.zarr": "rgb"}
    for source, array in arrays.items():
        for number, attack in enumerate([*old, *new]):
            store = tmp_path / f"{number}-{source}"
            shutil.copytree(tmp_path / source, store)
            folder = store / array
            if "name" in attack:
                node = json.loads((folder / "zarr.json").read_text()) | {"codecs": [attack]}
                (folder / "zarr.json").write_text(json.dumps(node))
            else:
                (folder / ".zarray").write_text(json.dumps(attack))
                (folder / "zarr.json").unlink()
                (folder / "0.0").write_bytes(pickle.dumps(bomb))
            for chunk in folder.glob("c/*/*"):
                chunk.write_bytes(pickle.dumps(bomb))
            with pytest.raises(UserError):
                FeatureStore.open(store).read("a")
    # Those that are opened whole, by Zarr: they need no record of Zarr 3 to be found.
    for number, attack in enumerate(old):
        for array in ("index", "offsets"):
            store = tmp_path / f"{number}-{array}"
            shutil.copytree(tmp_path / "made-packed.zarr", store)
            (store / array / "zarr.json").unlink()
            (store / array / ".zarray").write_text(json.dumps(attack | {"shape": [4], "chunks": [4]}))
            (store / array / "0").write_bytes(pickle.dumps(bomb))
            with pytest.raises(UserError, match="cannot be opened"):
                FeatureStore.open(store).read("a")


def test_a_store_cannot_say_where_to_read_or_write(tmp_path: Path) -> None:
    work = tmp_path / "far" / "down"
    work.mkdir(parents=True)
    store = store_of(work / "s.zarr", "a")
    shutil.copytree(work / "s.zarr/videos/a/rgb", work / "outside")

    def point_outside(attributes: dict[str, Any]) -> None:
        attributes["arrays"]["../../../outside"] = attributes["arrays"].pop("rgb")

    rewrite(work / "s.zarr/videos/a/zarr.json", point_outside)
    before = tree(tmp_path)
    for use in (
        lambda: FeatureStore.open(store.path).read("a"),
        lambda: pack(FeatureStore.open(store.path), work / "packed.zarr"),
        lambda: export_main(ExportOptions(store.path, work / "out" / "bmn", "bmn", streams=("rgb",))),
    ):
        with pytest.raises(UserError):
            use()
    written = {path for path in tree(tmp_path) - before if not str(path).startswith("far/down/packed.zarr.staging")}
    assert written <= {Path("far/down/out"), Path("far/down/out/bmn")}


# ---------------------------------------------------------------------- what is shown


class Scripts(HTMLParser):
    """Collects what a browser would run or fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.found: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._inside = tag == "script" and given.get("type", "") != "application/json"
        self.found += [f"{tag} {k}={v}" for k, v in given.items() if k.startswith("on")]
        self.found += [
            f"{tag} {k}={v}" for k in ("src", "href") if (v := given.get(k)) and not v.startswith(("#", "data:"))
        ]

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.inline.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = False


def test_a_report_shows_text_as_text(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("plotly")
    from ssn_feat.report.options import ReportOptions
    from ssn_feat.report.page import report

    text = "</script><script>attack()</script><img src=x onerror=attack()>"
    truth = Dataset.of(text, [Video(text, 9.0, "testing", (Instance(text, 1.0, 2.0),))], (text,))
    write_activitynet(truth, tmp_path / "truth.json")
    Detections.of([text], {text: ([[1, 2]], [0], [1.0])}).write(tmp_path / "found.json")
    Proposals({text: np.array([[1.0, 2.0]])}, {text: np.ones(1)}, text, {}).save(tmp_path / "found.npz")
    options = ReportOptions(
        (tmp_path / "found.json", tmp_path / "found.npz"), annotations=str(tmp_path / "truth.json"),
        out=tmp_path / "report.html", title=text, bootstrap=0, quiet=True,
    )  # fmt: skip
    report(options)
    page = Scripts()
    page.feed((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.found == []
    assert not any(script.strip().startswith("attack()") for script in page.inline)
    assert page.inline, "the page has scripts of its own"


# ---------------------------------------------------------------------- code by design


def test_modules_are_imported_only_where_they_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "from torch import nn",
        "def net(channels):",
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())",
    ]
    (tmp_path / "own_network.py").write_text("\n".join(lines))
    with pytest.raises(UserError, match="cannot be imported"):
        load_backbone("own_network:net", "rgb")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_backbone("own_network:net", "rgb").feature_dim == 3
    for spec in ("os.system('true'):x", "own_network:net()", "own_network", "../own_network:net"):
        with pytest.raises(UserError, match="unknown backbone"):
            load_backbone(spec, "rgb")


def test_what_only_a_file_names_is_not_imported(tmp_path: Path, bomb: Bomb, stolen_module: str) -> None:
    spec = f"{stolen_module}:net"
    cut: dict[str, Any] = {"stride": 8, "crop": 32, "short_side": 36, "crops": "center"}
    recipe = {"snippets": cut, "streams": {"rgb": {"backbone": {"name": spec}, "feature_dim": 3}}}
    store = FeatureStore.create(tmp_path / "s.zarr", recipe)
    store.write("a", {"rgb": np.ones((4, 3))}, [[t, t + 1] for t in range(4)])
    (store.path / "videos/a/rgb/c/0/0").write_bytes(b"damaged")
    here = {"videos": str(tmp_path), "store": "", "backbone": [spec], "dask": "tcp://127.0.0.1:9"}
    store.record_run({"videos": {"a": 4.0}, "options": here | {"snippets": {"streams": ["rgb"]}}})
    refused = f"names {spec} as a backbone, code that would be imported.*--trust-modules {spec}"
    for trusted in ((), (f"{stolen_module}:other",)):
        with pytest.raises(UserError, match=refused):
            verify_store(VerifyOptions(store.path, repair=True, trust_modules=trusted))
        with pytest.raises(UserError, match=refused):
            backbones_of(recipe, trusted=trusted)
    assert stolen_module not in sys.modules
    assert not Path(bomb.path).exists()


def test_a_terminal_gets_no_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "a\x1b[2J\x07\x9b31m\u202e\r\nb\x7f"
    store = store_of(tmp_path / "s.zarr", "plain")
    store.write(f"{text}1", {"rgb": np.ones((4, 3))}, [[t, t + 1] for t in range(4)])
    store.record_failure(f"{text}2", text)
    store.record_run({"videos": {f"{text}3": 4.0}, "missing": [f"{text}4"], "options": {}})
    with store.claims.hold(f"{text}5"):
        print_status(StatusOptions(store.path, ids=True))
    for chunk in store.path.glob("videos/*/rgb/c/0/0"):
        chunk.write_bytes(b"damaged")
    verify_store(VerifyOptions(store.path))
    Detections.of([text], {text: ([[0, 1]], [0], [1.0])}).write(tmp_path / "d.json")
    summarise(Detections.read(tmp_path / "d.json"))

    def fail(_: StatusOptions) -> None:
        raise UserError(f"no video {text}")

    monkeypatch.setattr(sys, "argv", ["status", str(store.path)])
    with pytest.raises(SystemExit):
        run(fail, StatusOptions)
    shown = capsys.readouterr()
    assert "no video a\\x1b[2J" in shown.err
    for number in "12345":
        assert f"a\\x1b[2J\\x07\\x9b31m\\u202e\\r\\nb\\x7f{number}" in shown.out
    assert (shown.out + shown.err).replace("\n", "").isprintable()
    assert printable("ünïcödé 視頻 🎬") == "ünïcödé 視頻 🎬"


# ---------------------------------------------------------------------- the table


def test_every_row_of_the_table_has_its_test() -> None:
    table = (ROOT / "docs" / "security.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", table))
    here = {name for name in globals() if name.startswith("test_")} - {"test_every_row_of_the_table_has_its_test"}
    assert named == here


def test_bytes_that_are_no_archive(tmp_path: Path) -> None:
    """The readers of archives on damaged and truncated ones."""
    buffer = io.BytesIO()
    np.savez(buffer, header=np.zeros(3, np.uint8))
    for number, content in enumerate([b"", b"PK\x03\x04", buffer.getvalue()[:-9], b"\x93NUMPY\xff" * 9]):
        path = tmp_path / f"{number}.npz"
        path.write_bytes(content)
        for read in (Proposals.load, ProposalScores.load):
            with pytest.raises(UserError, match=path.name):
                read(path)
