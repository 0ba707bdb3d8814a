"""The toy data set: the same for a seed, as described, and not to be solved by colour."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import NearestCentroid

from ssn_feat import UserError
from ssn_feat.annotations import read_annotations
from ssn_feat.annotations.toy import (
    APPEARANCE_CLASSES,
    CLASSES,
    MOTION_CLASSES,
    ToyCommand,
    ToyOptions,
    make_toy,
    plan_videos,
    write_toy,
)
from ssn_feat.annotations.toy_pixels import FPS, PLAIN, Track, _path

cv2 = pytest.importorskip("cv2")

SMALL = ToyOptions(videos=3, seed=4, shortest=3, longest=4)


def digest(options: ToyOptions, index: int) -> str:
    result = hashlib.sha256()
    for frame in plan_videos(options)[index].frames():
        result.update(frame.tobytes())
    return result.hexdigest()


def test_the_default_set_is_as_described() -> None:
    videos = [p.video for p in plan_videos(ToyOptions())]
    assert len(videos) == 48
    assert [v.subset for v in videos] == ["training"] * 24 + ["testing"] * 24
    assert all(20 <= v.duration <= 60 and v.frames == round(v.duration * 25) and v.fps == 25 for v in videos)
    counts = [len(v.instances) for v in videos]
    assert min(counts) == 0
    assert max(counts) == 5
    assert len(APPEARANCE_CLASSES) == len(MOTION_CLASSES) == 3
    for subset in ("training", "testing"):
        assert {i.label for v in videos if v.subset == subset for i in v.instances} == set(CLASSES)
    for video in videos:
        intervals = video.intervals()
        if len(intervals):
            assert np.all((intervals[1:, 0] - intervals[:-1, 1]) > 0.99)
            assert intervals[0, 0] > 0.99
            assert intervals[-1, 1] < video.duration - 0.99
            np.testing.assert_allclose(intervals * FPS, np.round(intervals * FPS), atol=1e-9)


def test_lengths_of_instances_are_log_uniform() -> None:
    videos = [p.video for p in plan_videos(ToyOptions(videos=400, seed=1))]
    lengths = np.concatenate([v.intervals() @ [-1, 1] for v in videos])
    assert lengths.min() > 0.95
    assert lengths.max() <= 8
    assert stats.kstest(np.log(lengths) / np.log(8), "uniform").statistic < 0.05


def test_the_same_seed_gives_the_same_pixels_here_and_in_another_process() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from test_toy import *; print(digest(SMALL, 1), end='')"
    other = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True, check=True
    )
    assert other.stdout == digest(SMALL, 1) == digest(SMALL, 1)
    assert digest(ToyOptions(videos=3, seed=5, shortest=3, longest=4), 1) != other.stdout


def test_every_nth_frame_is_that_frame_of_all() -> None:
    planned = plan_videos(SMALL)[0]
    every = list(planned.frames())[::7]
    np.testing.assert_array_equal(list(planned.frames(every=7)), every)


def test_a_video_does_not_depend_on_how_many_there_are() -> None:
    few, many = plan_videos(ToyOptions(videos=10)), plan_videos(ToyOptions(videos=12))
    assert few[3] == many[3]


def test_written_videos_hold_the_frames_and_the_truth_is_the_same_bytes(tmp_path: Path) -> None:
    dataset = write_toy(tmp_path / "a", SMALL, jobs=1)
    write_toy(tmp_path / "b", SMALL, jobs=2)
    truth = tmp_path / "a" / "annotations.json"
    assert truth.read_bytes() == (tmp_path / "b" / "annotations.json").read_bytes()
    assert read_annotations(truth).videos == dataset.videos
    assert read_annotations(truth).labels == CLASSES
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"videos", "annotations.json", "toy.yaml"}
    for planned in plan_videos(SMALL):
        capture = cv2.VideoCapture(str(tmp_path / "a" / "videos" / f"{planned.video.id}.webm"))
        assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(25)
        for drawn in planned.frames():
            good, decoded = capture.read()
            assert good
            assert np.abs(decoded.astype(int) - drawn).mean() < 12
        assert not capture.read()[0]


def test_a_second_call_does_nothing_and_an_interrupted_one_is_resumed(tmp_path: Path) -> None:
    write_toy(tmp_path, SMALL, jobs=1)
    videos = sorted((tmp_path / "videos").iterdir())
    before = {p: p.stat().st_mtime_ns for p in [*videos, tmp_path / "annotations.json"]}
    write_toy(tmp_path, SMALL, jobs=1)
    assert before == {p: p.stat().st_mtime_ns for p in before}
    videos[1].unlink()
    write_toy(tmp_path, SMALL, jobs=1)
    assert videos[1].is_file()
    assert videos[0].stat().st_mtime_ns == before[videos[0]]
    with pytest.raises(UserError, match="holds another toy data set"):
        write_toy(tmp_path, ToyOptions(videos=3, seed=5, shortest=3, longest=4), jobs=1)


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = Path(__file__).resolve().parents[2] / "bench" / "toy.py"
    arguments = ["--videos", "2", "--shortest", "3", "--longest", "3", "--jobs", "1"]
    made = subprocess.run([sys.executable, script, tmp_path, *arguments], capture_output=True, text=True, check=True)
    assert "2 videos (0.1 min)" in made.stdout
    assert "not supported" not in made.stderr  # what OpenCV says of every WebM file
    make_toy(ToyCommand(tmp_path, ToyOptions(videos=2, shortest=3, longest=3)))
    assert "already complete, nothing done" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [{"videos": 1}, {"seed": -1}, {"shortest": 2.0}, {"shortest": 30.0, "longest": 29.0}])
def test_options_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError):
        ToyOptions(**wrong)  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot create the folder"):
        write_toy(tmp_path / "file" / "toy", SMALL, jobs=1)


def colours(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean colour, and histograms of the three channels."""
    counts = [np.histogram(frame[..., c], 16, (0, 256))[0] for c in range(3)]
    return frame.reshape(-1, 3).mean(0), np.concatenate(counts)


