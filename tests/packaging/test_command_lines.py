"""Every command line that a page shows is one that its command takes: parsed by the options themselves, never run."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT
from shown import code_of, commands_of

import bench.speed.commands
from ssn_feat import cli, commands
from ssn_feat.cli.options import HELP_FLAGS, SAVE_FLAG, flags_of
from ssn_feat.errors import UserError

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Words that stand for something that the reader puts in.
OPEN = {"…", "...", "PRESET", "PART", "NAME", "TIME-BASE", "import|export", "ssn|actionness", "COMMAND"}
# Options of other programs that pages speak of.
FOREIGN = {
    "--array", "--max-restarts", "--minutes", "--nproc-per-node", "--nthreads", "--nworkers", "--partition", "--rounds",
    "--signal", "--standalone", "--strict", "--time", "--upgrade", "--upgrade-strategy", "--version",
}  # fmt: skip


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


GROUP = cli.Group("", {**commands.COMMANDS.commands, "speed": cli.Group("", bench.speed.commands.PARTS)})


def fault(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What is wrong with a command, or nothing. Of one that is not shown whole only names of options are looked at."""
    named = list(itertools.takewhile(lambda word: word not in OPEN, words))
    try:
        if any(named == name.split()[: len(named)] for name, _ in GROUP.leaves()):
            return ""  # a command or a group that a sentence names
        command, arguments, prog = cli.choose(GROUP, words, "ssn-feat")
    except UserError as error:
        return str(error)
    known = {*flags_of(command.options, command.fixed), SAVE_FLAG, *HELP_FLAGS}
    if lost := {word.partition("=")[0] for word in arguments if word.startswith("--")} - known:
        return f"no options {lost}"
    saved = arguments[0].endswith(".yaml")
    if not saved and not OPEN.intersection(arguments) and not set(HELP_FLAGS).intersection(arguments):
        try:
            cli.parse(command, arguments, prog)
        except (SystemExit, UserError) as error:
            return f"{error}: {' '.join(re.sub('[─│╭╮╰╯]', '', capsys.readouterr().err).split())}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_take_what_pages_give_them(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = commands_of(page.read_text(encoding="utf-8"))
    wrong = {shlex.join(words): fault(words, capsys) for words in shown}
    assert {words: what for words, what in wrong.items() if what} == {}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("python train/fit.py head ssn small --storr f.zarr …", "no options {'--storr'}"),
        ("python train/fit.py head ssn small --store f.zarr --annotations a.json", "--out"),
        ("python train/fit.py small --store f.zarr …", "write: ssn-feat fit head ssn small"),
        ("ssn-feat extract videos f.zarr --flow-method sparse", "invalid choice"),
        ("sbatch --nodes=2 docs/slurm/fit.sh thumos14 --store f.zarr", "--videos"),
        ("python extract/run.py videos f.zarr --stride 0", "stride"),
        ("ssn-feat teach", "no command"),
    ],
)
def test_what_is_wrong_is_found(line: str, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    (words,) = commands_of(f"    {line}\n")
    assert what.casefold() in fault(words, capsys).casefold()


def test_commands_are_found_on_pages() -> None:
    shown = {name_of(page): commands_of(page.read_text(encoding="utf-8")) for page in PAGES}
    assert len(shown["README.md"]) > 20
    assert ["detect", "video", "another.mp4", "--model", "model"] in shown["README.md"]
    assert any(words[:4] == ["fit", "head", "ssn", "small"] and "rgb" in words for words in shown["README.md"])
    assert {words[0] for page in shown.values() for words in page} >= set(GROUP.commands)


def test_options_that_pages_speak_of_exist() -> None:
    options = [cli.choose(GROUP, name.split(), "")[0].options for name, _ in GROUP.leaves()]
    known = {SAVE_FLAG, *HELP_FLAGS, *FOREIGN}.union(*map(flags_of, options))
    lost = {}
    for page in PAGES:
        _, sentences = code_of(page.read_text(encoding="utf-8"))
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", "\n".join(sentences)))
        if unknown := named - known:
            lost[name_of(page)] = unknown
    assert lost == {}
