"""Options: command line, YAML, presets, and what a user sees when they are wrong."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import tyro

from ssn_feat.cli import Command, Group, choose, from_dict, load_yaml, parse, save_yaml, to_dict
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
COMMAND = Command(print, Options, PRESETS)


def test_flags_override_a_preset_or_a_file(tmp_path: Path) -> None:
    assert parse(COMMAND, ["s.zarr", "--lr", "3", "--steps", "1", "2", "--pyramid", "(1, 1, 1)"]) == Options(
        Path("s.zarr"), (1, 1, 1), optim=Optim(3.0, (1, 2))
    )
    quick = parse(COMMAND, ["quick", "--steps", "7"])
    assert (quick.store, quick.fast, quick.optim) == (Path("q.zarr"), True, Optim(0.5, (7,)))
    saved = tmp_path / "c.yaml"
    save_yaml(quick, saved)
    assert parse(COMMAND, [str(saved)]) == quick
    assert parse(COMMAND, [str(saved), "--head", "actionness"]).head == "actionness"


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
        parse(COMMAND, ["s.zarr", "--pyramid", text])
    assert end.value.code == 2
    assert "is not a tuple such as (1, (1, 2), 1)" in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_exit_codes_and_one_line(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from dataclasses import dataclass\n"
        "from ssn_feat.cli import Command, run\n"
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
        "run(Command(main, O))\n"
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
        "from ssn_feat.cli import Command, run\n"
        "@dataclass(frozen=True)\n"
        "class O:\n"
        "    lines: int = 1\n"
        "def main(o: O) -> None:\n"
        "    sys.stdin.read()  # until nobody reads\n"
        "    for number in range(o.lines): print(number, 'and more of it')\n"
        "run(Command(main, O))\n"
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


def second() -> Command[Any]:
    """Do the second thing."""
    return Command(print, Options, PRESETS, fixed={"head": "actionness"})


GROUP = Group(
    "Do things.",
    {"first": COMMAND, "inner": Group("More.", {"second": second, "third": second})},
    lambda words: "first " + " ".join(words[1:]) if words[0] == "old" else None,
)


def test_leading_words_choose_the_command() -> None:
    assert choose(GROUP, ["first", "s.zarr", "inner"], "do.py") == (COMMAND, ["s.zarr", "inner"], "do.py first")
    command, rest, prog = choose(GROUP, ["inner", "second", "--fast"], "do.py")
    assert (command.fixed, rest, prog) == ({"head": "actionness"}, ["--fast"], "do.py inner second")
    assert choose(second, ["--fast"], "do.py")[1:] == (["--fast"], "do.py")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["frist"], "do.py has no command 'frist' (did you mean first?); commands: first, inner"),
        (["inner", "zzz"], "do.py inner has no command 'zzz'; commands: second, third"),
        (["old", "s.zarr", "--fast"], "write: do.py first s.zarr --fast"),
    ],
)
def test_a_word_that_names_no_command_is_an_error(words: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        choose(GROUP, words, "do.py")
    assert str(error.value) == said


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), ([], 2), (["inner", "-h"], 0), (["inner"], 2)])
def test_a_group_lists_its_commands(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        choose(GROUP, words, "do.py")
    assert end.value.code == code
    printed = capsys.readouterr()
    assert "second  Do the second thing.\n" in (printed.err if code else printed.out)


def test_what_a_command_fixes_is_saved_and_not_an_option(tmp_path: Path) -> None:
    assert parse(second(), ["s.zarr"]).head == parse(second(), ["quick"]).head == "actionness"
    for head in ("ssn", "actionness"):
        save_yaml(Options(Path("s.zarr"), head=head), tmp_path / f"{head}.yaml")
    assert parse(second(), [str(tmp_path / "actionness.yaml")]).head == "actionness"
    with pytest.raises(
        UserError, match=r"ssn\.yaml is a configuration with head: ssn, do second needs head: actionness"
    ):
        parse(second(), [str(tmp_path / "ssn.yaml")], "do second")
    with pytest.raises(UserError, match="--head is not an option of do second, which sets it"):
        parse(second(), ["s.zarr", "--head=ssn"], "do second")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["quik"], r"no preset 'quik' \(did you mean quick\?\); presets: quick"),
        (["s.zarr", "--fsat"], r"COMMAND has no option --fsat \(did you mean --fast\?\); --help-all lists its options"),
        (["s.zarr", "--no_fats"], r"no option --no-fats \(did you mean --no-fast\?\)"),
        (["s.zarr", "--stesp=3"], r"no option --stesp \(did you mean --steps\?\)"),
        (["s.zarr", "--zzz"], "no option --zzz; "),
    ],
)
def test_a_mistyped_name_gets_a_suggestion(arguments: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse(COMMAND, arguments)


def help_of(command: Command[Any], *arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        parse(command, arguments, "do.py")
    assert end.value.code == 0
    return capsys.readouterr().out


def work(options: Options) -> None:
    """Do what a sentence of more than eighty columns says, which the source breaks at this place
    and help at the width of the terminal.

    This is for those who call the function.
    """


def test_help_shows_common_options_and_help_all_every_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    command = Command(work, Options, PRESETS, common=("fast", "lr"))
    short = help_of(command, "--help", capsys=capsys)
    assert short.startswith("usage: do.py [PRESET | FILE.yaml] STORE [--fast] [--lr FLOAT]\n\nDo what a sentence")
    assert "which the source breaks at\nthis place and help at the width of the terminal.\n\n" in short
    assert "call the function" not in short
    assert "--steps" not in short
    assert short.endswith("--help-all also lists the 5 options that are set less often.\n")
    assert max(map(len, short.splitlines())) <= 80
    everything = help_of(command, "quick", "--help-all", capsys=capsys)
    assert all(flag in everything for flag in ("--steps", "--pyramid", "--no-fast", "--out {None}|PATH"))
    assert "(default: 0.5)" in everything


def test_names_of_options_in_a_damaged_file_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "damaged.yaml").write_text('"\\nz\\x90": 1\n')
    with pytest.raises(UserError, match=r"does not have: \\nz\\x90; remove them$"):
        load_yaml(Options, tmp_path / "damaged.yaml")
