"""What README and docs/ point to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT

from ssn_feat import commands

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    lost = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert lost == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_scripts_and_commands_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    scripts = set(re.findall(r"\b((?:bench|extract|train)/\w+\.py)\b", text))
    assert {script for script in scripts if not (ROOT / script).is_file()} == set()
    assert set(re.findall(r"^\s+ssn-feat (\w+)", text, re.MULTILINE)) <= set(commands.COMMANDS.commands)
    targets = set(re.findall(r"^    make ([a-z ]+?)(?:\s{2,}.*)?$", text, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{t}:", makefile, re.MULTILINE) for line in targets for t in line.split())
