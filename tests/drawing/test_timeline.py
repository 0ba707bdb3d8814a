"""Timelines: every part is drawn where it belongs, pictures are files that open, hostile names stay text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ssn_feat.annotations import Instance, Video
from ssn_feat.drawing.colours import class_colours, ink_on
from ssn_feat.drawing.pictures import save
from ssn_feat.drawing.timeline import Timeline, TimelineOptions, timeline_figure, timeline_of
from ssn_feat.drawing.timeline_rows import pack
from ssn_feat.errors import UserError
from ssn_feat.results.detections import Detections, VideoDetections

LABELS = ("jump", "run", "swim")
VIDEO = Video("v1", 60.0, "testing", (Instance("run", 5, 15), Instance("jump", 30, 40), Instance("jump", 35, 45)))
EDGES = np.linspace(0, 60, 121)
SPANS = np.stack([EDGES[:-1], EDGES[1:]], axis=1)
FOUND = VideoDetections(np.array([[5.0, 14], [31, 41], [50, 52]]), np.array([1, 0, 2]), np.array([2.0, 1.0, 0.01]))


def full() -> Timeline:
    proposals = np.array([[4.0, 16], [29, 42], [10, 50], [33, 46]])
    return Timeline(VIDEO, np.linspace(0, 1, 120).astype(np.float32), SPANS, proposals, FOUND)


def bars(figure: Figure) -> list[tuple[float, float, str]]:
    """Start, end and colour of every filled bar."""
    return [
        (round(p.get_x(), 6), round(p.get_x() + p.get_width(), 6), to_hex(p.get_facecolor()))
        for axes in figure.axes
        for p in axes.patches
        if isinstance(p, Rectangle) and p.get_fill()
    ]


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for holder in (figure, *figure.axes) for t in holder.texts]


def test_every_part_is_there() -> None:
    figure = timeline_figure([full()], LABELS)
    assert len(figure.axes) == 4
    colours = class_colours(LABELS)
    drawn = bars(figure)
    assert (5, 15, colours["run"]) in drawn
    assert (31, 41, colours["jump"]) in drawn
    assert {"truth", "actionness", "proposals", "v1", "run", "jump"} <= set(texts(figure))
    assert all(axes.get_xlim() == (0, 60) for axes in figure.axes)


def test_weak_detections_and_further_classes_are_left_out() -> None:
    strong = bars(timeline_figure([full()], LABELS))
    assert not any(start == 50 for start, *_ in strong)
    one = timeline_figure([full()], LABELS, TimelineOptions(shown_classes=1))
    assert "jump" not in [t.get_text() for t in one.axes[3].texts]
    few = timeline_figure([full()], LABELS, TimelineOptions(shown_detections=1))
    assert not any(start == 31 for start, *_ in bars(few))


def test_parts_that_are_missing_are_left_out() -> None:
    figure = timeline_figure([Timeline(VIDEO)], LABELS)
    assert len(figure.axes) == 1
    unknown = Video("new", 10.0, "testing")
    assert len(timeline_figure([Timeline(unknown, detections=FOUND)], LABELS).axes) == 1
    nothing = VideoDetections(np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros(0))
    assert "no detections" in texts(timeline_figure([Timeline(unknown, detections=nothing)], LABELS))
    assert len(timeline_figure([Timeline(unknown, proposals=np.zeros((0, 2)))], LABELS).axes) == 1


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_pictures_are_files_that_open(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "deep" / f"t{suffix}"
    save(timeline_figure([full(), full()], LABELS), path)
    content = path.read_bytes()
    assert content[:4] in (b"\x89PNG", b"<?xm", b"%PDF")
    if suffix == ".svg":
        assert ElementTree.fromstring(content).tag.endswith("svg")
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_same_picture_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save(timeline_figure([full()], LABELS), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_hostile_names_are_text(tmp_path: Path) -> None:
    label, identity = r"$\frac{x}$ & <b>", "../../$etc_{</svg>"
    video = Video(identity, 10.0, "testing", (Instance(label, 0, 9),))
    found = VideoDetections(np.array([[0.0, 9]]), np.array([0]), np.array([1.0]))
    figure = timeline_figure([Timeline(video, detections=found)], (label,))
    save(figure, tmp_path / "t.svg")
    ElementTree.fromstring((tmp_path / "t.svg").read_bytes())
    assert {label, identity} <= set(texts(figure))


def test_long_names_are_shortened() -> None:
    label = "Putting on makeup with both hands"
    found = VideoDetections(np.array([[0.0, 1]]), np.array([0]), np.array([1.0]))
    figure = timeline_figure([Timeline(Video("v", 90.0, "t"), detections=found)], (label,))
    assert "Putting on makeup …" in texts(figure)


def test_from_collections_of_a_data_set() -> None:
    detections = Detections.of(LABELS, {"v1": FOUND})
    scores = np.array([0.1, 0.9])
    made = timeline_of(VIDEO, detections, (np.array([[0.0, 1], [2, 3]]), scores), (np.zeros(120), SPANS))
    np.testing.assert_array_equal(made.proposals, [[2, 3], [0, 1]])
    np.testing.assert_array_equal(made.detections.scores, FOUND.scores)
    other = timeline_of(Video("other", 5.0, "testing"), detections)
    assert (other.detections, other.proposals, other.actionness) == (None, None, None)


def test_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one timeline"):
        timeline_figure([], LABELS)
    with pytest.raises(UserError, match=r"\.png, \.svg, \.pdf"):
        save(timeline_figure([full()], LABELS), tmp_path / "t.gif")
    with pytest.raises(UserError, match="shown_classes"):
        TimelineOptions(shown_classes=0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), max_size=15))
def test_intervals_of_a_lane_do_not_overlap(rows: list[tuple[int, int]]) -> None:
    intervals = np.array([(s, s + d) for s, d in rows], float).reshape(-1, 2)
    lanes = np.array(pack(intervals), int)
    for lane in set(lanes.tolist()):
        own = intervals[lanes == lane]
        own = own[np.argsort(own[:, 0], kind="stable")]
        assert (own[1:, 0] >= own[:-1, 1]).all()
    busiest = max((int(((intervals[:, 0] <= t) & (t < intervals[:, 1])).sum()) for t in range(30)), default=0)
    assert len(set(lanes.tolist())) == busiest


def test_colours_differ_and_are_those_of_the_position() -> None:
    labels = [f"class {n}" for n in range(200)]
    colours = class_colours(labels)
    assert len(set(colours.values())) == 200
    assert class_colours(labels[:7]) == {label: colours[label] for label in labels[:7]}
    assert ink_on("#000000") == "#ffffff"
    assert ink_on("#ffffff") == "#1a1a1a"


def test_no_state_of_pyplot_is_touched() -> None:
    code = "import sys, ssn_feat.drawing.timeline; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
