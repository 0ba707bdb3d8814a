"""Every command line that a page shows is one that its command takes: parsed by the options themselves, never run."""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
import typing
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from shown import code_of, commands_of

import bench.speed.commands
from ssn_feat import cli, commands

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Words that stand for something that the reader puts in.
OPEN = {"…", "...", "PRESET", "PART", "NAME", "TIME-BASE", "import|export"}
FIRST = {"original": "import", "speed": "fit", "annotations": "validate"}
# Options of other programs that pages speak of.
FOREIGN = {
    "--array", "--max-restarts", "--minutes", "--nproc-per-node", "--nthreads", "--nworkers", "--partition", "--rounds",
    "--signal", "--standalone", "--strict", "--time", "--upgrade", "--upgrade-strategy", "--version",
}  # fmt: skip


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


class Picked(Exception):
    """Carries the command that was picked and the arguments that are left for its options."""


Pick = Callable[[list[str]], tuple[cli.Command, list[str]]]


@pytest.fixture
def pick(monkeypatch: pytest.MonkeyPatch) -> Pick:
    """``pick(words)``: what ``ssn-feat`` would call with these words, and its arguments."""

    def stop(choose: Callable[[list[str]], cli.Command]) -> None:
        arguments = sys.argv[1:]
        raise Picked(choose(arguments), arguments)

    def picked(words: list[str]) -> tuple[cli.Command, list[str]]:
        measured = words[0] == "speed"  # a script of the repository, which is not installed
        monkeypatch.setattr(sys, "argv", ["speed.py", *words[1:]] if measured else ["ssn-feat", *words])
        with pytest.raises(Picked) as caught:
            (bench.speed.commands if measured else commands).main()
        return caught.value.args[0], caught.value.args[1]

    monkeypatch.setattr(cli, "_execute", stop)
    return picked


def flags_of(options: type) -> set[str]:
    """Every option that fields of ``options`` make, also those of the options inside it."""
    flags = {cli.SAVE_FLAG, "--help"}
    hints = typing.get_type_hints(options)
    for each in dataclasses.fields(options):
        if dataclasses.is_dataclass(hints[each.name]):
            flags |= flags_of(typing.cast(type, hints[each.name]))
        else:
            name = each.name.replace("_", "-")
            flags |= {f"--{name}", f"--no-{name}"} if hints[each.name] is bool else {f"--{name}"}
    return flags


def fault(words: list[str], pick: Pick, capsys: pytest.CaptureFixture[str]) -> str:
    """What is wrong with a command, or nothing. Of one that is not shown whole only names of options are looked at."""
    name, *rest = words
    if name in OPEN or not rest:
        return "" if name in OPEN | {"speed", *commands.COMMANDS} else "no such command"
    saved = bool(rest) and rest[0].endswith(".yaml")
    whole = not saved and not OPEN & set(rest)
    first = [FIRST[name]] if name in FIRST and rest[0] in OPEN else []
    command, arguments = pick([name, *first, *rest[len(first) + saved :]])
    if lost := {word.partition("=")[0] for word in arguments if word.startswith("--")} - flags_of(command.options):
        return f"no options {lost}"
    if whole and "--help" not in arguments:
        try:
            cli.parse(command.options, arguments, command.presets)
        except (SystemExit, cli.UserError) as error:
            return f"{error}: {' '.join(re.sub('[─│╭╮╰╯]', '', capsys.readouterr().err).split())}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_take_what_pages_give_them(page: Path, pick: Pick, capsys: pytest.CaptureFixture[str]) -> None:
    shown = commands_of(page.read_text(encoding="utf-8"))
    wrong = {shlex.join(words): fault(words, pick, capsys) for words in shown}
    assert {words: what for words, what in wrong.items() if what} == {}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("python train/fit.py small --storr f.zarr …", "no options {'--storr'}"),
        ("python train/fit.py small --store f.zarr --annotations a.json", "--out"),
        ("ssn-feat extract videos f.zarr --flow-method sparse", "invalid choice"),
        ("sbatch --nodes=2 docs/slurm/fit.sh thumos14 --store f.zarr", "--videos"),
        ("python extract/run.py videos f.zarr --stride 0", "stride"),
        ("ssn-feat teach", "no such command"),
    ],
)
def test_what_is_wrong_is_found(line: str, what: str, pick: Pick, capsys: pytest.CaptureFixture[str]) -> None:
    (words,) = commands_of(f"    {line}\n")
    assert what.casefold() in fault(words, pick, capsys).casefold()


def test_commands_are_found_on_pages() -> None:
    shown = {name_of(page): commands_of(page.read_text(encoding="utf-8")) for page in PAGES}
    assert len(shown["README.md"]) > 25
    assert ["detect", "another.mp4", "--model", "model"] in shown["README.md"]
    assert any(words[:3] == ["fit", "small", "--store"] and "rgb" in words for words in shown["README.md"])
    assert {words[0] for page in shown.values() for words in page} >= {"speed", *commands.COMMANDS}


def test_options_that_pages_speak_of_exist(pick: Pick) -> None:
    firsts = [[name, FIRST.get(name, "x")] for name in commands.COMMANDS]
    firsts += [["fit", "sweep"], ["fit", "--head=clips"], ["fit", "--end-to-end"], ["detect", "--model=x"]]
    firsts += [["original", "export"], *(["speed", part] for part in bench.speed.commands.PARTS)]
    known = set().union(*(flags_of(pick(words)[0].options) for words in firsts)) | FOREIGN
    lost = {}
    for page in PAGES:
        _, sentences = code_of(page.read_text(encoding="utf-8"))
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", "\n".join(sentences)))
        if unknown := named - known:
            lost[name_of(page)] = unknown
    assert lost == {}
