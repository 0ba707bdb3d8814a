"""From the words of a command line to the call of a function and an exit code."""

from __future__ import annotations

import dataclasses
import inspect
import os
import select
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ssn_feat.cli.options import HELP_FLAGS, SAVE_FLAG, Command, parse, suggestion, wrapped
from ssn_feat.cli.records import save_yaml
from ssn_feat.errors import UserError
from ssn_feat.terminal import printable_lines

# A command, or a function that imports and returns it.
Leaf = Command[Any] | Callable[[], Command[Any]]


@dataclasses.dataclass(frozen=True)
class Group:
    """Commands by name, of which the next word of the command line chooses one."""

    about: str
    """What the commands have in common, for ``--help``."""
    commands: Mapping[str, Leaf | Group]
    """Each a command, a function that imports and returns one, or a group of more. The first line of the docstring of
    the function, or of the command's options, is a line in ``--help``."""
    former: Callable[[Sequence[str]], str | None] = lambda arguments: None
    """Given arguments that name no command, their present spelling if an earlier version took them, else None."""
    other: Callable[[str], Command[Any] | None] = lambda word: None
    """Given a word that is not one of the names, returns the command that it stands for, or None."""

    def leaves(self) -> Iterator[tuple[str, Leaf]]:
        """The names of all commands, those of groups in groups as several words, with each or what returns it."""
        for name, command in self.commands.items():
            if isinstance(command, Group):
                yield from ((f"{name} {inner}", leaf) for inner, leaf in command.leaves())
            else:
                yield name, command

    def usage(self, prog: str) -> str:
        """The help of the group: a line for each of its commands."""
        described = {name: leaf.options if isinstance(leaf, Command) else leaf for name, leaf in self.leaves()}
        lines = {name: (inspect.getdoc(each) or "").partition("\n")[0] for name, each in described.items()}
        width = max(map(len, lines))
        listed = "\n".join(f"  {name:<{width}}  {line}" for name, line in lines.items())
        return (
            f"usage: {prog} COMMAND [options]\n\n{wrapped(self.about)}\n\n{listed}\n\n"
            f"{prog} COMMAND --help lists the options of a command."
        )


def choose(start: Leaf | Group, words: Sequence[str], prog: str) -> tuple[Command[Any], list[str], str]:
    """The command that leading ``words`` name, the words after its name, and ``prog`` with its name.

    Prints help and exits where a group is asked for help or given no word: with 0 and 2. Raises UserError if a word
    names no command.
    """
    rest = list(words)
    while isinstance(start, Group):
        if not rest or rest[0] in HELP_FLAGS:
            print(start.usage(prog), file=sys.stdout if rest else sys.stderr)
            sys.exit(0 if rest else 2)
        if rest[0] not in start.commands:
            if found := start.other(rest[0]):
                return found, rest[1:], f"{prog} {rest[0]}"
            if former := start.former(rest):
                raise UserError(f"write: {prog} {former}")
            names = ", ".join(start.commands)
            raise UserError(
                f"{prog} has no command {rest[0]!r}{suggestion(rest[0], start.commands)}; commands: {names}"
            )
        prog = f"{prog} {rest[0]}"
        start = start.commands[rest.pop(0)]
    return start if isinstance(start, Command) else start(), rest, prog


def run(start: Leaf | Group, prog: str | None = None) -> NoReturn:
    """Read the command line, call the command that it names, exit.

    ``prog``: what a user types before the arguments; by default the name of the script. Exit codes: what the function
    returns if a whole number, else 0; 2 on a UserError (its message, one line, goes to standard error); 130 on Ctrl-C.
    """
    result = None
    try:
        save, arguments = _take_save_flag(sys.argv[1:])
        command, arguments, prog = choose(start, arguments, prog or sys.argv[0])
        options = parse(command, arguments, prog)
        if save is not None:
            save_yaml(options, save)
        else:
            result = command.function(options)
        sys.stdout.flush()
    except BrokenPipeError:
        _end_if_nobody_reads()
        raise
    except UserError as error:
        print(f"error: {printable_lines(str(error))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(result if isinstance(result, int) else 0)


def _take_save_flag(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """The file that ``--save-config`` names, if any, and the other arguments."""
    if SAVE_FLAG not in arguments:
        return None, arguments
    at = arguments.index(SAVE_FLAG)
    if at + 1 == len(arguments):
        raise UserError(f"{SAVE_FLAG} needs the name of a file to write")
    return Path(arguments[at + 1]), arguments[:at] + arguments[at + 2 :]


def _end_if_nobody_reads() -> None:
    """Exit like a program that SIGPIPE ends where it is standard output that is closed (``... | head``)."""
    look = select.poll()
    look.register(sys.stdout, 0)
    if look.poll(0):
        # What is left to be written goes nowhere, without another fault when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


__all__ = ["Group", "choose", "run"]
