"""The command ``ssn-feat`` and the scripts of the repository are the same commands."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable

import pytest
from conftest import ROOT

from ssn_feat import __version__, cli, commands

# What each script is as a command, with first arguments that lead to every function that it can call.
SCRIPTS: list[tuple[str, str, tuple[str, ...]]] = [
    ("bench/toy.py", "toy", ("",)),
    ("extract/run.py", "extract", ("",)),
    ("extract/status.py", "status", ("",)),
    ("extract/verify.py", "verify", ("",)),
    ("extract/pack.py", "pack", ("",)),
    ("extract/import_features.py", "import", ("",)),
    ("extract/export_features.py", "export", ("",)),
    ("train/fit.py", "fit", ("", "sweep", "--head=ssn", "--head=actionness", "--head=clips", "--end-to-end")),
    ("train/propose.py", "propose", ("",)),
    ("train/detect.py", "detect", ("", "--model=here")),
    ("train/original.py", "original", ("import", "export")),
    ("bench/proposals.py", "proposals", ("",)),
    ("bench/detections.py", "detections", ("",)),
    ("bench/report.py", "report", ("",)),
]


class Called(Exception):
    """Carries what a command would have done."""


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object], list[str]], object]:
    """``called(start, argv)``: the Command that ``start`` picks, or what it says where it picks none."""

    def stop(choose: Callable[[list[str]], cli.Command]) -> None:
        raise Called(choose(sys.argv[1:]))

    def call(start: Callable[[], object], argv: list[str]) -> object:
        monkeypatch.setattr(sys, "argv", argv)
        try:
            start()
        except Called as picked:
            return picked.args[0]
        except cli.UserError as error:
            return str(error)
        return "nothing was called"

    monkeypatch.setattr(cli, "_execute", stop)
    return call


@pytest.mark.parametrize(("script", "name", "first"), SCRIPTS, ids=[s for s, _, _ in SCRIPTS])
def test_script_and_command_are_one(
    called: Callable[..., object], script: str, name: str, first: tuple[str, ...]
) -> None:
    for argument in first:
        arguments = [argument] if argument else []
        by_script = called(lambda: runpy.run_path(str(ROOT / script), run_name="__main__"), [script, *arguments])
        by_command = called(commands.main, ["ssn-feat", name, *arguments])
        assert by_command == by_script, f"{script} {argument}"
        if argument in ("", first[0]):
            assert isinstance(by_command, cli.Command)


def test_every_script_is_a_command() -> None:
    scripts = {
        str(p.relative_to(ROOT)) for folder in ("bench", "extract", "train") for p in (ROOT / folder).glob("*.py")
    }
    # The demonstration calls the scripts of the repository that it lies in.
    assert scripts - {"bench/demo.py"} <= {script for script, _, _ in SCRIPTS}
    assert set(commands.COMMANDS) == {name for _, name, _ in SCRIPTS} | {"annotations"}


def ssn_feat(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ssn_feat", *arguments], capture_output=True, text=True, check=False)


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['ssn-feat', '--help']\n"
        "from ssn_feat.commands import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, [m for m in ('torch', 'zarr', 'cv2', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("0 []\n")
    for name in commands.COMMANDS:
        assert f"\n  {name} " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_exit_codes() -> None:
    assert ssn_feat("--version").stdout == f"ssn-feat {__version__}\n"
    unknown = ssn_feat("teach")
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: no command 'teach'; there are toy, ")
    assert ssn_feat().returncode == 2


def test_a_command_reads_its_own_options_and_names_itself() -> None:
    done = ssn_feat("status", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: ssn-feat status ")
    missing = ssn_feat("status", "nowhere.zarr")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert missing.stderr.startswith("error: ")
