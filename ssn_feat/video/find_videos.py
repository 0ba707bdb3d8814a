"""Finds the videos of a data set: in a folder, or in a list of files."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssn_feat.errors import UserError
from ssn_feat.files import VIDEO_ENDINGS
from ssn_feat.video.containers import choose_stream, import_av, open_container, playlist_kind, refuse_playlist
from ssn_feat.video.image_folders import ImageNames

IdFrom = Literal["stem", "path"]

# Files with other endings, or with none, are opened to see whether they are videos. These never are.
_NO_VIDEOS = frozenset(
    (
        *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".svg", ".heic", ".ico", ".psd"),
        *(".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg", ".oga", ".opus", ".wma", ".mid"),
        *(".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini", ".log"),
        *(".html", ".htm", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".ppt", ".pptx", ".rtf", ".nfo", ".url", ".lnk"),
        *(".srt", ".vtt", ".ass", ".ssa", ".sub", ".idx", ".eaf", ".textgrid", ".boris", ".pfsx", ".description"),
        *(".npy", ".npz", ".h5", ".hdf5", ".mat", ".pkl", ".pickle", ".pt", ".pth", ".parquet", ".feather", ".lmdb"),
        *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".db", ".sqlite", ".md5", ".sha256"),
        *(".py", ".pyc", ".sh", ".bat", ".ps1", ".m", ".c", ".cpp", ".js", ".css", ".ipynb", ".exe", ".dll", ".so"),
    )
)
# Downloads that have not finished would be cut videos under a wrong id.
_UNFINISHED = frozenset((".part", ".partial", ".crdownload", ".download", ".tmp", ".ytdl", ".aria2"))
# Formats of single images, as FFmpeg names them, and one that fits many files.
_IMAGE_FORMATS = ("_pipe", "image2", "bin")
_PACKETS = 64  # of an unknown file that are read to find two pictures: a file with one is an image


@dataclass(frozen=True)
class FoundVideos:
    """The videos of a folder or a list."""

    videos: dict[str, Path]
    """Path of each video, by id, sorted by id."""
    left_out: tuple[str, ...] = ()
    """Files that are not videos although their endings do not tell, unfinished downloads, and playlists: their paths
    below the folder, sorted."""


def find_videos(where: Path, prefix: str = "", ids: IdFrom = "stem", names: ImageNames | None = None) -> FoundVideos:
    """The videos at ``where``, and the files there that are left out.

    ``where``: a folder, whose subfolders are searched too; a ``.txt`` file with one path per line, or a ``.csv`` file
    with lines ``id,path``, with paths relative to the list; or one video. A folder of images whose frames ``names``
    describes is a video too. The id is the name without its ending and without ``prefix``; with ``ids="path"`` it is
    the path below the folder (or below that of the list), as in ``day1/cam2``. The ids of a ``.csv`` are taken as they
    are. A file of an unknown ending in a folder is a video if FFmpeg can decode two pictures of it.

    Raises UserError if no video is there, two have the same id, or ``where`` is a playlist.
    """
    names = names or ImageNames()
    files: dict[str, Path] = {}
    left_out: list[str] = []
    for video_id, path in _files(where, ids, names, left_out):
        if where.suffix.lower() != ".csv":
            head, slash, name = video_id.rpartition("/")
            video_id = f"{head}{slash}{name.removeprefix(prefix)}"
        if video_id in files:
            raise UserError(
                f"two videos have the id {video_id!r}: {files[video_id]} and {path}; --ids path tells files in "
                "different folders apart, and a .csv file with lines id,path as VIDEOS gives every file its id"
            )
        if video_id:
            files[video_id] = path
    left = tuple(sorted(left_out))
    if not files:
        others = f"; {left_out_line(left)}" if left else ""
        raise UserError(
            f"no videos in {where}: it has no file that is a video, and no folder with images named "
            f"{names.example()} (--frames sets their names){others}"
        )
    return FoundVideos(dict(sorted(files.items())), left)


def left_out_line(left_out: tuple[str, ...], named: int = 20) -> str:
    """``3 files left out: a.bin, b.m3u8, c.part``"""
    more = f", ... ({len(left_out)})" if len(left_out) > named else ""
    return f"{len(left_out)} file{'s' * (len(left_out) > 1)} left out: {', '.join(left_out[:named])}{more}"


def _files(where: Path, ids: IdFrom, names: ImageNames, left_out: list[str]) -> Iterator[tuple[str, Path]]:
    """Id and path of each video; what is left out is added to ``left_out``."""
    if where.is_dir():
        for path in sorted(_in_folder(where, names, left_out)):
            yield _id_of(path, where, ids), path
    elif where.is_file() and where.suffix.lower() in (".txt", ".csv"):
        yield from _listed(where, ids)
    elif where.is_file():
        refuse_playlist(where)
        yield where.stem, where
    else:
        raise UserError(f"there is no folder or file of videos at {where}")


def _id_of(path: Path, folder: Path, ids: IdFrom) -> str:
    name = path.name if path.is_dir() else path.stem
    if ids == "stem" or path == folder:
        return name
    try:
        below = Path(os.path.normpath(path)).relative_to(os.path.normpath(folder))
        return below.with_name(name).as_posix()
    except ValueError:
        raise UserError(
            f"{path} is not below {folder}, so --ids path gives it no id: use a .csv file with lines id,path"
        ) from None


def _in_folder(root: Path, names: ImageNames, left_out: list[str]) -> Iterator[Path]:
    """Videos and folders of images below ``root``. Every folder is visited once, so loops of links end."""
    queue, visited = [root], set()

    def unreadable(error: OSError) -> None:
        left_out.append(Path(error.filename).relative_to(root).as_posix())

    while queue:
        for name, folders, files in os.walk(queue.pop(0), onerror=unreadable):
            folder, real = Path(name), os.path.realpath(name)
            if real in visited:
                folders.clear()
                continue
            visited.add(real)
            if names.in_folder(folder, files):
                folders.clear()
                yield folder
                continue
            queue += [folder / each for each in sorted(folders) if (folder / each).is_symlink()]
            for file in sorted(files):
                path = folder / file
                if file.startswith(".") or path.suffix.lower() in _NO_VIDEOS:
                    continue
                if path.suffix.lower() in VIDEO_ENDINGS or _is_video(path):
                    yield path
                else:
                    left_out.append(path.relative_to(root).as_posix())


def _listed(where: Path, ids: IdFrom) -> Iterator[tuple[str, Path]]:
    """The videos that a ``.txt`` or ``.csv`` file names. Raises UserError with the line that is wrong."""
    try:
        text = where.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read the list of videos {where}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}") from None
    if where.suffix.lower() == ".txt":
        pairs = [("", line.strip()) for line in text.splitlines() if line.strip()]
    else:
        pairs = _rows(where, text)
    for video_id, name in pairs:
        path = where.parent / name
        refuse_playlist(path)
        yield video_id or _id_of(path, where.parent, ids), path


def _rows(where: Path, text: str) -> list[tuple[str, str]]:
    """Id and path of each line of a list."""
    rows: dict[str, str] = {}
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells) or (not rows and [cell.lower() for cell in cells] == ["id", "path"]):
                continue
            if len(cells) != 2 or not all(cells):
                raise UserError(f"{where} line {reader.line_num}: {','.join(cells)!r:.80} is not id,path")
            if cells[0] in rows:
                raise UserError(f"{where} line {reader.line_num}: the id {cells[0]!r} occurs twice")
            rows[cells[0]] = cells[1]
    except csv.Error as error:
        raise UserError(f"{where} line {reader.line_num}: {error}") from None
    return list(rows.items())


def _is_video(path: Path) -> bool:
    """Whether a file with an unknown ending is a video: FFmpeg knows its format and decodes two pictures."""
    if path.suffix.lower() in _UNFINISHED or not os.access(path, os.R_OK) or not path.is_file() or playlist_kind(path):
        return False
    try:
        with closing(open_container(path)) as container:
            if container.format.name.endswith(_IMAGE_FORMATS):
                return False
            pictures = 0
            for _, packet in zip(range(_PACKETS), container.demux(choose_stream(container, path)), strict=False):
                pictures += len(packet.decode())
                if pictures > 1:
                    return True
    except (UserError, import_av().error.FFmpegError, OSError, ValueError):
        pass
    return False


__all__ = ["FoundVideos", "IdFrom", "find_videos", "left_out_line"]
