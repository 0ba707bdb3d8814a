"""The videos that annotations name and the files that are found are compared."""

import json
from pathlib import Path

import pytest

from ssn_feat.errors import UserError
from ssn_feat.extraction.video_files import list_video_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    videos = tmp_path / "videos"
    for name in ["b.mp4", "sub/a.WEBM", "sub/c.d.avi", "notes.txt", ".hidden.mp4", "picture.jpg"]:
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        (videos / name).touch()
    return videos


def annotations(path: Path, *ids: str) -> str:
    segment = [{"label": "run", "segment": [0.0, 1.0]}]
    subsets = ["training", "validation"]
    database = {i: {"duration": 9.0, "subset": subsets[n % 2], "annotations": segment} for n, i in enumerate(ids)}
    path.write_text(json.dumps({"database": database}))
    return str(path)


def test_coverage(folder: Path) -> None:
    found = list_video_files(folder, annotations(folder / "toy.json", "a", "b", "x", "y"))
    assert list(found.videos) == ["a", "b"]
    assert found.missing == ("x", "y")
    assert found.others == ("c.d",)
    assert found.expected == 4
    only = list_video_files(folder, str(folder / "toy.json"), subsets=["training"], name="other")
    assert (list(only.videos), only.missing, only.expected, only.name) == (["a"], ("x",), 2, "other")
    assert list_video_files(folder).expected is None
    assert list_video_files(folder).name == "videos"


def test_prefix_of_file_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "v_abc.mp4").touch()
    spec = annotations(tmp_path / "anet.json", "abc", "def")
    assert list(list_video_files(tmp_path, spec, prefix="v_").videos) == ["abc"]
    assert not capsys.readouterr().err
    matched = list_video_files(tmp_path, spec)
    assert (list(matched.videos), matched.missing) == (["v_abc"], ("def",))
    assert "match those of the files in" in capsys.readouterr().err


@pytest.mark.parametrize("written", ["base.mp4", "videos/base.mp4", "v_base", " base "])
def test_ids_of_annotations_are_matched_with_the_files(
    tmp_path: Path, written: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("base.mp4", "other.mp4"):
        (tmp_path / name).touch()
    found = list_video_files(tmp_path, annotations(tmp_path / "a.json", written, "lost"))
    assert (list(found.videos), found.missing, found.others) == (["base"], ("lost",), ("other",))
    assert f"{written!r} is 'base' (1 video)" in capsys.readouterr().err


def test_no_id_in_common(tmp_path: Path) -> None:
    (tmp_path / "abc.mp4").touch()
    spec = annotations(tmp_path / "a.json", "def")
    with pytest.raises(UserError, match=r"none of the 1 video .* such as 'abc', .* such as 'def'; a \.csv file"):
        list_video_files(tmp_path, spec)


def test_files_that_are_left_out_are_listed(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.dat"):
        (tmp_path / name).touch()
    assert list_video_files(tmp_path).left_out == ("b.dat",)
    assert list_video_files(tmp_path, annotations(tmp_path / "a.json", "a")).left_out == ("b.dat",)
