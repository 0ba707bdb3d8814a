"""Options: command line, YAML, presets, and what a user sees when they are wrong."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import tyro

from ssn_feat.cli import from_dict, load_yaml, parse, save_yaml, to_dict
from ssn_feat.errors import UserError


@dataclass(frozen=True)
class Optim:
    lr: float = 0.1
    """Learning rate."""
    steps: tuple[int, ...] = (20, 40)
    """Epochs after which the rate falls."""


@dataclass(frozen=True)
class Options:
    store: tyro.conf.Positional[Path]
    """Where the features are."""
    pyramid: tuple[int | tuple[int, ...], ...] = (1, (1, 2), 1)
    """Parts of each stage."""
    head: Literal["ssn", "actionness"] = "ssn"
    """What is learned."""
    out: Path | None = None
    """Where the result goes."""
    fast: bool = False
    """Whether to hurry."""
    names: tuple[str, ...] = ()
    """Names."""
    optim: Optim = Optim()

    def __post_init__(self) -> None:
        if self.optim.lr <= 0:
            raise UserError(f"lr must be above 0, not {self.optim.lr}")


PRESETS = {"quick": Options(Path("q.zarr"), fast=True, optim=Optim(lr=0.5))}


def test_flags_override_a_preset_or_a_file(tmp_path: Path) -> None:
    assert parse(Options, ["s.zarr", "--lr", "3", "--steps", "1", "2", "--pyramid", "(1, 1, 1)"]) == Options(
        Path("s.zarr"), (1, 1, 1), optim=Optim(3.0, (1, 2))
    )
    quick = parse(Options, ["quick", "--steps", "7"], PRESETS)
    assert (quick.store, quick.fast, quick.optim) == (Path("q.zarr"), True, Optim(0.5, (7,)))
    saved = tmp_path / "c.yaml"
    save_yaml(quick, saved)
    assert parse(Options, [str(saved)]) == quick
    assert parse(Options, [str(saved), "--head", "actionness"]).head == "actionness"


def test_yaml_gives_back_the_same_options(tmp_path: Path) -> None:
    options = Options(Path("a b/ü.zarr"), ((1, 2), (1, 2, 4), 1), out=Path("x"), names=("1", "on"), optim=Optim(1e-5))
    save_yaml(options, tmp_path / "c.yaml")
    assert load_yaml(Options, tmp_path / "c.yaml") == options
    assert from_dict(Options, to_dict(options), "here") == options


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bogus": 1}, "bogus"),
        ({"head": "tail"}, "tail"),
        ({"optim": {"lr": "fast"}}, "lr"),
        ({"optim": {"steps": [1.5]}}, "1.5"),
        ({"fast": "no"}, "fast"),
        ({"names": [3]}, "quotes"),
        ({"optim": {"lr": -1}}, "lr must be above 0"),
    ],
)
def test_wrong_values_are_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        from_dict(Options, {"store": "s", **change}, "my.yaml")


def test_numbers_without_a_decimal_point_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("store: s\noptim: {lr: 1e-3}\n")
    assert load_yaml(Options, tmp_path / "c.yaml").optim.lr == 1e-3


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "!!python/object/apply:os.system ['true']", "store: {}", ""])
def test_files_that_are_no_configuration(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"c\.yaml"):
        load_yaml(Options, path)
    with pytest.raises(UserError, match=r"none\.yaml"):
        load_yaml(Options, tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["(1, 2", "three", "3", "(1, x)", "(" * 10000])
def test_what_is_no_tuple_is_said_and_not_raised(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(Options, ["s.zarr", "--pyramid", text])
    assert end.value.code == 2
    assert "is no tuple such as (1, (1, 2), 1)" in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_exit_codes_and_one_line(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from dataclasses import dataclass\n"
        "from ssn_feat.cli import run\n"
        "from ssn_feat.errors import UserError\n"
        "@dataclass(frozen=True)\n"
        "class O:\n"
        "    how: str\n"
        "    '''How to end.'''\n"
        "def main(o: O) -> int | None:\n"
        "    '''End.'''\n"
        "    if o.how == 'user': raise UserError('no such thing')\n"
        "    if o.how == 'stop': raise KeyboardInterrupt\n"
        "    return 1 if o.how == 'one' else None\n"
        "run(main, O)\n"
    )

    def call(*arguments: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    assert call("--how", "user") == (2, "error: no such thing\n")
    assert call("--how", "stop") == (130, "interrupted\n")
    assert call("--how", "one") == (1, "")
    assert call("--how", "well") == (0, "")
    assert call()[0] == 2
    saved = tmp_path / "o.yaml"
    assert call("--how", "user", "--save-config", str(saved)) == (0, "")
    assert call(str(saved))[0] == 2
    assert call("--how", "user", "--save-config")[0] == 2


@pytest.mark.parametrize("lines", ["1", "20000"])  # written when it ends, and before
def test_a_reader_that_has_seen_enough_is_no_fault(tmp_path: Path, lines: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from dataclasses import dataclass\n"
        "from ssn_feat.cli import run\n"
        "@dataclass(frozen=True)\n"
        "class O:\n"
        "    lines: int = 1\n"
        "def main(o: O) -> None:\n"
        "    sys.stdin.read()  # until nobody reads\n"
        "    for number in range(o.lines): print(number, 'and more of it')\n"
        "run(main, O)\n"
    )
    for arguments in (["--lines", lines], ["--help"]):
        command = [sys.executable, script, *arguments]
        with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            process.stdin.close()
            assert process.stderr.read() == b""
        # Help is printed by the library of options, of which old releases say nothing to nobody.
        assert process.returncode == 141 or (arguments == ["--help"] and process.returncode == 0)


def test_a_script_of_several_commands(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from dataclasses import dataclass\n"
        "from typing import Literal\n"
        "from ssn_feat.cli import Command, run_one_of, run_verb\n"
        "@dataclass(frozen=True)\n"
        "class A:\n"
        "    head: Literal['a', 'b'] = 'a'\n"
        "@dataclass(frozen=True)\n"
        "class C:\n"
        "    size: int\n"
        "    head: Literal['c'] = 'c'\n"
        "commands = {n: Command(print, o) for n, o in (('a', A), ('b', A), ('c', C))}\n"
        "run_verb(commands) if sys.argv.pop(1) == 'verb' else run_one_of('head', commands, 'a')\n"
    )

    def call(*arguments: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    saved = tmp_path / "c.yaml"
    assert call("flag") == (0, "A(head='a')\n")
    assert call("flag", "--head", "b") == (0, "A(head='b')\n")
    assert call("flag", "--head=c", "--size", "3", "--save-config", str(saved)) == (0, "")
    assert call("flag", str(saved), "--size", "4") == (0, "C(size=4, head='c')\n")
    assert call("flag", "--head", "d") == (2, "error: --head must be one of a, b, c, not 'd'\n")
    assert call("verb", "c", "--size", "5") == (0, "C(size=5, head='c')\n")
    assert call("verb", "d")[0] == 2
    assert call("verb")[0] == 2
    assert call("verb", "--help")[0] == 0
