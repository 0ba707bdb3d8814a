"""Stores and models of others: opening them runs nothing, and they do not say where to read, write or send."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attacks import Bomb, armed, store_of, tree

from ssn_feat.backbones import load_backbone
from ssn_feat.errors import UserError
from ssn_feat.exchange import ExportFeaturesOptions, export_main
from ssn_feat.extraction import ExtractOptions, ExtractReport, backbones_of, repair
from ssn_feat.extraction.repair import VerifyOptions, verify_store
from ssn_feat.store import create_store, open_store, pack, status


@pytest.fixture
def bomb(tmp_path: Path) -> Iterator[Bomb]:
    """An object to put into files; the test fails if it goes off."""
    with armed(tmp_path / "went-off") as bomb:
        yield bomb


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
        opened = open_store(each.path)
        assert opened.ids == ("a",)
        assert opened.read("a").features["rgb"].shape == (4, 3)
        assert opened.check("a") == {}
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
                open_store(store).read("a")
    # Those that are opened whole, by Zarr: they need no record of Zarr 3 to be found.
    for number, attack in enumerate(old):
        for array in ("index", "offsets"):
            store = tmp_path / f"{number}-{array}"
            shutil.copytree(tmp_path / "made-packed.zarr", store)
            (store / array / "zarr.json").unlink()
            (store / array / ".zarray").write_text(json.dumps(attack | {"shape": [4], "chunks": [4]}))
            (store / array / "0").write_bytes(pickle.dumps(bomb))
            with pytest.raises(UserError, match="cannot be opened"):
                open_store(store).read("a")


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the attributes of a Zarr group as somebody would who knows the format."""
    node = json.loads(path.read_text())
    node["attributes"].pop("checksum", None)
    change(node["attributes"])
    path.write_text(json.dumps(node))


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
        lambda: open_store(store.path).read("a"),
        lambda: pack(open_store(store.path), work / "packed.zarr"),
        lambda: export_main(ExportFeaturesOptions(store.path, work / "out" / "bmn", "bmn", streams=("rgb",))),
    ):
        with pytest.raises(UserError):
            use()
    written = {path for path in tree(tmp_path) - before if not str(path).startswith("far/down/packed.zarr.staging")}
    assert written <= {Path("far/down/out"), Path("far/down/out/bmn")}


def test_recorded_paths_are_looked_up_and_never_opened(tmp_path: Path) -> None:
    store = create_store(tmp_path / "s.zarr", {"streams": {"rgb": {}}})
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    paths = {"a": str(tmp_path / "pipe"), "b": 5, "c": ["x"], "d": "nul\0byte", "e": {}, "f": ""}
    for video_id in paths:
        source = {"source": {"bytes": 7, "modified": 1.0, "sha256": "0a"}}
        store.write(video_id, {"rgb": np.ones((1, 2))}, [[0.0, 1.0]], source)
    run = {"videos": dict.fromkeys(paths, 1.0), "missing": [], "options": {"videos": 7}}
    store.record_run(run | {"paths": paths, "verified": {"a": "text", "b": [1]}})
    states = {video.id: video.state for video in status(store).videos.values()}
    assert states == {"a": "changed", **dict.fromkeys("bcdef", "done")}
    hostile: list[dict[str, Any]] = [
        {"videos": []},
        {"videos": {"a": "x"}},
        {"missing": [{}]},
        {"options": {"snippets": {"streams": [[]]}}},
    ]
    for number, change in enumerate(hostile):
        store.record_run({**run, "options": {"number": number}, **change})
    store.record_run(run | {"paths": ["x"], "verified": 1})
    assert status(store).done == len(paths)
    assert len(open_store(store.path).runs()) == 1


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


def test_what_only_a_file_names_is_not_imported(
    tmp_path: Path,
    bomb: Bomb,
    stolen_module: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = f"{stolen_module}:net"
    cut: dict[str, Any] = {"stride": 8, "crop": 32, "short_side": 36, "crops": "center"}
    recipe = {"snippets": cut, "streams": {"rgb": {"backbone": {"name": spec}, "feature_dim": 3}}}
    store = create_store(tmp_path / "s.zarr", recipe)
    store.write("a", {"rgb": np.ones((4, 3))}, [[t, t + 1] for t in range(4)])
    (store.path / "videos/a/rgb/c/0/0").write_bytes(b"damaged")
    here = {"videos": str(tmp_path), "store": "", "backbone": [spec], "dask": "tcp://127.0.0.1:9"}
    store.record_run({"videos": {"a": 4.0}, "options": here | {"snippets": {"streams": ["rgb"]}}})
    refused = f"names {spec} as a backbone, whose code would be imported.*--trust-modules {spec}"
    for trusted in ((), (f"{stolen_module}:other",)):
        assert verify_store(VerifyOptions(store.path, repair=True, trust_modules=trusted)) == 1
        assert re.search(refused, capsys.readouterr().out)
        with pytest.raises(UserError, match=refused):
            backbones_of(recipe, trusted=trusted)
    assert stolen_module not in sys.modules
    assert not Path(bomb.path).exists()

    # Where the user trusts the module, the scheduler on record is still not one that is sent anything.
    used: list[ExtractOptions] = []

    def extracted(options: ExtractOptions, _: object) -> ExtractReport:
        used.append(options)
        return ExtractReport({}, 0, (), {}, {})

    monkeypatch.setattr(repair, "extract", extracted)
    verify_store(VerifyOptions(store.path, repair=True, trust_modules=(spec,)))
    assert [(options.dask, options.backbone) for options in used] == [("", (spec,))]
