"""Ids, labels and titles of others: where they become names of files, and where they are shown."""

from __future__ import annotations

import base64
import hashlib
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from attacks import HOSTILE_IDS, store_of, tree

from ssn_feat.annotations import Dataset, Instance, Video, read_annotations, write_activitynet
from ssn_feat.cli import Command, run
from ssn_feat.detection.detect_store import summarise
from ssn_feat.errors import UserError
from ssn_feat.exchange import ExportFeaturesOptions, export_main
from ssn_feat.extraction.repair import VerifyOptions, verify_store
from ssn_feat.proposals import Proposals
from ssn_feat.results.detections import Detections
from ssn_feat.store import pack
from ssn_feat.store.maintenance import StatusOptions, print_status
from ssn_feat.terminal import printable
from ssn_feat.video.cache import PixelCache


def test_ids_are_never_paths(tmp_path: Path) -> None:
    work = tmp_path / "far" / "down" / "here"
    work.mkdir(parents=True)
    videos = [Video(i, 9.0, "testing", (Instance("jump", 1.0, 2.0),)) for i in HOSTILE_IDS]
    write_activitynet(Dataset.of("hostile", videos, ("jump",)), work / "truth.json")
    ids = tuple(read_annotations(str(work / "truth.json")).videos)
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
        export_main(ExportFeaturesOptions(tmp_path / "s.zarr", tmp_path / "down" / "out", "bmn", files="{id}"))
    assert tree(tmp_path) - before <= {Path("down"), Path("down/out")}


class Scripts(HTMLParser):
    """Collects what a browser would run or fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.found: list[str] = []
        self.policy = ""
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._inside = tag == "script" and given.get("type", "") != "application/json"
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(given["content"])
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
    from ssn_feat.report.page import report
    from ssn_feat.report.report_options import ReportOptions

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
    policy = dict(rule.strip().split(" ", 1) for rule in page.policy.split(";"))
    allowed = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in page.inline}
    assert policy["default-src"] == "'none'"
    assert set(policy["script-src"].split()) == {f"'sha256-{value}'" for value in allowed}


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
        run(Command(fail, StatusOptions))
    shown = capsys.readouterr()
    assert "no video a\\x1b[2J" in shown.err
    for number in "12345":
        assert f"a\\x1b[2J\\x07\\x9b31m\\u202e\\r\\nb\\x7f{number}" in shown.out
    assert (shown.out + shown.err).replace("\n", "").isprintable()
    assert printable("ünïcödé 視頻 🎬") == "ünïcödé 視頻 🎬"
