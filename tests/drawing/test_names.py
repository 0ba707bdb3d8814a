"""Names that tell files and folders apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssn_feat.drawing.names import short_names
from ssn_feat.errors import UserError


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (("a/found.json",), ["found"]),
        (("a/found.json", "a/rgb.json"), ["found", "rgb"]),
        (("a/tag.npz", "a/tag.txt"), ["tag.npz", "tag.txt"]),
        (("a/tag.npz", "b/tag.npz", "b/rgb.npz"), ["a/tag", "b/tag", "b/rgb"]),
        (("x/a/tag.npz", "y/a/tag.npz"), ["x/a/tag", "y/a/tag"]),
        (("a/sliding.npz",), ["sliding.npz"]),
        ((), []),
    ],
)
def test_as_short_as_tells_apart(tmp_path: Path, files: tuple[str, ...], names: list[str]) -> None:
    paths = [tmp_path / file for file in files]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert short_names(paths, taken=("sliding", "sliding", "random")) == names


def test_folders_have_no_endings(tmp_path: Path) -> None:
    paths = [tmp_path / "lr0.1", tmp_path / "lr0.2"]
    for path in paths:
        path.mkdir()
    assert short_names(paths) == ["lr0.1", "lr0.2"]


def test_what_is_named_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"a\.json is named twice"):
        short_names([tmp_path / "a.json", Path("b.json"), Path("a.json")])
