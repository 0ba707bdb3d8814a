"""The page without a browser: its tags, its data, what it needs and what it refuses."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report.pages import HOSTILE, VIDEO, dataset_of, hostile_page, inputs_in

from ssn_feat.annotations import Dataset, Instance, Video, read_annotations, write_activitynet
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_precision import video_average_precision
from ssn_feat.evaluation.compared_methods import load_proposals
from ssn_feat.evaluation.matching import Scored, Truths
from ssn_feat.proposals import Proposals
from ssn_feat.report.glossary import TERMS
from ssn_feat.report.page import report
from ssn_feat.report.page_inputs import read_logs
from ssn_feat.report.report_options import ReportOptions
from ssn_feat.report.training import kinds_of
from ssn_feat.results.detections import Detections

pytest.importorskip("jinja2")
pytest.importorskip("plotly")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> ReportOptions:
    return hostile_page(tmp_path_factory.mktemp("page"))


class Tags(HTMLParser):
    """Which elements a page has, and what its attributes and blocks of JSON hold."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script":
            self.scripts[-1] += data


def test_no_name_becomes_markup(hostile: ReportOptions) -> None:
    tags = Tags()
    tags.feed(hostile.out.read_text(encoding="utf-8"))
    names = {tag for tag, _ in tags.found}
    assert not names & {"img", "svg", "a b", "i", "u", "b", "s", "em"}
    assert all(
        attributes.get("href", "#").startswith(("#", "data:")) for tag, attributes in tags.found if tag in "a link"
    )
    assert not any(name.startswith("on") for _, attributes in tags.found for name in attributes)
    kinds = [attributes.get("type") for tag, attributes in tags.found if tag == "script"]
    assert kinds == ["application/json"] * 5 + [None, None]
    facts, *videos = (json.loads(block) for block in tags.scripts[:5])
    assert facts["labels"] == sorted(HOSTILE)
    assert facts["index"]["id"][0] == VIDEO
    assert [len(video["detections"]) for video in videos] == [2] * 4


