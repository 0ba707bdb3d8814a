"""The page: in a browser where there is one, and what can be said of it without."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training.synthetic_store import quick, write

from ssn_feat.annotations import Dataset, Instance, Video, load, write_activitynet
from ssn_feat.detection.results import Detections
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_precision import video_average_precision
from ssn_feat.evaluation.matching import Scored, Truths
from ssn_feat.proposals import Proposals, action_probability
from ssn_feat.report.inputs import read_log, sort_inputs
from ssn_feat.report.options import ReportOptions
from ssn_feat.report.page import report
from ssn_feat.report.videos import actionness_of
from ssn_feat.store import FeatureStore
from ssn_feat.training.checkpoints import actionness_scores, load_run
from ssn_feat.training.fit import fit

pytest.importorskip("jinja2")
pytest.importorskip("plotly")

HOSTILE = (
    '</script><script>window.hacked = "script"</script>',
    "<img src=x onerror=\"window.hacked = 'image'\">",
    "\"'><svg onload=\"window.hacked='svg'\"> \u2028\u2029 & $\\alpha$",
    '<a href="javascript:window.hacked=1">jump</a>',
    "<!-- {{ 7 * 7 }} %{x} ]]>",
)
VIDEO = '<b>"v" & ö #1?\u2028'
DURATION = 6.0


def dataset_of(videos: int, labels: tuple[str, ...] = HOSTILE, seconds: float = 60.0) -> Dataset:
    """The first video has the hostile id, for which there is a file."""
    random = np.random.default_rng(0)
    made = []
    for number in range(videos):
        duration = DURATION if number == 0 else seconds
        starts = np.sort(random.uniform(0, duration - 2.5, 1 + number % 3))
        names = [labels[i] for i in random.integers(0, len(labels), len(starts))]
        instances = tuple(Instance(n, s, s + 2.0) for n, s in zip(names, starts.tolist(), strict=True))
        made.append(Video(VIDEO if number == 0 else f"v_{number:04d}", duration, "testing", instances))
    return Dataset.of("toy", made, labels)


def detections_of(dataset: Dataset, count: int, seed: int) -> Detections:
    random = np.random.default_rng(seed)
    found = {}
    for video in dataset.videos.values():
        true = [(i.start + 0.3, i.end - 0.1) for i in video.instances]
        starts = random.uniform(0, video.duration - 2, count - len(true))
        intervals = np.array([*true, *zip(starts, starts + random.uniform(0.5, 2, len(starts)), strict=True)])
        classes = [*dataset.classes(video).tolist(), *random.integers(0, len(dataset.labels), len(starts)).tolist()]
        scores = np.concatenate([np.full(len(true), 0.95), random.uniform(0, 0.5, len(starts))])
        found[video.id] = (intervals, classes, scores)
    return Detections.of(dataset.labels, found)


def proposals_of(dataset: Dataset, count: int) -> Proposals:
    random = np.random.default_rng(1)
    intervals, scores, actionness, spans = {}, {}, {}, {}
    for video in dataset.videos.values():
        starts = random.uniform(0, video.duration - 2, count)
        intervals[video.id] = np.stack([starts, starts + random.uniform(0.5, 2, count)], axis=1)
        scores[video.id] = random.random(count)
        edges = np.linspace(0, video.duration, 61)
        spans[video.id] = np.stack([edges[:-1], edges[1:]], axis=1)
        actionness[video.id] = random.random(60).astype(np.float32)
    return Proposals(intervals, scores, "tag", {}, actionness, spans)


def inputs_in(folder: Path, dataset: Dataset, count: int = 12) -> ReportOptions:
    """Two files of detections with hostile names, proposals, two runs."""
    folder.mkdir(parents=True, exist_ok=True)
    write_activitynet(dataset, folder / "truth.json")
    files = (folder / "<i>fused&.json", folder / 'r"gb.json')
    for seed, path in enumerate(files):
        detections_of(dataset, count, seed).write(path)
    proposals_of(dataset, count).save(folder / "tag.npz")
    for name in ("rgb", "<u>flow"):
        run = folder / "runs" / name
        run.mkdir(parents=True)
        records = [{"epoch": n, "loss": 1 / (n + 1), "accuracy": 0.1 * n, "<s>": 1.0} for n in range(5)]
        (run / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        (run / "summary.json").write_text(json.dumps({"head": "<em>ssn", "seconds": 1.5, "final": records[-1]}))
    return ReportOptions(
        inputs=(*files, folder / "tag.npz", folder / "runs"),
        annotations=str(folder / "truth.json"),
        out=folder / "report.html",
        bootstrap=20,
        quiet=True,
        title=HOSTILE[1],
    )


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> ReportOptions:
    """The page of a few videos of which everything that can have a name has a hostile one; one has a file."""
    cv2 = pytest.importorskip("cv2")
    folder = tmp_path_factory.mktemp("page")
    (folder / "videos").mkdir()
    plain = folder / "plain.webm"
    writer = cv2.VideoWriter(str(plain), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"VP80"), 10.0, (64, 48))
    for frame in range(int(10 * DURATION)):
        writer.write(np.full((48, 64, 3), 4 * frame, np.uint8))
    writer.release()
    plain.rename(folder / "videos" / f"{VIDEO}.webm")
    options = replace(inputs_in(folder, dataset_of(4)), videos=folder / "videos")
    report(options)
    return options


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


def test_runs_alone_need_no_truth(tmp_path: Path) -> None:
    options = inputs_in(tmp_path, dataset_of(2))
    page = report(replace(options, inputs=options.inputs[3:], annotations=None))
    assert "<h2>Training</h2>" in page.read_text(encoding="utf-8")
    assert "<h2>Summary</h2>" not in page.read_text(encoding="utf-8")


def test_every_chart_as_a_figure(tmp_path: Path) -> None:
    options = inputs_in(tmp_path, dataset_of(4, ("a", "$b_{")))
    report(replace(options, inputs=options.inputs[1:], figures=tmp_path / "figures"))
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    stems = ("curves", "errors-1", "proposals", "training")
    assert names == {f"{stem}.{ending}" for stem in stems for ending in ("png", "svg")}


def test_what_is_what(tmp_path: Path) -> None:
    options = inputs_in(tmp_path, dataset_of(2))
    found = sort_inputs(options.inputs)
    assert [path.name for path in found.runs] == ["<u>flow", "rgb"]
    assert found.proposals == (tmp_path / "tag.npz",)
    log = read_log(tmp_path / "runs" / "rgb", "rgb")
    assert log.series("loss") == ([1.0, 2.0, 3.0, 4.0, 5.0], [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    # A run that is still going: its last line may be half there.
    path = tmp_path / "runs" / "rgb" / "log.jsonl"
    path.write_text(path.read_text() + '{"epoch": 5, "lo')
    assert len(read_log(path.parent, "rgb").records) == 5
    (tmp_path / "x.csv").write_text("")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": ()}, "name what to show"),
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


def test_actionness_of_a_run_on_a_store(tmp_path: Path) -> None:
    data = write(tmp_path, videos=6)
    fit(data.options(tmp_path / "actionness", head="actionness", proposals=None, optimisation=quick(epochs=1)))
    ids = list(load(data.annotations).subset("testing").videos)
    found = actionness_of(ids, (), data.store, [tmp_path / "actionness"])
    assert list(found) == ids
    stored = FeatureStore.open(data.store).read(ids[0])
    logits = actionness_scores(load_run(tmp_path / "actionness"), stored.features)
    np.testing.assert_allclose(found[ids[0]][0], action_probability(logits), rtol=1e-6)
    np.testing.assert_array_equal(found[ids[0]][1], stored.spans)
    with pytest.raises(UserError, match="name a run folder of an actionness head"):
        actionness_of(ids, (), data.store, [])


def test_an_empty_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run folder and holds none"):
        sort_inputs([tmp_path])
    with pytest.raises(UserError, match=r"written as \.html"):
        ReportOptions((tmp_path,), out=tmp_path / "page.txt")


# ---------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium: one that is installed, or Playwright's own; skips where there is neither."""
    api = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    installed = next(filter(None, map(shutil.which, names)), None)
    with api.sync_playwright() as playwright:
        path = installed or playwright.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("no Chromium: install chromium, or run `playwright install chromium`")
        # Containers in which tests run as root let no sandbox start.
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


