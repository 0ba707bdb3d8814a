"""``python -m ssn_feat.annotations validate``: every fault by its place, and a copy without them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_feat import UserError
from ssn_feat.annotations import Instance, read_annotations
from ssn_feat.annotations.dialects import load_records
from ssn_feat.annotations.validate import ValidateOptions, corrected, problems, validate


def entry(*segments: Any, label: str = "Jump", **other: Any) -> dict[str, Any]:
    return {
        "duration": 10,
        "subset": "training",
        "annotations": [{"label": label, "segment": s} for s in segments],
        **other,
    }


FAULTY = {
    "taxonomy": [{"nodeName": "Jump", "nodeId": 1, "parentId": 0}, {"nodeName": "Fall", "nodeId": 2, "parentId": 0}],
    "database": {
        "reversed": entry([3, 2]),
        "negative": entry([-1, 2]),
        "late": entry([9, 11], [12, 13]),
        "twice": entry([1, 2], [1, 2]),
        "empty": entry([1, 1]),
        "broken": entry([1, None], 7),
        "typo": entry([1, 2], label="jump"),
        "Fine": entry([1, 2]),
        "fine": entry([1, 2]),
        "bare": entry(),
        "timeless": entry([1, 2], duration=None),
        "line\nbreak": entry([1, 2]),
    },
}


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    path = tmp_path / "faulty.json"
    path.write_text(json.dumps(FAULTY))
    return path


def test_every_fault_is_found_at_its_key(faulty: Path) -> None:
    found = {(p.kind, p.where) for p in problems(load_records(faulty))}
    assert found == {
        ("reversed", "database.reversed.annotations[0]"),
        ("negative", "database.negative.annotations[0]"),
        ("ends past the end", "database.late.annotations[0]"),
        ("starts past the end", "database.late.annotations[1]"),
        ("duplicate", "database.twice.annotations[1]"),
        ("no length", "database.empty.annotations[0]"),
        ("unreadable", "database.broken.annotations[0].segment"),
        ("unreadable", "database.broken.annotations[1].segment"),
        ("label", "database.typo.annotations[0]"),
        ("similar labels", "database.typo.annotations[0]"),
        ("ids differ by case", "database.fine"),
        ("no instances", "database.bare"),
        ("no instances", "database.broken"),
        ("duration", "database.timeless"),
    }


def test_a_mended_copy_is_sound_and_every_change_is_listed(faulty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = faulty.with_name("mended.json")
    assert validate(ValidateOptions(str(faulty), fix=out)) == 1
    printed = capsys.readouterr().out
    assert "database.reversed.annotations[0]: 'Jump' [3, 2] of 'reversed' reversed" in printed
    assert "database.late.annotations[1]: 'Jump' [12, 13] of 'late' removed: outside the video" in printed
    assert "class 'jump' added to the list" in printed
    assert "11 changes" in printed
    dataset = read_annotations(out)
    assert "timeless" not in dataset.videos
    assert {v.id: v.instances for v in dataset.videos.values()} == {
        "reversed": (Instance("Jump", 2, 3),),
        "negative": (Instance("Jump", 0, 2),),
        "late": (Instance("Jump", 9, 10),),
        "twice": (Instance("Jump", 1, 2),),
        "empty": (),
        "broken": (),
        "typo": (Instance("jump", 1, 2),),
        "Fine": (Instance("Jump", 1, 2),),
        "fine": (Instance("Jump", 1, 2),),
        "bare": (),
        "line\nbreak": (Instance("Jump", 1, 2),),
    }
    assert {p.kind for p in problems(load_records(out))} == {"similar labels", "ids differ by case", "no instances"}
    assert corrected(load_records(out)) == (dataset, [])


def test_tables_and_folders_are_named_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("video,start,end,label,duration\na,1,2,J,5\na,4,6,J,5\nb,1\n")
    out = tmp_path / "b.csv"
    assert validate(ValidateOptions(str(path), fix=out)) == 1
    printed = capsys.readouterr().out
    assert "line 3: 'J' [4, 6] of 'a' ends after the end of the video (5 s)" in printed
    assert "line 4: has 2 cells under a header of 5" in printed
    assert read_annotations(out).videos["a"].instances == (Instance("J", 1, 2), Instance("J", 4, 5))
    assert validate(ValidateOptions(str(out))) == 0
    with pytest.raises(UserError, match="is the input file"):
        validate(ValidateOptions(str(path), fix=path))


def test_what_is_said_twice_is_said_once_in_the_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "a.csv", tmp_path / "a folder of its own" / "b.csv"
    path.write_text("video,start,end,label,duration\na,1,2,J,5\na,3,4,J,7\n")
    assert validate(ValidateOptions(str(path), fix=out)) == 1
    printed = capsys.readouterr().out
    assert "line 3: unreadable and removed: contradicts line 2 on video 'a'" in printed
    assert read_annotations(out).videos["a"].instances == (Instance("J", 1, 2), Instance("J", 3, 4))
    assert read_annotations(out).videos["a"].duration == 5


def test_only_the_first_of_many_are_shown_unless_all_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "many.json"
    path.write_text(
        json.dumps({"database": {"a": entry(*[[i, i] for i in range(1, 10)], *[[0, n / 9] for n in range(10, 30)])}})
    )
    assert validate(ValidateOptions(str(path))) == 1
    assert "no length: 9\n" in capsys.readouterr().out
    path.write_text(json.dumps({"database": {"a": entry(*[[i / 9, i / 9] for i in range(25)])}}))
    validate(ValidateOptions(str(path)))
    assert "... and 15 more (--all shows them)" in capsys.readouterr().out
    validate(ValidateOptions(str(path), all=True))
    printed = capsys.readouterr().out
    assert "annotations[24]" in printed
    assert "more" not in printed


def test_the_command_line(faulty: Path) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ssn_feat.annotations", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    assert call("validate", str(faulty)).returncode == 1
    missing = call("validate", str(faulty) + ".csv")
    assert (missing.returncode, missing.stderr.splitlines()) == (
        2,
        [f"error: there are no annotations at {faulty}.csv"],
    )
    assert call().returncode == 2
    assert "usage: python -m ssn_feat.annotations COMMAND [options]" in call("--help").stdout
    assert (
        "usage: python -m ssn_feat.annotations validate [FILE.yaml] [OPTIONS] ANNOTATIONS"
        in call("validate", "--help").stdout
    )


def test_ids_are_compared_with_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "a.csv"
    rows = "".join(f"videos/{name}.mp4,0,1,run,9\n" for name in ("x", "y", "lost"))
    spec.write_text(f"video,start,end,label,duration\n{rows}")
    for name in ("x.mp4", "y.avi", "other.mp4", "data.bin"):
        (tmp_path / "videos" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "videos" / name).touch()
    videos = tmp_path / "videos"
    assert validate(ValidateOptions(str(spec), videos=videos)) == 1
    printed = capsys.readouterr().out
    assert f"{videos}: 2 of 3 annotated videos have a file\n" in printed
    assert "without their folder and their ending: 'videos/x.mp4' is 'x' (2 videos)\n" in printed
    assert "  1 file left out: data.bin\n  missing: 1: videos/lost.mp4\n  not annotated: 1: other\n" in printed
    (videos / "lost.mp4").touch()
    assert validate(ValidateOptions(str(spec), videos=videos)) == 0
    assert "missing" not in capsys.readouterr().out


def test_real_files(shared: Path) -> None:
    records = load_records(shared / "data/annotations/activitynet/activity_net.v1-3.rebuilt.min.json")
    kinds = [p.kind for p in problems(records)]
    assert {k: kinds.count(k) for k in kinds} == {
        "ends past the end": 1731, "starts past the end": 1, "no length": 12, "duplicate": 49
    }  # fmt: skip
    dataset, changes = corrected(records)
    assert len(changes) == len({c.split(": ")[0] for c in changes})  # at most one change an instance
    assert sum(len(v.instances) for v in dataset.videos.values()) < len(records.instances)


numbers = st.sampled_from([-1, 0, 1, 2.5, 9, 10, 11, None, "x"])


@given(st.lists(st.tuples(numbers, numbers, st.sampled_from(["a", "b", "B", 3])), max_size=6), numbers)
def test_whatever_is_mended_has_nothing_left_to_mend(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], duration: Any
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "any.json"
    annotations = [{"segment": [a, b], "label": label} for a, b, label in rows]
    path.write_text(json.dumps({"database": {"v": {"duration": duration, "annotations": annotations}}}))
    out = path.with_name("mended.json")
    validate(ValidateOptions(str(path), fix=out))
    if duration in (-1, 0, None, "x"):
        return  # nothing could be saved
    assert corrected(load_records(out))[1] == []
    assert {p.kind for p in problems(load_records(out))} <= {"similar labels", "no instances"}


def test_a_class_that_is_not_text_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"database": {"v": entry([1, 2], label="jump\ud800"), "w": entry([1, 2])}}))
    [problem] = [p for p in problems(load_records(path)) if p.kind == "text"]
    assert str(problem).startswith(r"database.v.annotations[0]: the class 'jump\ud800' holds half of a surrogate pair")
    with pytest.raises(UserError, match=r"the class 'jump\\ud800' holds half"):
        read_annotations(path)


def test_a_video_in_two_subsets_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    database = {"v": entry([1, 2]), "v.mp4": {**entry([1, 2]), "subset": "testing"}, "w": entry([1, 2])}
    path.write_text(json.dumps({"database": database}))
    [problem] = [p for p in problems(load_records(path)) if p.kind == "in two subsets"]
    assert problem.what == "video 'v.mp4' (testing) may be 'v' (training, database.v)"
    folder = tmp_path / "thumos14"
    folder.mkdir()
    for part in ("test", "validation"):
        (folder / f"{part}_durations.txt").write_text("video_1.mp4\n10.0\n")
    [problem] = [p for p in problems(load_records(f"thumos14:{folder}")) if p.kind == "in two subsets"]
    assert "video 'video_1' (testing) is (validation" in problem.what
