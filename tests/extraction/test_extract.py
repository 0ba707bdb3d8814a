"""A folder of videos into a store: what is told, what is committed, what happens when something goes wrong."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import arrays, command, options, pictures, videos, white, write

from ssn_feat import cli
from ssn_feat.backbones import load_backbone
from ssn_feat.errors import UserError
from ssn_feat.extraction import ExtractOptions, extract, extract_video, run_extraction, workers
from ssn_feat.extraction.extract import resolve_defaults
from ssn_feat.extraction.extract_progress import Progress
from ssn_feat.extraction.plan import make_plan
from ssn_feat.extraction.video_files import list_video_files
from ssn_feat.extraction.worker_pools import WorkerContext
from ssn_feat.extraction.workers import outcomes
from ssn_feat.store import StoreWriteError, open_store
from ssn_feat.store.arrays import write_array
from ssn_feat.video import import_cv2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return videos(tmp_path_factory.mktemp("source") / "toyset")


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the folder, made in one go."""
    store = tmp_path_factory.mktemp("whole") / "s.zarr"
    assert extract(options(folder, store)).exit_code == 0
    return store


def test_store_holds_the_features_of_each_video(folder: Path, whole: Path) -> None:
    store = open_store(whole)
    assert store.ids == ("v0", "v1", "v2")
    assert (store.name, store.streams, store.feature_dim("flow")) == ("toyset", ("flow", "rgb"), 6)
    chosen = options(folder, whole)
    backbones = {stream: load_backbone("tiny:net", stream) for stream in ("rgb", "flow")}
    for video_id in store.ids:
        expected = extract_video(folder / f"{video_id}.avi", backbones, chosen.snippets, batch=2)
        stored = store.read(video_id)
        np.testing.assert_array_equal(stored.spans, expected.spans)
        assert stored.info["source"]["sha256"] == expected.info["source"]["sha256"]
        for stream, rows in expected.features.items():
            np.testing.assert_array_equal(stored.features[stream], rows.astype(np.float16))
    assert not store.backend.staging.path.exists()


def test_what_is_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segment = {"duration": 1.0, "subset": "training", "annotations": [{"label": "run", "segment": [0.0, 0.5]}]}
    (tmp_path / "a.json").write_text(json.dumps({"database": dict.fromkeys(["v0", "v2", "w"], segment)}))
    report = extract(options(folder, tmp_path / "s.zarr", annotations=str(tmp_path / "a.json")))
    assert (sorted(report.extracted), report.missing, report.exit_code) == (["v0", "v2"], ("w",), 0)
    told = capsys.readouterr().out
    assert re.search(r"videos +2 in .*, 3 named by .*a\.json, 1 missing\n", told)
    assert re.search(r"missing +w\n +1 video not named by the annotations is left out", told)
    assert re.search(r"store .*0 done, 2 to extract", told)
    assert re.search(
        r"flow \(6\), rgb \(6\) of tiny:net, a snippet every 4 frames, flow by dis, center crop of 32 pixels", told
    )
    assert re.search(r"size +about 10 snippets, 0\.\d MB", told)
    assert re.search(r"extracted 2 videos, 10 snippets in", told)


