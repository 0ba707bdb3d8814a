"""A browser shows the frame that the decoder gives for a time: its player and the page count time alike."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ssn_feat.annotations import Dataset, Instance, Video, write_activitynet
from ssn_feat.report.page import report
from ssn_feat.report.report_options import ReportOptions
from ssn_feat.results.detections import Detections
from ssn_feat.video import SnippetOptions, VideoReader, snippets

av = pytest.importorskip("av")

WIDTH, HEIGHT, COUNT = 64, 48, 30
H264 = {"bf": "0", "x264-params": "keyint=10"}
B_FRAMES = {"x264-params": "bframes=2:b-adapt=0:keyint=12"}
VP9 = {"deadline": "realtime", "cpu-used": "8", "g": "10"}
EVEN = [k / 25 for k in range(COUNT)]
UNEVEN = np.cumsum([0.0] + [0.2 if k % 7 == 0 else 0.04 for k in range(1, COUNT)]).tolist()


def numbered(number: int) -> NDArray[np.uint8]:
    """A picture of eight blocks, each of which is a bit of ``number``."""
    bits = np.array([number >> bit & 1 for bit in range(8)]).reshape(2, 4)
    gray = np.where(bits, 220, 40).astype(np.uint8).repeat(HEIGHT // 2, axis=0).repeat(WIDTH // 4, axis=1)
    return np.repeat(gray[..., None], 3, axis=2)


def number_in(image: NDArray[np.uint8]) -> int:
    """The number in a picture, which may have been scaled."""
    height, width = image.shape[:2]
    rows, columns = [height // 4, 3 * height // 4], [width * k // 8 for k in (1, 3, 5, 7)]
    return int(np.packbits(image[np.ix_(rows, columns)].mean(axis=2).ravel() > 128, bitorder="little")[0])


def film(path: Path, codec: str, options: dict[str, str], times: list[float], **settings: Any) -> Path:
    """A video whose frames carry their numbers, at ``times`` (seconds).

    ``rate``: declared frames a second; ``sound``: seconds of silence from 0 on; ``moved``: number of a frame whose
    timestamp is wrong, and by how many seconds.
    """
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no encoder {codec}")
    moved, by = settings.get("moved", (-1, 0))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=settings.get("rate", 25), options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 15000)
        sound = container.add_stream("libopus", rate=48000) if "sound" in settings else None
        packets = []
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="bgr24")
            frame.time_base, frame.pts = stream.codec_context.time_base, round(15000 * time)
            packets += stream.encode(frame)
        for number, packet in enumerate(packets + stream.encode(None)):
            packet.pts += round(by / packet.time_base) if number == moved else 0
            container.mux(packet)
        for start in range(0, round(48000 * settings.get("sound", 0)), 960):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 48000, start
            container.mux(sound.encode(silence))
        if sound is not None:
            container.mux(sound.encode(None))
    return path


def cut_without_encoding(path: Path) -> Path:
    """An .mp4 whose edit list begins between two key frames."""
    from films import skip_start

    return skip_start(film(path, "libx264", B_FRAMES, EVEN), 0.4)


LATE = [2 + time for time in EVEN]
FILMS: dict[str, Callable[[Path], Path]] = {
    "plain.mp4": lambda path: film(path, "libx264", H264, EVEN),
    "b-frames.mp4": lambda path: film(path, "libx264", B_FRAMES, EVEN),
    "late-track.mp4": lambda path: film(path, "libx264", B_FRAMES, LATE, sound=3.2),
    "late-track.mkv": lambda path: film(path, "libx264", B_FRAMES, LATE, sound=3.2),
    "late-track.webm": lambda path: film(path, "libvpx-vp9", VP9, LATE, sound=3.2),
    "late-file.mkv": lambda path: film(path, "libx264", H264, LATE),
    "late-file.webm": lambda path: film(path, "libvpx-vp9", VP9, LATE),
    "early.mp4": lambda path: film(path, "libx264", B_FRAMES, [time - 0.2 for time in EVEN]),
    "edit-list.mp4": cut_without_encoding,
    "uneven.mp4": lambda path: film(path, "libx264", H264, UNEVEN),
    "uneven.mkv": lambda path: film(path, "libx264", B_FRAMES, UNEVEN),
    "vp9.webm": lambda path: film(path, "libvpx-vp9", VP9, EVEN),
    "sound.webm": lambda path: film(path, "libvpx-vp9", VP9, EVEN, sound=1.2),
    "av1.mp4": lambda path: film(path, "libsvtav1", {"preset": "12", "svtav1-params": "keyint=10"}, EVEN),
    "wrong-time.mkv": lambda path: film(path, "libx264", H264, EVEN, moved=(12, 9)),
}
# The player waits for the time of this frame, and shows none of those up to the next key frame.
NOT_SHOWN = {"wrong-time.mkv": range(12, 20)}

OPEN = """async (source) => {
    const player = document.createElement("video");
    player.muted = true;
    document.body.replaceChildren(player);
    return await new Promise((done) => {
        player.oncanplay = () => done("");
        player.onerror = () => done(player.error.message);
        player.src = source;
    });
}"""
# The frame is drawn a while after "seeked": wait for the expected one, but not for long.
SEEK = """async ([times, expected]) => {
    const player = document.querySelector("video"), canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [64, 48];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const after = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));
    const shown = () => {
        context.drawImage(player, 0, 0, 64, 48);
        const pixels = context.getImageData(0, 0, 64, 48).data;
        let number = 0;
        for (let bit = 0; bit < 8; bit++) {
            const at = 64 * (12 + 24 * Math.floor(bit / 4)) + 8 + 16 * (bit % 4);
            if (pixels[4 * at] > 128) number |= 1 << bit;
        }
        return number;
    };
    const found = [];
    for (const [i, time] of times.entries()) {
        const seeked = new Promise((done) => { player.onseeked = done; });
        player.currentTime = time;
        await Promise.race([seeked, after(5)]);
        const end = performance.now() + 2000;
        while (shown() !== expected[i] && performance.now() < end) await after(0.004);
        found.push(shown());
    }
    return found;
}"""


def decoded(path: Path) -> tuple[NDArray[np.float64], list[int]]:
    """Beginning of each frame and end of the last one (seconds), and the number in each frame."""
    with VideoReader(path) as reader:
        times, numbers = [], []
        while reader.advance():
            times.append(reader.time)
            numbers.append(number_in(reader.image()))
        return np.array([*times, reader.decoded().duration]), numbers


@pytest.fixture(scope="module")
def page(browser: Any) -> Any:
    opened = browser.new_page()
    opened.set_default_timeout(60_000)
    return opened


@pytest.mark.parametrize("name", list(FILMS))
def test_the_player_shows_the_frame_of_a_time(page: Any, tmp_path: Path, name: str) -> None:
    path = FILMS[name](tmp_path / name)
    edges, numbers = decoded(path)
    kind = {".mp4": "video/mp4", ".webm": "video/webm", ".mkv": "video/x-matroska"}[path.suffix]
    problem = page.evaluate(OPEN, f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}")
    if problem:
        pytest.skip(f"this browser does not play {name}: {problem}")
    kept = [k for k, number in enumerate(numbers) if number not in NOT_SHOWN.get(name, ())]
    assert len(kept) > COUNT // 2
    middles = (edges[kept] + edges[np.add(kept, 1)]) / 2
    expected = [numbers[k] for k in kept]
    assert page.evaluate(SEEK, [middles.tolist(), expected]) == expected


def test_the_page_shows_the_frame_at_which_a_detection_begins(browser: Any, tmp_path: Path) -> None:
    """Starts are the edges of snippets, 30 a second: a frame begins at 0.0333... s, which has no short decimal form."""
    pytest.importorskip("jinja2")
    pytest.importorskip("plotly")
    (tmp_path / "videos").mkdir()
    path = film(tmp_path / "videos" / "a.mp4", "libx264", H264, [k / 30 for k in range(COUNT)], rate=30)
    run = snippets(path, SnippetOptions(stride=4, streams=("rgb",), short_side=48, crop=32))
    assert len(list(run)) > 0
    (edges, numbers), spans = decoded(path), run.grid.spans
    intervals = np.concatenate([spans[1:4], spans[:1] + np.array([0.011, 0.2])])
    duration = run.decoded.duration
    found = {"a": (intervals, np.zeros(len(intervals), np.int64), np.linspace(1, 0.5, len(intervals)))}
    Detections.of(("jump",), found).write(tmp_path / "found.json")
    video = Video("a", duration, "testing", (Instance("jump", 0.1, 0.5),))
    write_activitynet(Dataset.of("toy", [video], ("jump",)), tmp_path / "truth.json")
    options = ReportOptions(inputs=(tmp_path / "found.json",), out=tmp_path / "page.html", bootstrap=0, quiet=True)
    report(replace(options, annotations=str(tmp_path / "truth.json"), videos=tmp_path / "videos"))
    opened = browser.new_page()
    opened.goto((tmp_path / "page.html").as_uri())
    player = opened.locator("#player")
    opened.wait_for_function("(({ readyState, error }) => readyState >= 2 || error)(document.getElementById('player'))")
    if problem := player.evaluate("(one) => one.error && one.error.message"):
        pytest.skip(f"this browser does not play H.264: {problem}")
    player.evaluate("(one) => { one.controls = false; }")
    assert opened.locator("#rows tbody tr").count() == len(intervals)
    for row, start in zip(opened.locator("#rows tbody tr").all(), intervals[:, 0], strict=True):
        row.click()
        expected = numbers[int(np.searchsorted(edges, start + 1e-6, side="right")) - 1]
        for _ in range(40):
            picture = cv2.imdecode(np.frombuffer(player.screenshot(), np.uint8), cv2.IMREAD_COLOR)
            if number_in(picture) == expected:
                break
            opened.wait_for_timeout(25)
        assert number_in(picture) == expected, start
