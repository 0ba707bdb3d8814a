"""Videos as cameras, editors and broadcasters make them: interlaced, on odd clocks, joined, in folders of anything."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import films
import numpy as np

from ssn_feat.errors import UserError
from ssn_feat.video import SnippetOptions, VideoReader, snippets
from ssn_feat.video.decode import Decoded
from ssn_feat.video.find_videos import find_videos

from .outcome import Outcome, unforeseen

Kind = Callable[[np.random.Generator, Path], str]

_CONTAINERS = (".mp4", ".mkv", ".ts", ".mov")


def rounds(generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """Every kind in turn, with random numbers: what is shown is right, and what is odd is named."""
    kinds: tuple[Kind, ...] = (_interlaced, _odd_clock, _gap, _several_streams, _unknown_endings, _playlist)
    while True:
        for kind in kinds:
            here = folder / "kind"
            here.mkdir()
            state = generator.bit_generator.state["state"]["state"]
            try:
                failing = kind(generator, here)
            except Exception as error:
                failing = unforeseen(error)
            shutil.rmtree(here)
            yield Outcome(f"{kind.__name__.strip('_').replace('_', ' ')}, generator at {state}", failing)


def _read(path: Path, **options: object) -> tuple[list[float], list[np.ndarray], Decoded]:
    times, images = [], []
    with VideoReader(path, **options) as reader:
        while reader.advance():
            times.append(reader.time)
            images.append(reader.image())
        return times, images, reader.decoded()


def _one(generator: np.random.Generator, *of: str) -> str:
    return str(generator.choice(of))


def _interlaced(generator: np.random.Generator, folder: Path) -> str:
    codec, suffix = _one(generator, "libx264", "mpeg2video"), _one(generator, *_CONTAINERS[:3])
    turn = int(generator.integers(1, 25))
    kinds = [{"bf": "0"}, films.INTERLACED | {"bf": "0"}]
    if generator.random() < 0.3:
        kinds[0] = kinds[1]
    in_band = suffix == ".ts"  # only there do the headers of the second half come with it
    settings = {"options": kinds[0], "then": (turn, kinds[1])} if in_band else {"options": kinds[1]}
    path = films.encode(folder / f"a{suffix}", films.combed(30), codec, **settings)
    times, images, summary = _read(path)
    plain_times, plain, _ = _read(path, deinterlace=False)
    if times != plain_times or len(images) < 29:
        return f"{len(images)} frames, {len(plain)} without deinterlacing"
    if summary.equal_share > 0.1:
        return f"{summary.equal_share:.0%} of the frames are equal"
    late = slice(turn if in_band else 0, None)
    if _combing(images[late]) > 0.8 * _combing(plain[late]):
        return f"combing {_combing(images[late]):.1f}, {_combing(plain[late]):.1f} without deinterlacing"
    return ""


def _combing(images: list[np.ndarray]) -> float:
    rows = np.stack(images).astype(int).mean(axis=3)
    return float(np.abs(rows[:, 1:-1:2] - (rows[:, :-2:2] + rows[:, 2::2]) / 2).mean())


def _odd_clock(generator: np.random.Generator, folder: Path) -> str:
    plain = films.encode(folder / "plain.mp4", films.pictures(40), "mpeg2video")
    # A frame that is shown before the start of a .mp4 is not shown at all.
    at, late = int(generator.integers(24, 36)), -float(generator.uniform(0.3, 0.9))
    if generator.random() < 0.5:
        at, late = int(generator.integers(1, 36)), float(generator.choice([0.5, 9, 100]))
    path = films.restamped(
        folder / f"a{_one(generator, *_CONTAINERS)}", plain, {at: late}, delay=1.0, start=generator.uniform(1.5, 50)
    )
    times, _, summary = _read(path)
    if not np.allclose(np.diff(times), 0.04, atol=3e-3):
        return f"frame {at} of {path.suffix} is {late:+.2f} s off, which moves others: {np.diff(times).round(3)}"
    said = any(f"interpolated: {at} at" in line for line in summary.warnings)
    return "" if said or summary.damage else f"frame {at} of {path.suffix}, {late:+.2f} s off, is not named"


def _gap(generator: np.random.Generator, folder: Path) -> str:
    at, jump = int(generator.integers(10, 50)), float(generator.integers(40, 100_000)) / 25
    shown = [k / 25 + jump * (k >= at) for k in range(60)]
    path = films.encode(folder / f"a{_one(generator, '.ts', '.mpg')}", films.pictures(60), "mpeg2video", times=shown)
    run = snippets(path, SnippetOptions(stride=6, short_side=40, crop=32, streams=("rgb",)))
    rows = sum(len(batch) for batch in run)
    spans = run.grid.spans
    if ((spans[:, 0] < shown[at] - 0.1) & (spans[:, 1] > shown[at] + 0.01)).any():
        return f"a row spans the gap of {jump:.1f} s after frame {at}: {spans.round(2).tolist()}"
    if rows != len(spans) or len(run.decoded.gaps) != 1:
        return f"{path.suffix}, {jump:.2f} s before frame {at}: {rows} rows of {len(spans)}, gaps {run.decoded.gaps}"
    return "" if any("no row spans" in line for line in run.decoded.warnings) else "the gap is not named"


def _several_streams(generator: np.random.Generator, folder: Path) -> str:
    count = int(generator.integers(2, 5))
    path = films.encode(folder / f"a{_one(generator, *_CONTAINERS)}", films.pictures(8), "mpeg4", tracks=count)
    for stream in range(-1, count):
        _, images, summary = _read(path, stream=stream)
        if len(images) != 8 or not any(f"{count} video streams" in line for line in summary.warnings):
            return f"stream {stream} of {count}: {len(images)} frames, {summary.warnings}"
    try:
        VideoReader(path, stream=count)
    except UserError as error:
        return "" if f"there is no stream {count}" in str(error) else f"said {error}"
    return f"stream {count} of {count} was opened"


def _unknown_endings(generator: np.random.Generator, folder: Path) -> str:
    film = films.encode(folder / "first.mp4", films.pictures(6), "mpeg4").read_bytes()
    videos, others = {"first"}, set()
    for number in range(8):
        name = f"{number}{_one(generator, '', '.cam1', '.xyz', '.264x', '.mp4.bak', '.ts_')}"
        content = [film, generator.bytes(3000), b"", b"text\n" * 400][int(generator.integers(4))]
        (folder / name).write_bytes(content)
        if content is film:
            videos.add(Path(name).stem)
        else:
            others.add(name)
    found = find_videos(folder)
    if found.videos.keys() != videos or set(found.left_out) != others:
        return f"found {sorted(found.videos)} instead of {sorted(videos)}, left out {found.left_out}, not {others}"
    return ""


def _playlist(generator: np.random.Generator, folder: Path) -> str:
    films.encode(folder / "film.mp4", films.pictures(6), "mpeg4")
    target = _one(generator, "film.mp4", str(folder / "film.mp4"), "file:film.mp4", "../kind/film.mp4", "/etc/passwd")
    text = _one(
        generator,
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{target}'\n",
        f"<?xml version='1.0'?><MPD type='static'><Period><BaseURL>{target}</BaseURL></Period></MPD>",
        f"[playlist]\nFile1={target}\nNumberOfEntries=1\n",
    )
    path = folder / f"list{_one(generator, '.m3u8', '.mp4', '.ffconcat', '.mpd', '.pls', '.xyz')}"
    path.write_text(_one(generator, "", "\n", "\ufeff") + text)
    try:
        VideoReader(path)
    except UserError as error:
        said = str(error)
        return "" if "which only names other files" in said else f"{path.name} with {text[:20]!r}: {said}"
    return f"{path.name} with {text[:20]!r} was opened"
