"""Videos are found by id; what is not a video is named, and playlists are never opened."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from films import pictures, write, write_audio

from ssn_feat.errors import UserError
from ssn_feat.video import ImageNames
from ssn_feat.video.find_videos import find_videos

PLAYLISTS = {
    "list.m3u8": "#EXTM3U\n#EXTINF:4,\na.mp4\n",
    "list.ffconcat": "ffconcat version 1.0\nfile a.mp4\n",
    "list.mpd": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>\n',
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    videos = tmp_path / "videos"
    for name in ["b.mp4", "sub/a.WEBM", "sub/c.d.avi", "notes.txt", ".hidden.mp4", "picture.jpg"]:
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        (videos / name).touch()
    return videos


def test_folder_is_searched_with_its_subfolders(folder: Path) -> None:
    found = find_videos(folder)
    assert found.videos == {"a": folder / "sub/a.WEBM", "b": folder / "b.mp4", "c.d": folder / "sub/c.d.avi"}
    assert list(found.videos) == ["a", "b", "c.d"]
    assert found.left_out == ()


def test_one_file_and_a_list_of_files(folder: Path) -> None:
    assert find_videos(folder / "b.mp4").videos == {"b": folder / "b.mp4"}
    listed = folder / "list.txt"
    listed.write_text("b.mp4\n\nsub/a.WEBM\n")
    assert list(find_videos(listed).videos) == ["a", "b"]
    assert list(find_videos(listed, ids="path").videos) == ["b", "sub/a"]
    listed.write_bytes(b"b\xff.mp4\n")
    with pytest.raises(UserError, match=r"list\.txt is not UTF-8 text: byte 1 is 0xff"):
        find_videos(listed)


def test_ids_are_the_stem_or_the_path_below_the_folder(folder: Path) -> None:
    (folder / "sub/b.mkv").touch()
    with pytest.raises(UserError, match=r"two videos have the id 'b': .*b\.mp4 and .*b\.mkv; --ids path .* id,path"):
        find_videos(folder)
    assert list(find_videos(folder, ids="path").videos) == ["b", "sub/a", "sub/b", "sub/c.d"]
    assert list(find_videos(folder, "c.", ids="path").videos) == ["b", "sub/a", "sub/b", "sub/d"]
    (folder / "sub/b.mp4").touch()
    with pytest.raises(UserError, match=r"two videos have the id 'sub/b'"):
        find_videos(folder, ids="path")
    outside = folder / "sub/list.txt"
    outside.write_text("../b.mp4\n")
    with pytest.raises(UserError, match=r"b\.mp4 is not below .*sub, so --ids path gives it no id"):
        find_videos(outside, ids="path")


@pytest.mark.parametrize("head", ["", "id,path\n", "ID, Path\n"])
def test_list_of_ids_and_paths(folder: Path, head: str) -> None:
    listed = folder / "list.csv"
    listed.write_text(f'{head}day 1,b.mp4\n\n"v_x,y", sub/a.WEBM\n')
    assert find_videos(listed, "v_").videos == {"day 1": folder / "b.mp4", "v_x,y": folder / "sub/a.WEBM"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,path\nx,b.mp4,3\n", "line 2: 'x,b.mp4,3' is not id,path"),
        ("b.mp4\n", "line 1: 'b.mp4' is not id,path"),
        ("x,\n", "line 1: 'x,' is not id,path"),
        ("x,b.mp4\nx,sub/a.WEBM\n", "line 2: the id 'x' occurs twice"),
        ('x,"b.mp4\n', "list.csv line"),
        ("", "no videos in"),
    ],
)
def test_faults_of_a_list_are_named_by_line(folder: Path, text: str, message: str) -> None:
    (folder / "list.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        find_videos(folder / "list.csv")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder or file of videos at"):
        find_videos(tmp_path / "none")
    with pytest.raises(UserError, match="no videos in"):
        find_videos(tmp_path)
    (tmp_path / "frame_0001.jpg").touch()
    (tmp_path / "data.bin").write_bytes(bytes(100))
    with pytest.raises(UserError, match=r"images named img_00001\.jpg \(--frames .*; 1 file left out: data\.bin"):
        find_videos(tmp_path)


def test_unknown_endings_are_tried_by_content(tmp_path: Path) -> None:
    film = write(tmp_path / "a.avi", pictures(8))
    rng = np.random.default_rng(0)
    for name in ("b.xyz", "no_ending", "sub/c.cam1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(film.read_bytes())
    _gif(tmp_path / "moving.gif", 5)
    _gif(tmp_path / "still.gif", 1)
    (tmp_path / "noise.bin").write_bytes(rng.bytes(40000))
    (tmp_path / "text.log2").write_text("frame 1\n" * 2000)
    (tmp_path / "empty.dat").touch()
    (tmp_path / "sub/image.raw2").write_bytes(cv2.imencode(".png", pictures(1)[0])[1].tobytes())
    (tmp_path / "part.mp4.part").write_bytes(film.read_bytes())
    (tmp_path / "gone.link").symlink_to(tmp_path / "nowhere")
    write_audio(tmp_path / "sound.mp4").rename(tmp_path / "sound.snd2")
    found = find_videos(tmp_path)
    assert list(found.videos) == ["a", "b", "c", "moving", "no_ending"]
    assert found.left_out == (
        *("empty.dat", "gone.link", "noise.bin", "part.mp4.part", "sound.snd2", "still.gif", "sub/image.raw2"),
        "text.log2",
    )


def _gif(path: Path, count: int) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("gif", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8"
        for image in pictures(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format="rgb8")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("name", PLAYLISTS)
@pytest.mark.parametrize("ending", [None, ".mp4", ".unknown"])
def test_playlists_are_not_opened(tmp_path: Path, name: str, ending: str | None) -> None:
    film = write(tmp_path / "a.mp4", pictures(8))
    path = tmp_path / (name if ending is None else f"list{ending}")
    path.write_text(PLAYLISTS[name])
    with pytest.raises(UserError, match=rf"{path.name} is a (playlist|DASH manifest), which only names"):
        find_videos(path)
    (tmp_path / "list.csv").write_text(f"x,{path.name}\n")
    with pytest.raises(UserError, match="which only names other files"):
        find_videos(tmp_path / "list.csv")
    if ending != ".mp4":
        found = find_videos(tmp_path)
        assert (found.videos, found.left_out) == ({"a": film}, (path.name,))


def test_links_are_followed_and_loops_skipped(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "videos", tmp_path / "elsewhere"
    for path in (root / "day1/a.mp4", elsewhere / "b.mp4", elsewhere / "frames/img_00001.jpg"):
        path.parent.mkdir(parents=True)
        path.touch()
    (root / "day1/up").symlink_to(root)
    (root / "day1/self").symlink_to(root / "day1")
    (root / "another").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root)
    (root / "c.mp4").symlink_to(elsewhere / "b.mp4")
    assert find_videos(root).videos == {
        "a": root / "day1/a.mp4",
        "b": root / "another/b.mp4",
        "c": root / "c.mp4",
        "frames": root / "another/frames",
    }
    assert list(find_videos(root, ids="path").videos) == ["another/b", "another/frames", "c", "day1/a"]


@pytest.mark.parametrize(
    ("template", "file"),
    [("frame_{:010d}.jpg", "frame_0000000007.jpg"), ("rgb/%06d", "rgb/000000.png"), ("{}.tif", "12.TIF")],
)
def test_folders_of_images_by_a_template(tmp_path: Path, template: str, file: str) -> None:
    for name in ("P01/x", "P02/y"):
        (tmp_path / name / file).parent.mkdir(parents=True)
        (tmp_path / name / file).touch()
    assert list(find_videos(tmp_path, names=ImageNames(template)).videos) == ["x", "y"]
    assert list(find_videos(tmp_path, ids="path", names=ImageNames(template)).videos) == ["P01/x", "P02/y"]
    alone = find_videos(tmp_path / "P01/x", ids="path", names=ImageNames(template))
    assert alone.videos == {"x": tmp_path / "P01/x"}
    with pytest.raises(UserError, match="no videos in"):
        find_videos(tmp_path)
