"""The tour's second half is run as it stands on the page, and prints what the page says."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from shown import commands_of

from ssn_feat import commands
from ssn_feat.store import open_store

TOUR = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
CHAPTER = TOUR.partition("\n## Features of other programs\n")[2]
# What these print is the same on every machine.
EXACT = {"import", "status", "export"}


def shown() -> Iterator[tuple[list[str], list[str]]]:
    """Each command of the chapter, with the lines that the page shows as printed."""
    words = iter(commands_of(CHAPTER))
    for block in re.findall(r"^```console\n(.*?)^```", CHAPTER, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, *printed = part.replace("\\\n", " ").splitlines()
            if not re.match(r"\w+=", line):
                yield next(words), printed


def plain(printed: list[str], exact: bool) -> str:
    """Lines to compare: spaces count as one, and where ``exact`` is not asked for all numbers are the same."""
    lines = (" ".join(line.split()) for line in printed)
    return "".join((line if exact else re.sub(r"[\d.,]*\d", "#", line)) + "\n" for line in lines)


def is_as_shown(told: str, expected: list[str], exact: bool) -> bool:
    """Whether ``told`` is what a page shows, in which ``…`` stands for any lines."""
    parts = re.escape(plain(expected, exact)).split("…\\\n")
    return re.fullmatch("(?:.*\n)*?".join(parts), plain(told.splitlines(), exact)) is not None


def test_features_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (made,) = re.findall(r"^```python\n(.*?)^```", CHAPTER, re.MULTILINE | re.DOTALL)
    exec(compile(made, "docs/tour.md", "exec"), {})
    ran = []
    for words, expected in shown():
        monkeypatch.setattr(sys, "argv", ["ssn-feat", *words])
        with pytest.raises(SystemExit) as ended:
            commands.main()
        printed, errors = capsys.readouterr()
        refused = expected[0].startswith("error: ")
        assert ended.value.code == (2 if refused else 0), errors
        told = errors.splitlines()[-1] + "\n" if refused else printed
        assert is_as_shown(told, expected, words[0] in EXACT), f"{words}:\n{told}"
        ran.append(words[0])
    there, back = open_store("i3d.zarr"), open_store("again.zarr")
    for video in there:
        both = np.concatenate([video.features["rgb"], video.features["flow"]], axis=1)
        np.testing.assert_array_equal(back.read(video.id).features["features"], both)
    assert ran == [
        *("import", "import", "status", "fit", "propose", "fit", "detect", "detections"),
        *("export", "export", "import"),
    ]


def test_what_is_not_as_shown_is_found() -> None:
    shown = ["a  1.5 s", "…", "b 3"]
    assert is_as_shown("a 22 s\nx\ny\nb 4\n", shown, exact=False)
    assert is_as_shown("a 1.5 s\nb 3\n", shown, exact=True)
    for told, exact in (("a 22 s\nb 3\n", True), ("a 1.5 s\nb 3\nc\n", False), ("a 1.5 m\nb 3\n", False)):
        assert not is_as_shown(told, shown, exact)
