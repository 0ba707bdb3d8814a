"""The page in a browser, where there is one: it draws everything, runs nothing of the data, seeks and follows."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report.pages import DURATION, HOSTILE, dataset_of, hostile_page, inputs_in

from ssn_feat.report.page import report
from ssn_feat.report.report_options import ReportOptions

pytest.importorskip("jinja2")
pytest.importorskip("plotly")

# Seconds after which something that has not happened never will.
PATIENCE = 60
MIDDLES = """all => all.map((one) => one.getBoundingClientRect()).map((box) => [
    box.left + box.width / 2, box.top + box.height / 2])"""
# From top to bottom.
PARTS = (".xtick text", ".xtitle", ".legend")


class Opened:
    """A page in a browser, with all that went wrong on it."""

    def __init__(
        self,
        browser: Any,
        path: Path,
        ready: str = "#timeline .bars path",
        fragment: str = "",
        size: dict[str, int] | None = None,
        **context: Any,
    ) -> None:
        self.page = browser.new_page(viewport=size or {"width": 1300, "height": 900}, **context)
        self.page.set_default_timeout(1000 * PATIENCE)
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.faults.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        started = time.perf_counter()
        self.page.goto(path.as_uri() + fragment)
        self.page.wait_for_selector(ready)
        self.seconds = time.perf_counter() - started

    def until(self, condition: str) -> None:
        """Wait for JavaScript to be true; Playwright's own way to wait breaks the page's content security policy."""
        assert self.comes_true(condition, PATIENCE), f"never came true: {condition}"

    def comes_true(self, condition: str, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self.page.evaluate(condition):
            if time.monotonic() > end:
                return False
            self.page.wait_for_timeout(25)
        return True

    def click_until(self, x: float, y: float, condition: str) -> None:
        """Click at a place until it does what it should: plotly.js looks at what is below the pointer a while after
        that came, which on a busy machine is a long one."""
        for _ in range(PATIENCE):
            self.page.mouse.move(x, y - 1)
            self.page.mouse.move(x, y)
            self.page.wait_for_timeout(150)
            self.page.mouse.click(x, y)
            if self.comes_true(condition, 1.0):
                return
        raise AssertionError(f"clicks at {x}, {y} never made true: {condition}")

    def check(self) -> None:
        assert self.faults == []
        assert [url for url in self.requests if not url.startswith(("file:", "data:"))] == []


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> ReportOptions:
    return hostile_page(tmp_path_factory.mktemp("page"))


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
        page.locator("#timeline").scroll_into_view_if_needed()
        for x, y in page.eval_on_selector_all("#timeline .bars path", MIDDLES)[:6]:
            page.mouse.move(x, y)
            page.wait_for_timeout(20)
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
    middle = box["x"] + box["width"] / 2
    opened.click_until(middle, box["y"] + 12, f"Math.abs({player}.currentTime - {best}) < 0.02")
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
    opened.until("document.getElementById('player').readyState >= 1")
    page.focus("#ruler")
    for _ in range(3):
        page.keyboard.press("PageUp")
    opened.until(f"document.getElementById('clock').textContent === '{0.3 * DURATION:.2f} s'")
    axis, cursor = "document.getElementById('timeline')._fullLayout.xaxis", "document.getElementById('cursor')"
    # Of the cursor, as time by the axis.
    place = f"{axis}.p2d(parseFloat({cursor}.style.left) - {axis}._offset)"
    opened.until(f"Math.abs({place} - {0.3 * DURATION}) < 0.02")
    page.click("[data-zoom='0.5']")
    opened.until(f"Math.abs({axis}.range[1] - {axis}.range[0] - {DURATION / 2}) < 1e-6")
    opened.until(f"Math.abs({place} - {0.3 * DURATION}) < 0.02")
    page.click("[data-zoom='whole']")
    opened.until(f"{axis}.range[0] === 0 && {axis}.range[1] === {DURATION}")
    opened.check()


def test_legends_lie_below_their_charts(browser: Any, tmp_path: Path) -> None:
    for number in range(7):
        run = tmp_path / "runs" / f"actionness-of-seed-{number}"
        run.mkdir(parents=True)
        lines = [json.dumps({"epoch": epoch, "loss": number + 1 / (epoch + 1)}) for epoch in range(3)]
        (run / "log.jsonl").write_text("".join(f"{line}\n" for line in lines))
    report(ReportOptions(inputs=(tmp_path / "runs",), out=tmp_path / "page.html", quiet=True))
    opened = Opened(browser, tmp_path / "page.html", ready=".chart .legend")
    page = opened.page
    parts = [page.locator(f".chart {part}").first.bounding_box() for part in PARTS]
    for above, below in itertools.pairwise(parts):
        assert above["y"] + above["height"] <= below["y"]
    canvas = page.locator(".chart .canvas").bounding_box()
    assert parts[-1]["y"] + parts[-1]["height"] <= canvas["y"] + canvas["height"] + 1
    opened.check()


def test_the_address_of_a_section_shows_it(browser: Any, hostile: ReportOptions) -> None:
    for part in ("videos", "errors"):
        opened = Opened(browser, hostile.out, fragment=f"#{part}")
        top = f"document.getElementById('{part}').getBoundingClientRect().top"
        opened.until(f"{top} >= 0 && {top} < 200")
        assert opened.page.evaluate("location.hash") == f"#{part}"
    opened.page.click("nav a[href='#videos']")
    opened.until("document.getElementById('videos').getBoundingClientRect().top < 200")
    assert opened.page.locator("#videos h2").is_visible()
    opened.check()


def test_an_address_names_a_video(browser: Any, hostile: ReportOptions) -> None:
    opened = Opened(browser, hostile.out, fragment="#video=v_0002")
    assert opened.page.text_content("#name") == "v_0002"
    opened.until("document.getElementById('videos').getBoundingClientRect().top < 200")
    opened.page.evaluate("location.hash = '#video=v_0003'")
    opened.until("document.getElementById('name').textContent === 'v_0003'")
    opened.check()


def test_buttons_of_charts_cover_no_data(opened: Opened) -> None:
    page = opened.page
    for place in page.query_selector_all(".chart"):
        place.scroll_into_view_if_needed()
        place.wait_for_selector(".main-svg")
        place.hover()
        bar, plot = (place.wait_for_selector(part).bounding_box() for part in (".modebar", ".bglayer, .plotbg, .xy"))
        top = place.query_selector(".canvas").evaluate(
            "one => one.getBoundingClientRect().top + one._fullLayout._size.t"
        )
        assert bar["y"] + bar["height"] <= top + 1, (bar, plot)
    opened.check()


def test_no_button_sends_a_chart_away(opened: Opened) -> None:
    chart = opened.page.locator(".chart").first
    chart.scroll_into_view_if_needed()
    chart.locator(".modebar-btn").first.wait_for(state="attached")
    titles = chart.locator(".modebar-btn").evaluate_all("all => all.map((one) => one.dataset.title)")
    assert "Zoom in" in titles
    assert not [title for title in titles if "share" in title.lower() or "cloud" in title.lower()]


def test_a_small_screen(browser: Any, hostile: ReportOptions) -> None:
    opened = Opened(browser, hostile.out, size={"width": 420, "height": 800})
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") == 420
    assert page.locator("header").bounding_box()["height"] < 60
    for place in page.query_selector_all(".chart"):
        place.scroll_into_view_if_needed()
        place.wait_for_selector(".main-svg")
    assert page.evaluate("document.documentElement.scrollWidth") == 420
    # Names of rows stay where they are when a table is moved.
    wide = page.locator("#summary .scroll").first
    name = wide.locator("tbody th").first
    before = name.bounding_box()["x"]
    wide.evaluate("one => { one.scrollLeft = 60; }")
    assert name.bounding_box()["x"] == before
    page.locator("#timeline").scroll_into_view_if_needed()
    width = page.locator("#timeline .bglayer").first.evaluate(
        "one => one.ownerSVGElement.getBoundingClientRect().width"
    )
    assert width <= 420
    opened.check()


def test_terms_of_charts_are_explained(opened: Opened) -> None:
    titles = opened.page.eval_on_selector_all("h4 abbr", "all => all.map((one) => [one.textContent, one.title])")
    assert dict(titles)["AR@AN"].startswith("average recall as a function")
    assert all(text for _, text in titles)


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