def test_dry_run_touches_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_extraction(options(folder, tmp_path / "s.zarr", dry_run=True)) == 0
    assert "3 to extract" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_running_again_does_what_is_left(folder: Path, whole: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    for video_id in ("v0", "v1"):
        assert extract(options(folder / f"{video_id}.avi", store, name="toyset")).extracted.keys() == {video_id}
    report = extract(options(folder, store))
    assert (list(report.extracted), report.done_before) == (["v2"], 2)
    assert arrays(store) == arrays(whole)
    assert extract(options(folder, store)).extracted == {}


def test_resume_goes_on_and_does_not_begin(folder: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"feature store .*typo\.zarr does not exist"):
        extract(options(folder, tmp_path / "typo.zarr", resume=True))
    assert not list(tmp_path.iterdir())
    runs = open_store(whole).runs()
    assert extract(options(folder, whole, resume=True)).done_before == 3
    assert open_store(whole).runs() == runs
    with pytest.raises(UserError, match="exists but is not a feature store; choose a path that does not exist"):
        extract(options(folder, folder))


def test_several_processes_make_the_same(folder: Path, whole: Path, tmp_path: Path) -> None:
    report = extract(options(folder, tmp_path / "s.zarr", jobs=2))
    assert (sorted(report.extracted), report.failures) == (["v0", "v1", "v2"], {})
    assert arrays(tmp_path / "s.zarr") == arrays(whole)


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_bad_video_does_not_stop_the_rest(tmp_path: Path, jobs: int, capsys: pytest.CaptureFixture[str]) -> None:
    folder = videos(tmp_path / "videos", count=2)
    (folder / "junk.mp4").write_bytes(b"x" * 1000)
    (folder / "nothing.mkv").touch()
    (folder / "gone.avi").symlink_to(folder / "none.avi")
    white(folder / "white.avi")
    store = tmp_path / "s.zarr"
    chosen = options(folder, store, jobs=jobs, backbone=("tiny:overflowing",))
    report = extract(chosen)
    assert report.exit_code == 1
    assert report.extracted == {"v0": 4, "v1": 5}
    assert sorted(report.failures) == ["gone", "junk", "nothing", "white"]
    assert "there is no video" in report.failures["gone"]
    assert "is not a video" in report.failures["junk"]
    assert "0 bytes" in report.failures["nothing"]
    assert re.search(r"stream 'rgb': \d+ of 24 features do not fit float16", report.failures["white"])
    assert open_store(store).failures()["junk"].tries == 1
    told = capsys.readouterr().out
    assert "4 videos failed; run the same command again" in told
    assert "  junk: " in told
    extract(chosen)
    assert open_store(store).failures()["junk"].tries == 2
    assert "4 to extract, of which 4 failed before" in capsys.readouterr().out


def test_incomplete_video_is_no_success_unless_asked_for(tmp_path: Path) -> None:
    folder = videos(tmp_path / "videos", count=2, frames=60)
    (folder / "v1.avi").write_bytes((folder / "v1.avi").read_bytes()[:-20000])
    report = extract(options(folder, tmp_path / "s.zarr"))
    assert list(report.extracted) == ["v0"]
    assert report.failures["v1"].startswith("incomplete: ")
    assert report.failures["v1"].endswith("; --allow-incomplete keeps what could be decoded")
    report = extract(options(folder, tmp_path / "s.zarr", allow_incomplete=True))
    assert (list(report.extracted), report.exit_code) == (["v1"], 0)
    assert report.warnings["v1"][0].startswith("incomplete: ")
    assert open_store(tmp_path / "s.zarr").read("v1").info["damage"]


def test_folders_of_images_are_videos(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number, image in enumerate(pictures(20)):
            import_cv2().imwrite(str(tmp_path / "images" / name / f"img_{number:05d}.jpg"), image)
    store = tmp_path / "s.zarr"
    report = extract(options(tmp_path / "images", store))
    assert report.exit_code == 2
    assert "give their frame rate (fps)" in report.failures["a"]
    with pytest.raises(UserError, match=r"fps_of_images is \(absent\) there and 10\.0 here"):
        extract(options(tmp_path / "images", store, fps=10.0))
    report = extract(options(tmp_path / "images", tmp_path / "t.zarr", fps=10.0))
    assert report.extracted == {"a": 4, "b": 4}
    assert open_store(tmp_path / "t.zarr").read("a").duration == pytest.approx(2.0)


def test_unforeseen_error_names_itself(tmp_path: Path) -> None:
    folder = videos(tmp_path / "videos", count=1)
    white(folder / "white.avi")
    report = extract(options(folder, tmp_path / "s.zarr", backbone=("tiny:failing",)))
    assert report.exit_code == 1
    assert re.fullmatch(r"RuntimeError: white is too bright \(\w+\.py:\d+\)", report.failures["white"])


def test_dead_worker_costs_its_video_only(tmp_path: Path) -> None:
    folder = videos(tmp_path / "videos", count=4)
    white(folder / "v1w.avi")
    report = extract(options(folder, tmp_path / "s.zarr", jobs=2, backbone=("tiny:dying",)))
    assert sorted(report.extracted) == ["v0", "v1", "v2", "v3"]
    assert list(report.failures) == ["v1w"]
    assert "its worker process died" in report.failures["v1w"]
    assert not open_store(tmp_path / "s.zarr").backend.staging.path.exists()


def test_run_that_ends_early_leaves_nothing_of_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_DELAY", "0.2")  # the other worker is in the middle of a video
    folder = videos(tmp_path / "videos", count=3, frames=40)
    white(folder / "v1w.avi", frames=60)  # the longest comes first
    with pytest.raises(StoreWriteError, match="the disk is full"):
        extract(options(folder, tmp_path / "s.zarr", jobs=2, backbone=("tiny:full",)))
    assert not open_store(tmp_path / "s.zarr").backend.staging.path.exists()


def test_worker_whose_parent_is_gone_ends(
    folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it was killed before its worker was given a video: the worker is the child of another process then."""
    watched: list[int] = []
    monkeypatch.setattr(workers, "_exit_with", watched.append)
    plan = make_plan(resolve_defaults(options(folder, whole)), list_video_files(folder))
    task = workers.Task(plan.options, plan.snippets, open_store(whole))
    outcome = workers._run_in_worker(task, "v0", folder / "v0.avi", WorkerContext(1, os.getpid(), tmp_path))
    assert (outcome.failure, watched) == (None, [os.getpid()])
    code = "import os, time; from ssn_feat.extraction import workers; workers._exit_with(os.getpid()); time.sleep(600)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 1


def test_nothing_but_failures_is_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "junk.mp4").write_bytes(b"x" * 1000)
    assert run_extraction(options(tmp_path / "videos", tmp_path / "s.zarr")) == 2


def test_store_of_another_recipe(folder: Path, whole: Path) -> None:
    for dry_run in (True, False):
        with pytest.raises(
            UserError, match=r"another recipe: snippets\.stride is 4 there and 5 here\. Use the options"
        ):
            extract(options(folder, whole, stride=5, dry_run=dry_run))
    assert extract(options(folder, whole, streams=("rgb",))).done_before == 3


def test_store_that_cannot_be_written_stops_the_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ssn_feat.store.store_writer.write_array", full)
    with pytest.raises(StoreWriteError, match="No space left on device"):
        extract(options(folder, tmp_path / "s.zarr"))
    assert open_store(tmp_path / "s.zarr").failures() == {}


def test_video_committed_meanwhile_is_left_alone(folder: Path, whole: Path) -> None:
    chosen = resolve_defaults(options(folder, whole.parent / "none.zarr"))
    plan = make_plan(chosen, list_video_files(folder))
    found = list(outcomes(plan, open_store(whole), Progress(print, plan.rows)))
    assert [(o.id, o.failure) for o in found] == [("v0", None), ("v1", None), ("v2", None)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jobs": -1}, "jobs must be at least 1, or 0 for the default, not -1"),
        ({"batch": -1}, "batch must be at least 1, or 0 for the default"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"keep_crops": True}, "keep_crops needs crops ten"),
        ({"subsets": ("training",)}, "subsets need annotations"),
        ({"weights": ("rgb=a", "rgb=b")}, "name the stream rgb twice"),
        ({"weights": ("flow=a",), "streams": ("rgb",)}, "'flow=a' are for a stream that is not among rgb"),
        ({"backbone": ("rgb=tiny:net",)}, "no backbone for the stream flow"),
        ({"backbone": ("tiny:net", "rgb=tiny:net")}, "backbone name the stream rgb twice"),
        ({"device": ("auto", "cuda")}, "device must be auto or names of devices"),
    ],
)
def test_options_are_checked(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        options(Path("videos"), Path("s.zarr"), **changes)


def test_weights_per_stream() -> None:
    both = ExtractOptions(Path("v"), Path("s"), weights=("rgb=a=b.pth", "flow=c.pth"))
    assert (both.weights_of("rgb"), both.weights_of("flow")) == ("a=b.pth", "c.pth")
    assert ExtractOptions(Path("v"), Path("s"), weights=("random:3",)).weights_of("flow") == "random:3"
    assert ExtractOptions(Path("v"), Path("s")).weights_of("rgb") is None


def test_command_line_errors_are_one_line_and_exit_code_2(
    folder: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = ["--backbone", "tiny:net", "--stride", "4"]
    cases = [
        ([tmp_path / "none", tmp_path / "s.zarr"], r"error: there is no folder or file of videos at .*none\n"),
        (
            [folder, whole, "--crop", "32", "--short-side", "50"],
            r"error: the store .* snippets\.short_side is 37 there and 50 here.*\n",
        ),
        ([folder, tmp_path / "s.zarr", "--weights", "rgb=none"], r"error: no file of weights at none\n"),
    ]
    for arguments, expected in cases:
        monkeypatch.setattr(sys, "argv", ["run.py", *map(str, arguments), *tiny])
        with pytest.raises(SystemExit) as ended:
            cli.run(cli.Command(run_extraction, ExtractOptions))
        out, err = capsys.readouterr()
        assert (ended.value.code, out) == (2, "")
        assert re.fullmatch(expected, err)


@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, jobs: int) -> None:
    folder = videos(tmp_path / "videos", count=6, frames=40)
    whole, cut = tmp_path / "whole.zarr", tmp_path / "cut.zarr"
    extract(options(folder, whole))
    process = command(folder, cut, "--jobs", str(jobs), TINY_DELAY="0.1")
    deadline = time.monotonic() + 300
    while len(list(cut.glob("videos/*/rgb"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    # The output is closed when worker processes have ended, too: at once, but for one that was never given a video.
    process.communicate(timeout=400)
    assert process.returncode == -signal.SIGKILL
    assert 2 <= len(open_store(cut).ids) < 6
    report = extract(options(folder, cut))
    assert (report.exit_code, len(report.extracted) + report.done_before) == (0, 6)
    assert arrays(cut) == arrays(whole)
    assert not open_store(cut).backend.staging.path.exists()


def test_ctrl_c_leaves_a_store_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = videos(tmp_path / "videos", count=3)
    store = tmp_path / "s.zarr"
    written: list[Path] = []

    def write_once(place: Path, *arguments: Any) -> None:
        if len(written) == 4:  # in the second video
            signal.raise_signal(signal.SIGINT)
        written.append(place)
        write_array(place, *arguments)

    # A process that a shell started in the background ignores the signal, and so would this test.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr("ssn_feat.store.store_writer.write_array", write_once)
            with pytest.raises(KeyboardInterrupt):
                extract(options(folder, store))
    finally:
        signal.signal(signal.SIGINT, before)
    assert open_store(store).ids == ("v0",)
    assert not open_store(store).backend.staging.path.exists()
    assert extract(options(folder, store)).done_before == 1


def test_one_video_of_another_size(tmp_path: Path) -> None:
    folder = videos(tmp_path / "videos", count=1)
    write(folder / "tall.webm", pictures(20, width=48, height=80))
    report = extract(options(folder, tmp_path / "s.zarr", short_side=0, streams=("rgb",)))
    assert sorted(report.extracted) == ["tall", "v0"]