def test_fetches_nothing(hostile: ReportOptions) -> None:
    tags = Tags()
    tags.feed(hostile.out.read_text(encoding="utf-8"))
    for _, attributes in tags.found:
        assert not str(attributes.get("src", "")).startswith(("http", "//"))
    policy = next(a["content"] for t, a in tags.found if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")


def test_records_by_hand(tmp_path: Path) -> None:
    truth = Dataset.of("d", [Video("one", 10.0, "testing", (Instance("a", 0, 4), Instance("b", 6, 8)))])
    write_activitynet(truth, tmp_path / "truth.json")
    Detections.of(("a", "b"), {"one": ([[0, 4], [0, 3.9], [9, 10]], [0, 0, 1], [0.5, 0.75, 0.25])}).write(
        tmp_path / "d.json"
    )
    options = ReportOptions(
        (tmp_path / "d.json",), str(tmp_path / "truth.json"), tmp_path / "page.html", bootstrap=0, quiet=True
    )
    tags = Tags()
    tags.feed(report(options).read_text())
    facts, video = (json.loads(block) for block in tags.scripts[:2])
    # Best first; the better of two detections of one truth is the hit. AP: 1 of class a, 0 of class b.
    rows = [[0, 0.0, 3.9, 0.75, 1], [0, 0.0, 4.0, 0.5, 0], [1, 9.0, 10.0, 0.25, 0]]
    assert video == {
        "truth": [[0, 0.0, 4.0], [1, 6.0, 8.0]],
        "actionness": None,
        "proposals": [],
        "detections": [{"number": 3, "rows": rows}],
        "source": None,
    }
    assert facts["index"] == {"id": ["one"], "duration": [10.0], "instances": [2], "ap": [[0.5]]}


def test_average_precision_of_videos_alone() -> None:
    intervals = np.array([[0.0, 1], [5, 6], [0, 1], [0, 1]])
    found = Scored(np.array([0, 0, 1, 3]), np.array([0, 0, 1, 0]), intervals, np.array([0.1, 0.9, 0.5, 1.0]))
    truths = Truths(np.array([0, 1, 1]), np.array([0, 1, 0]), np.array([[0.0, 1]] * 3))
    # Video 0: a false alarm above its hit. Video 1: one of two classes. Video 2: no truth. Row of video 3: elsewhere.
    np.testing.assert_allclose(video_average_precision(found, truths, 3, 2, 0.5), [0.5, 0.5, np.nan])


def page_of(tmp_path: Path, scale: float = 1.0) -> Tags:
    """The page of the detections of one video, half of which is found; scores are multiplied by ``scale``."""
    truth = Dataset.of("d", [Video("one", 10.0, "testing", (Instance("a", 0, 4), Instance("b", 6, 8)))])
    write_activitynet(truth, tmp_path / "truth.json")
    rows = ([[0, 4], [9, 10]], [0, 1], [0.5 * scale, 0.25 * scale])
    Detections.of(("a", "b"), {"one": rows}).write(tmp_path / "d.json")
    page = tmp_path / "page.html"
    tags = Tags()
    tags.feed(report(ReportOptions((tmp_path / "d.json",), str(tmp_path / "truth.json"), page, quiet=True)).read_text())
    return tags


def cells_of(page: Path, caption: str) -> list[str]:
    """The cells of the table with this caption."""
    text = re.sub(r"</?abbr[^>]*>", "", page.read_text(encoding="utf-8"))
    return re.findall(r"<td>([^<]*)</td>", text.partition(f"<figcaption>{caption}")[2].partition("</figure>")[0])


def test_shares_are_percentages(tmp_path: Path) -> None:
    page_of(tmp_path)
    page = tmp_path / "page.html"
    means = [cell.partition("\n")[0] for cell in cells_of(page, "mAP in % at tIoU")]
    assert means == ["50.0"] * 6 + ["2", "0"]
    assert cells_of(page, "AP of each class in %") == ["1", "100.0", "100.0", "1", "0.0", "0.0"]
    assert set(cells_of(page, "Recall@kx in %")) == {"50.0"}
    charts = json.loads(page_of(tmp_path).scripts[0])["charts"]
    assert [trace["name"] for trace in charts["precision-recall"]["data"]] == ["d: 50.0 %", "d: 100.0 %", "d: 0.0 %"]


def test_calibration_is_drawn_for_probabilities_only(tmp_path: Path) -> None:
    facts = json.loads(page_of(tmp_path).scripts[0])
    assert [trace["name"] for trace in facts["charts"]["calibration"]["data"]] == [
        "perfect calibration",
        "d: error 37.5 %",
    ]
    assert "calibration" not in json.loads(page_of(tmp_path, scale=10.0).scripts[0])["charts"]
    assert "because their scores are not probabilities: d." in (tmp_path / "page.html").read_text()


def test_videos_follow_the_summary(hostile: ReportOptions) -> None:
    text = hostile.out.read_text(encoding="utf-8")
    titles = re.findall(r"<h2>([^<]*)</h2>", text)
    assert titles[0] == "Summary"
    assert titles.index("Videos") < titles.index("Curves") < titles.index("Proposals") < titles.index("Training")
    links = re.findall(r'<a href="#([^"]*)">', text)
    assert links == [title.lower().replace(" ", "-") for title in titles]
    assert set(links) <= set(re.findall(r'<section id="([^"]*)"', text))


def test_the_page_tells_what_became_of_instances(tmp_path: Path) -> None:
    page_of(tmp_path)
    page = tmp_path / "page.html"
    text = re.sub(r"</?abbr[^>]*>", "", page.read_text())
    assert "<h2>Why</h2>" in text
    assert text.index("<h2>Summary</h2>") < text.index("<h2>Why</h2>") < text.index("<h2>Videos</h2>")
    assert "1 of 2 instances are found at tIoU 0.5." in text
    assert "Add a file of proposals to the inputs to count proposals instead." in text
    assert cells_of(page, "d: instances by what became of them")[:3] == ["1", "1", "1"]
    proposals = Proposals({"one": [(0, 4), (6, 8)]}, {"one": [1, 0]}, "tag")
    proposals.save(tmp_path / "tag.npz")
    inputs = (tmp_path / "d.json", tmp_path / "tag.npz")
    report(ReportOptions(inputs, str(tmp_path / "truth.json"), page, quiet=True))
    text = re.sub(r"</?abbr[^>]*>", "", page.read_text())
    assert "2 of 2 instances have a proposal with a tIoU of at least 0.5." in text


def test_terms_are_explained(hostile: ReportOptions) -> None:
    text = hostile.out.read_text(encoding="utf-8")
    found = dict(re.findall(r'<abbr title="([^"]*)">([^<]*)</abbr>', text))
    assert {"mAP", "tIoU", "AR", "AUC", "localization", "oracle"} <= set(found.values())
    assert all(TERMS[term] == escape_back for escape_back, term in found.items() if term in TERMS and term != "tIoU")


def test_curves_are_those_of_a_kind_of_runs(tmp_path: Path) -> None:
    logs = {
        "ssn": {"lr": 1.0, "loss": 2.0, "regression": 0.0, "accuracy": 0.5},
        "actionness": {"lr": 1.0, "loss": 2.0, "recall": 0.25},
        "clips": {"loss": 1.0, "images_per_second": 9.0, "memory_gb": 1.0},
    }
    for kind, record in logs.items():
        run = tmp_path / "runs" / kind
        run.mkdir(parents=True)
        (run / "log.jsonl").write_text(json.dumps({"epoch": 0, **record}) + "\n")
        (run / "config.yaml").write_text(f"head: {kind}\n")  # not finished: there is no summary
    text = report(ReportOptions((tmp_path / "runs",), out=tmp_path / "page.html", quiet=True)).read_text()
    titles = re.findall(r"<h3>(.*?)</h3>", re.sub(r"</?abbr[^>]*>", "", text))
    assert titles[:3] == ["actionness heads", "networks trained on clips", "SSN heads"]
    kinds = kinds_of(read_logs(sorted((tmp_path / "runs").iterdir())))
    assert [kind.terms for kind in kinds] == [("loss", "recall"), ("loss",), ("loss", "accuracy")]
    charts = json.loads(re.search(r'<script type="application/json" id="facts-of-all">(.*?)</script>', text)[1])[
        "charts"
    ]
    shown = [(chart["layout"]["title"]["text"], chart["data"][0]["y"]) for chart in charts.values()]
    expected = [("loss", [2.0]), ("recall, %", [25.0]), ("loss", [1.0]), ("loss", [2.0]), ("accuracy, %", [50.0])]
    assert shown == expected


def test_runs_alone_need_no_truth(tmp_path: Path) -> None:
    options = inputs_in(tmp_path, dataset_of(2))
    page = report(replace(options, inputs=options.inputs[3:], annotations=None))
    assert "<h2>Training</h2>" in page.read_text(encoding="utf-8")
    assert "<h2>Summary</h2>" not in page.read_text(encoding="utf-8")


def test_annotations_and_proposals_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = inputs_in(tmp_path, dataset_of(2))
    read: list[str] = []

    def counting(function: Any) -> Any:
        def wrapped(path: Any, *rest: Any, **more: Any) -> Any:
            read.append(Path(path).name)
            return function(path, *rest, **more)

        return wrapped

    for module in ("evaluation_set", "compare_proposals"):
        name = f"ssn_feat.evaluation.{module}.read_annotations"
        monkeypatch.setattr(name, counting(read_annotations))
    for module in ("report.page", "evaluation.compared_methods"):
        monkeypatch.setattr(f"ssn_feat.{module}.load_proposals", counting(load_proposals))
    report(options)
    assert sorted(read) == ["tag.npz", "truth.json"]


def test_every_chart_as_a_figure(tmp_path: Path) -> None:
    options = inputs_in(tmp_path, dataset_of(4, ("a", "$b_{")))
    report(replace(options, inputs=options.inputs[1:], figures=tmp_path / "figures"))
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    stems = ("curves", "errors-1", "proposals", "training")
    assert names == {f"{stem}.{ending}" for stem in stems for ending in ("png", "svg")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": ()}, "name at least one input"),
        ({"inputs": (Path("nowhere.json"),)}, "there is no file or folder nowhere.json"),
        ({"annotations": None}, "add --annotations"),
        ({"videos": Path("EMPTY")}, "no videos in"),
        ({"store": Path("EMPTY")}, "EMPTY"),
    ],
)
def test_what_is_at_fault_is_said(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    (tmp_path / "EMPTY").mkdir()
    options = inputs_in(tmp_path, dataset_of(2))
    changed = {key: tmp_path / value if value == Path("EMPTY") else value for key, value in change.items()}
    with pytest.raises(UserError, match=re.escape(message)):
        report(replace(options, **changed))
