"""Files are found by id; what annotations name and what is there are compared."""

import json
from pathlib import Path

import pytest

from ssn_feat.errors import UserError
from ssn_feat.extraction.video_files import find_videos, list_video_files


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


def test_folder_is_searched_with_its_subfolders(folder: Path) -> None:
    found = find_videos(folder)
    assert found == {"a": folder / "sub/a.WEBM", "b": folder / "b.mp4", "c.d": folder / "sub/c.d.avi"}
    assert list(found) == ["a", "b", "c.d"]


def test_one_file_and_a_list_of_files(folder: Path) -> None:
    assert find_videos(folder / "b.mp4") == {"b": folder / "b.mp4"}
    listed = folder / "list.txt"
    listed.write_text("b.mp4\n\nsub/a.WEBM\n")
    assert list(find_videos(listed)) == ["a", "b"]


def test_two_files_of_one_id(folder: Path) -> None:
    (folder / "sub/b.mkv").touch()
    with pytest.raises(UserError, match=r"two videos have the id 'b': .*b\.mp4 and .*b\.mkv"):
        find_videos(folder)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder or file of videos at"):
        find_videos(tmp_path / "none")
    with pytest.raises(UserError, match="no videos in"):
        find_videos(tmp_path)


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


def test_prefix_of_file_names(tmp_path: Path) -> None:
    (tmp_path / "v_abc.mp4").touch()
    spec = annotations(tmp_path / "anet.json", "abc", "def")
    with pytest.raises(UserError, match=r"none of the 2 videos .*'v_abc'.*'abc'; --prefix v_ makes them match"):
        list_video_files(tmp_path, spec)
    assert list(list_video_files(tmp_path, spec, prefix="v_").videos) == ["abc"]
