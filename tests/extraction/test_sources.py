"""The record of a source describes the bytes that were decoded, also where the file changes meanwhile."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from small import options, pictures, videos, write

from ssn_feat.backbones import load_backbone
from ssn_feat.errors import UserError
from ssn_feat.extraction import extract, extract_video
from ssn_feat.extraction.extract_video import ExtractedVideo
from ssn_feat.extraction.sources import OpenSource, source_sha256
from ssn_feat.store import open_store
from ssn_feat.store.sources import size_and_time
from ssn_feat.video import SnippetOptions, import_cv2


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return videos(tmp_path / "videos", count=1) / "v0.avi"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return write(tmp_path / "other.avi", pictures(24, seed=9))


def extracted(path: Path, during: Callable[[], object] = lambda: None, fps: float | None = None) -> ExtractedVideo:
    """The features of a video; ``during`` is called once after the first batch."""
    todo = [during]

    def on_rows(_: int) -> None:
        if todo:
            todo.pop()()

    backbones = {"rgb": load_backbone("tiny:net", "rgb")}
    cut = SnippetOptions(streams=("rgb",), stride=4)
    return extract_video(path, backbones, cut, batch=2, fps=fps, on_rows=on_rows)


def renamed_over(film: Path, other: Path) -> None:
    os.replace(other, film)


def rewritten_in_place(film: Path, other: Path) -> None:
    film.write_bytes(other.read_bytes())


def rewritten_with_the_same_size_and_time(film: Path, other: Path) -> None:
    status = film.stat()
    film.write_bytes(other.read_bytes().ljust(status.st_size, b"\0")[: status.st_size])
    os.utime(film, ns=(status.st_atime_ns, status.st_mtime_ns))


def exchanged_and_restored(film: Path, other: Path) -> None:
    kept = film.with_suffix(".kept")
    os.rename(film, kept)
    os.rename(other, film)
    os.replace(kept, film)


def removed(film: Path, other: Path) -> None:
    film.unlink()


def appended(film: Path, other: Path) -> None:
    with film.open("ab") as file:
        file.write(b"more")


CHANGES = [
    renamed_over,
    rewritten_in_place,
    rewritten_with_the_same_size_and_time,
    exchanged_and_restored,
    removed,
    appended,
]


def test_record_of_a_file(film: Path) -> None:
    status = film.stat()
    expected = {
        "name": "v0.avi",
        "bytes": status.st_size,
        "modified": status.st_mtime,
        "sha256": hashlib.sha256(film.read_bytes()).hexdigest(),
    }
    assert extracted(film).info["source"] == expected
    assert (size_and_time(film), source_sha256(film)) == ((status.st_size, status.st_mtime), expected["sha256"])


@pytest.mark.parametrize("change", CHANGES)
def test_file_that_changes_while_it_is_decoded_is_refused(
    film: Path, other: Path, change: Callable[[Path, Path], None]
) -> None:
    with pytest.raises(UserError, match=r"v0\.avi changed while it was read: run the same command again"):
        extracted(film, lambda: change(film, other))


def test_error_that_a_change_explains_names_the_change(film: Path) -> None:
    def spoil() -> None:
        film.write_bytes(b"x")
        raise UserError("a frame cannot be decoded")

    with pytest.raises(UserError, match="changed while it was read"):
        extracted(film, spoil)


def test_video_that_changed_is_a_failure_and_extracted_by_the_next_run(
    film: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = OpenSource.record

    def replace_first(source: OpenSource) -> dict[str, object]:
        if other.exists():
            os.replace(other, film)
        return record(source)

    monkeypatch.setattr(OpenSource, "record", replace_first)
    report = extract(options(film.parent, tmp_path / "s.zarr"))
    assert report.exit_code == 2
    assert report.failures["v0"].endswith("v0.avi changed while it was read: run the same command again")
    assert extract(options(film.parent, tmp_path / "s.zarr")).exit_code == 0
    assert open_store(tmp_path / "s.zarr").attributes("v0")["source"]["sha256"] == source_sha256(film)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(pictures(12)):
        import_cv2().imwrite(str(folder / f"img_{number:05d}.jpg"), image)
    (folder / "again").symlink_to(".")  # a link to its own folder
    (folder / "gone").symlink_to("nothing")
    return folder


def test_record_of_a_folder_of_images(images: Path) -> None:
    files = sorted(images.glob("*.jpg"))
    lines = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    record = extracted(images, fps=10.0).info["source"]
    assert record["sha256"] == hashlib.sha256(lines.encode()).hexdigest() == source_sha256(images)
    assert (record["bytes"], record["modified"]) == size_and_time(images)
    assert record["bytes"] == sum(file.stat().st_size for file in files)


@pytest.mark.parametrize("change", ["rewritten", "replaced", "added", "removed"])
def test_folder_that_changes_while_it_is_decoded_is_refused(images: Path, tmp_path: Path, change: str) -> None:
    image, new = images / "img_00001.jpg", tmp_path / "new.jpg"
    import_cv2().imwrite(str(new), pictures(1, seed=7)[0])
    changes: dict[str, Callable[[], object]] = {
        "rewritten": lambda: image.write_bytes(new.read_bytes()),
        "replaced": lambda: os.replace(new, image),
        "added": lambda: os.replace(new, images / "img_00012.jpg"),
        "removed": (images / "img_00000.jpg").unlink,
    }
    with pytest.raises(UserError, match="images changed while it was read"):
        extracted(images, changes[change], fps=10.0)


def test_pipe_is_not_a_video(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "v.mp4")  # opening it would wait for a writer
    report = extract(options(tmp_path, tmp_path / "s.zarr"))
    assert report.failures["v"].endswith("v.mp4 is not a file")