class Opened:
    """A page in a browser, with all that went wrong on it."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.page = browser.new_page(viewport={"width": 1300, "height": 900}, **context)
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.faults.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        started = time.perf_counter()
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("#timeline .bars path")
        self.seconds = time.perf_counter() - started

    def until(self, condition: str) -> None:
        """Wait for JavaScript to be true; Playwright's own way to wait breaks the page's content security policy."""
        for _ in range(200):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(25)
        raise AssertionError(f"never came true: {condition}")

    def check(self) -> None:
        assert self.faults == []
        assert [url for url in self.requests if not url.startswith(("file:", "data:"))] == []


@pytest.fixture(scope="module")
def opened(browser: Any, hostile: ReportOptions) -> Opened:
    """The hostile page, one for all tests: it takes a second to open."""
    return Opened(browser, hostile.out, color_scheme="dark")


def test_opens_and_draws_everything(opened: Opened) -> None:
    page = opened.page
    for place in page.query_selector_all(".chart"):
        place.scroll_into_view_if_needed()
        place.wait_for_selector(".main-svg")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    opened.check()


def test_no_name_runs(opened: Opened) -> None:
    page = opened.page
    for button in page.query_selector_all("#list button"):
        button.click()
        for bar in page.query_selector_all("#timeline .bars path")[:6]:
            bar.hover(force=True)
    for place in page.query_selector_all(".chart"):
        place.scroll_into_view_if_needed()
        for choice in place.query_selector_all("select"):
            choice.select_option(index=1)
    assert page.evaluate("window.hacked") is None
    shown = set(page.eval_on_selector_all("#rows th[scope=row] button", "all => all.map(one => one.textContent)"))
    assert shown
    assert shown <= set(HOSTILE)
    assert page.title() == HOSTILE[1]
    opened.check()


def test_a_detection_seeks_the_player_and_the_player_moves_the_cursor(opened: Opened) -> None:
    page = opened.page
    page.click("#list li:nth-child(1) button")
    player, cursor = "document.getElementById('player')", "document.getElementById('cursor')"
    opened.until(f"{player}.readyState >= 1")
    page.click("#rows tbody tr:nth-child(2)")
    start = page.get_attribute("#rows tbody tr:nth-child(2)", "data-start")
    opened.until(f"Math.abs({player}.currentTime - {start}) < 0.02")
    # The first bar of the detections is that of the highest score.
    best = page.get_attribute("#rows tbody tr:nth-child(1)", "data-start")
    assert best != start
    bar = page.query_selector_all("#timeline .trace.bars")[-1].query_selector("path")
    bar.scroll_into_view_if_needed()
    box = bar.bounding_box()
    # plotly.js looks at what is below the pointer a moment after it came.
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 12)
    page.wait_for_timeout(150)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 12)
    opened.until(f"Math.abs({player}.currentTime - {best}) < 0.02")
    left = page.evaluate(f"parseFloat({cursor}.style.left)")
    page.evaluate(f"{player}.play()")
    opened.until(f"parseFloat({cursor}.style.left) > {left} + 2")
    page.evaluate(f"{player}.pause()")
    page.evaluate(f"{player}.currentTime = {DURATION / 2}")
    opened.until(f"document.getElementById('clock').textContent === '{DURATION / 2:.2f} s'")
    opened.check()


def test_zoom_keeps_cursor_and_time_together(opened: Opened) -> None:
    page = opened.page
    page.click("#list li:nth-child(1) button")
    page.focus("#ruler")
    for _ in range(3):
        page.keyboard.press("PageUp")
    assert page.text_content("#clock") == f"{0.3 * DURATION:.2f} s"

    def place() -> float:  # of the cursor, as time by the axis
        return float(
            page.evaluate(
                """() => {
                    const axis = document.getElementById("timeline")._fullLayout.xaxis;
                    return axis.p2d(parseFloat(document.getElementById("cursor").style.left) - axis._offset);
                }"""
            )
        )

    assert place() == pytest.approx(0.3 * DURATION, abs=0.02)
    page.click("[data-zoom='0.5']")
    page.wait_for_timeout(50)
    assert place() == pytest.approx(0.3 * DURATION, abs=0.02)
    low, high = page.evaluate("document.getElementById('timeline').layout.xaxis.range")
    assert high - low == pytest.approx(DURATION / 2)
    page.click("[data-zoom='whole']")
    assert page.evaluate("document.getElementById('timeline').layout.xaxis.range") == [0, DURATION]
    opened.check()


def test_a_thousand_videos(browser: Any, tmp_path: Path) -> None:
    options = replace(inputs_in(tmp_path, dataset_of(1000, ("jump", "run", "throw")), 40), bootstrap=0)
    started = time.perf_counter()
    report(options)
    made = time.perf_counter() - started
    opened = Opened(browser, options.out)
    size = options.out.stat().st_size / 2**20
    print(f"1,000 videos: {size:.1f} MB, made in {made:.1f} s, open in {opened.seconds:.1f} s")
    page = opened.page
    assert page.text_content("#found").startswith("1000 of 1000 videos")
    page.fill("#search", "v_09")
    assert page.text_content("#found").startswith("100 of 1000 videos")
    page.select_option("#sort", label='AP of r"gb, lowest first')
    values = page.eval_on_selector_all("#list .value", "all => all.map(one => parseFloat(one.textContent))")
    assert values == sorted(values)
    page.click("#list li:nth-child(50) button")
    chosen = page.get_attribute("#list li:nth-child(50) button", "title")
    assert page.text_content("#name") == chosen
    assert page.evaluate("location.hash") == f"#video={chosen}"
    opened.check()
