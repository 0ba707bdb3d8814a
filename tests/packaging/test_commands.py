"""The command ``ssn-feat`` and the scripts of the repository are the same commands."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from conftest import ROOT

from ssn_feat import __version__, cli, commands
from ssn_feat.cli.options import flags_of, help_of
from ssn_feat.errors import UserError

# What each script is as a command.
SCRIPTS = {
    "bench/toy.py": "toy",
    "extract/run.py": "extract",
    "extract/status.py": "status",
    "extract/verify.py": "verify",
    "extract/remove.py": "remove",
    "extract/pack.py": "pack",
    "extract/import_features.py": "import",
    "extract/export_features.py": "export",
    "train/fit.py": "fit",
    "train/propose.py": "propose",
    "train/detect.py": "detect",
    "train/original.py": "original",
    "bench/proposals.py": "proposals",
    "bench/detections.py": "detections",
    "bench/frames.py": "frames",
    "bench/operating_point.py": "operating-point",
    "bench/report.py": "report",
}
# Subprocesses import the package that is tested, wherever another one is installed.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"}
GROUPS = [commands.COMMANDS, commands.FIT, commands.DETECT, commands.ORIGINAL, commands.ANNOTATIONS]
LEAVES = dict(commands.COMMANDS.leaves())


@pytest.mark.parametrize(("script", "name"), SCRIPTS.items(), ids=list(SCRIPTS))
def test_script_and_command_are_one(monkeypatch: pytest.MonkeyPatch, script: str, name: str) -> None:
    started = []
    monkeypatch.setattr(cli, "run", started.append)
    runpy.run_path(str(ROOT / script), run_name="__main__")
    assert started == [commands.COMMANDS.commands[name]]


def test_every_script_is_a_command() -> None:
    scripts = {
        str(p.relative_to(ROOT)) for folder in ("bench", "extract", "train") for p in (ROOT / folder).glob("*.py")
    }
    # The demonstration calls the scripts of the repository that it lies in.
    assert scripts - {"bench/demo.py"} == set(SCRIPTS)
    assert set(commands.COMMANDS.commands) == {*SCRIPTS.values(), "annotations"}


def ssn_feat(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ssn_feat", *arguments], capture_output=True, text=True, check=False)


SLOW = ("torch", "torchvision", "zarr", "cv2", "scipy", "sklearn", "joblib", "matplotlib")


def started(*words: str) -> tuple[str, str]:
    """What a command prints, and a last line with its exit code and the slow packages that it imported."""
    code = (
        f"import sys; sys.argv = ['ssn-feat', *{words}]\n"
        "from ssn_feat.commands import main\n"
        "try: main()\n"
        f"except SystemExit as end: print(end.code, *(name for name in {SLOW} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    printed, _, last = done.stdout.rstrip("\n").rpartition("\n")
    return printed, last


def test_help_lists_every_command_and_imports_nothing_slow() -> None:
    printed, last = started("--help")
    assert last == "0"
    for name in LEAVES:
        assert f"\n  {name} " in printed


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("fit --help", 0),
        ("fit small --head ssn", 2),
        ("annotations validate --help", 0),
        ("annotations validate nothing.json", 2),
        ("propose --help", 0),
        ("propose --store none.zarr --method sliding --out p.npz", 2),
        ("proposals --help", 0),
        ("proposals none.npz --annotations none.json", 2),
        ("import --help", 0),
        ("export --help", 0),
    ],
)
def test_commands_without_a_network_start_without_slow_packages(words: str, code: int) -> None:
    assert started(*words.split())[1] == str(code)


def test_exit_codes() -> None:
    assert ssn_feat("--version").stdout == f"ssn-feat {__version__}\n"
    unknown = ssn_feat("teach")
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: ssn-feat has no command 'teach'; commands: toy, ")
    assert ssn_feat().returncode == 2


def test_a_command_reads_its_own_options_and_names_itself() -> None:
    done = ssn_feat("status", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: ssn-feat status ")
    missing = ssn_feat("status", "nowhere.zarr")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert missing.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("fit small --head actionness --store f.zarr", "fit head actionness small --store f.zarr"),
        ("fit small --store 'my f.zarr'", "fit head ssn small --store 'my f.zarr'"),
        ("fit run/config.yaml --head=ssn --out again", "fit head ssn run/config.yaml --out again"),
        ("fit --head clips --stream flow", "fit backbone --stream flow"),
        ("fit thumos14 --end-to-end --videos v", "fit end-to-end thumos14 --videos v"),
        ("fit sweep small --vary lr=1,2", "fit sweep ssn small --vary lr=1,2"),
        ("fit sweep --vary lr=1,2 --head actionness", "fit sweep actionness --vary lr=1,2"),
        ("detect film.mp4 --model model", "detect video film.mp4 --model model"),
        ("detect --store f.zarr --proposals p.npz", "detect store --store f.zarr --proposals p.npz"),
        ("detect thumos14-classifier --scores s.npz", "detect store thumos14-classifier --scores s.npz"),
    ],
)
def test_former_spellings_are_answered_with_the_present_one(old: str, new: str) -> None:
    with pytest.raises(UserError) as error:
        cli.choose(commands.COMMANDS, shlex.split(old), "ssn-feat")
    assert str(error.value) == f"write: ssn-feat {new}"


@pytest.mark.parametrize("leaf", LEAVES.values(), ids=list(LEAVES))
def test_help_of_a_command_fits_two_screens(leaf: cli.Command[Any] | Callable[[], cli.Command[Any]]) -> None:
    command = leaf if isinstance(leaf, cli.Command) else leaf()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        short, everything = (help_of(command, None, "ssn-feat fit head actionness", each) for each in (False, True))
    assert len(short.splitlines()) <= 48
    assert max(map(len, [*short.splitlines(), *everything.splitlines()])) <= 80
    flags = flags_of(command.options, command.fixed)
    assert {f"--{name.replace('_', '-')}" for name in command.common} <= flags
    listed = re.findall(r"^[ │]+(--.*)", everything, re.MULTILINE)
    assert {flag for line in listed for flag in re.findall(r"--[a-z][a-z0-9-]*", line.partition("  ")[0])} >= flags


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.about)
def test_help_of_a_group_fits_one_screen(group: cli.Group) -> None:
    lines = group.usage("python -m ssn_feat.annotations").splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