def test_the_nearest_colour_does_not_tell_classes_apart() -> None:
    rows: dict[str, list[tuple[np.ndarray, np.ndarray, int]]] = {"training": [], "testing": []}
    for planned in plan_videos(ToyOptions(videos=80, seed=2, shortest=5, longest=8)):
        labels = np.zeros(planned.video.frames, int)
        for i in planned.video.instances:
            labels[round(i.start * FPS) : round(i.end * FPS)] = 1 + CLASSES.index(i.label)
        for label, frame in zip(labels[::10], planned.frames(every=10), strict=True):
            rows[planned.video.subset].append((*colours(frame), label))
    for kind in (0, 1):
        (x, y), (test_x, test_y) = (
            (np.stack([r[kind] for r in rows[s]]), np.array([r[2] for r in rows[s]])) for s in ("training", "testing")
        )
        assert set(y) == set(test_y) == set(range(7))
        found = NearestCentroid().fit(x, y).predict(test_x)
        assert balanced_accuracy_score(test_y, found) < 0.24  # chance: 1/7


def test_in_one_frame_an_object_of_a_motion_class_is_like_any_other() -> None:
    """Size and direction of an object in its frames are distributed alike whatever it does."""

    def seen(motion: str) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        paths = [_path(Track(next(iter(PLAIN)), motion, 0, 60), rng) for _ in range(400)]
        return np.concatenate([p.scale[::20] for p in paths]), np.concatenate([p.angle[::20] for p in paths])

    size, angle = seen("drifting")
    for motion in MOTION_CLASSES:
        other_size, other_angle = seen(motion)
        assert stats.ks_2samp(size, other_size).statistic < 0.08
        assert stats.ks_2samp(angle % (2 * np.pi), other_angle % (2 * np.pi)).statistic < 0.08


def test_short_videos_need_no_lower_limit() -> None:
    options = ToyOptions(videos=3, longest=12)
    assert (options.least, ToyOptions().least, ToyOptions(shortest=5).least) == (12, 20, 5)
    assert plan_videos(options) == plan_videos(ToyOptions(videos=3, shortest=12, longest=12))
    assert options.resolved == ToyOptions(videos=3, shortest=12, longest=12)
