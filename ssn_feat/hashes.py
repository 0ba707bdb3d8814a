"""Folders whose files are checked when they are read: ``hashes.json`` of the folder holds the SHA-256 of each file.

A file is replaced in two atomic steps: first the hash of the new content is added to that of the old content in
``hashes.json``, then the file is renamed into place. A process that is killed between them leaves a file whose hash is
recorded. Files that ``hashes.json`` does not list, and folders without it (as of version 0.1), are read unchecked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from ssn_feat.errors import UserError
from ssn_feat.files import file_sha256, replacing, write_text

HASHES = "hashes.json"
T = TypeVar("T")
# A file that is replaced while it is read is read again.
_ATTEMPTS = 4


class HashedFolder:
    """A folder to write; :func:`read_checked` and :func:`check_files` read it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: dict[str, str] = {}

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """As :func:`ssn_feat.files.replacing`, and record the hash of the file ``name``."""
        path = self.path / name
        with replacing(path) as part:
            yield part
            digest = file_sha256(part)
            # Of files that an earlier process wrote, which may have been killed between the two steps, all hashes stay.
            recorded = recorded_hashes(self.path) | {file: [known] for file, known in self._written.items()}
            before = recorded.get(name) or ([file_sha256(path)] if path.exists() else [])
            self._record({**recorded, name: list(dict.fromkeys([digest, *before]))})
        self._written[name] = digest

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Write the file ``name`` and record its hash. Raises UserError if it cannot be written."""
        with self.replacing(name) as part:
            part.write_bytes(content)

    def forget(self, names: Collection[str]) -> None:
        """Remove files and their hashes. Raises OSError if one cannot be removed."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)
            self._written.pop(name, None)
        recorded = recorded_hashes(self.path)
        if kept := {name: known for name, known in recorded.items() if name not in names}:
            self._record(kept)
        else:
            (self.path / HASHES).unlink(missing_ok=True)

    def _record(self, recorded: Mapping[str, list[str]]) -> None:
        content = {"files": recorded, "sha256": _digest_of(recorded)}
        write_text(self.path / HASHES, json.dumps(content, indent=1) + "\n")


def _digest_of(recorded: Mapping[str, list[str]]) -> str:
    return hashlib.sha256(json.dumps(recorded, sort_keys=True).encode()).hexdigest()


def recorded_hashes(folder: Path) -> dict[str, list[str]]:
    """The hashes of each file that ``hashes.json`` of the folder lists; empty without ``hashes.json``.

    Raises UserError if it is damaged.
    """
    path = folder / HASHES
    try:
        content = json.loads(path.read_bytes())
        recorded: dict[str, list[str]] = content["files"]
        if content["sha256"] != _digest_of(recorded):
            raise ValueError
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except Exception:  # any JSON
        raise UserError(
            f"{path} is damaged: restore it from a copy, or delete it to use the files of {folder} unchecked"
        ) from None
    return recorded


def read_checked(path: Path) -> bytes:
    """The content of a file. Raises UserError if its hash is not the recorded one, OSError if it cannot be read."""

    def read() -> tuple[bytes, str]:
        content = path.read_bytes()
        return content, hashlib.sha256(content).hexdigest()

    return _checked(path, read)


def check_files(folder: Path) -> None:
    """Raise UserError if a file of the folder has another hash than the recorded one. Missing files are not errors."""
    for name in recorded_hashes(folder):
        path = folder / name
        try:
            _checked(path, partial(_only_hash, path))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from None


def _only_hash(path: Path) -> tuple[None, str]:
    return None, file_sha256(path)


def _checked(path: Path, read: Callable[[], tuple[T, str]]) -> T:
    """What ``read`` returns with the hash of the file, which must be a recorded one."""
    before = ""
    for _ in range(_ATTEMPTS):
        # The file is read before the record, which a writer changes before the file.
        content, digest = read()
        recorded = recorded_hashes(path.parent).get(path.name)
        if recorded is None or digest in recorded:
            return content
        if digest == before:
            break
        before = digest
    raise UserError(
        f"{path} is damaged or was changed: its SHA-256 is not the one in {HASHES}. Restore it from a copy, or write "
        f"it again; if you changed it on purpose, delete {path.with_name(HASHES)} to use the files of this folder "
        "unchecked"
    )


__all__ = ["HASHES", "HashedFolder", "check_files", "read_checked", "recorded_hashes"]
