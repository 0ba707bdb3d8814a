"""How every script reads its options: a frozen dataclass, from the command line, from YAML, or from both.

A script is ``run(function, Options)``. Its first argument may be the name of a preset or a YAML file that a run saved;
flags after it override single values. ``--save-config FILE`` writes the resulting options as YAML and stops.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import os
import select
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import cattrs
import tyro
import yaml
from cattrs.v import format_exception
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from ssn_feat.errors import UserError
from ssn_feat.terminal import printable_lines

T = TypeVar("T")

SAVE_FLAG = "--save-config"
# The type of options such as the pyramid (1, (1, 2), 1).
_NESTED = tuple[int | tuple[int, ...], ...]


def _nested(value: Any) -> Any:
    return tuple(_nested(item) for item in value) if isinstance(value, list | tuple) else value


def _written_tuple(texts: Sequence[str]) -> tuple[Any, ...]:
    try:
        value = _nested(ast.literal_eval(texts[0]))
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: endless nesting
        value = None
    if not isinstance(value, tuple):
        raise ValueError(f"{texts[0]!r} is no tuple such as (1, (1, 2), 1)")
    return value


def _registry() -> ConstructorRegistry:
    """What tyro does not read by itself: nested tuples of whole numbers, as they are written in Python."""
    registry = ConstructorRegistry()

    @registry.primitive_rule
    def nested_tuple(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if info.type != _NESTED:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="TUPLE",
            instance_from_str=_written_tuple,
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda value: [repr(value)],
        )

    return registry


_REGISTRY = _registry()


def _whole(value: Any, _: type) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _real(value: Any, _: type) -> float:
    # YAML 1.1 reads 1e-3 (without a decimal point) as text.
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def _truth(value: Any, _: type) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is not true or false")
    return value


def _text(value: Any, _: type) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text: put it in quotes")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    # One word stands for a list of one; taken as a sequence it would fall into its letters.
    return tuple(_text(item, str) for item in ([value] if isinstance(value, str) else value))


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    # cattrs would convert silently (3.7 to 3, "no" to True); a configuration file is checked instead.
    for kind, hook in ((int, _whole), (float, _real), (bool, _truth), (str, _text)):
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook(Path, lambda value, _: Path(value))
    converter.register_structure_hook_func(lambda t: t == _NESTED, lambda value, _: _nested(value))
    converter.register_structure_hook_func(lambda t: t == tuple[str, ...], lambda value, _: _texts(value))
    return converter


_CONVERTER = _converter()


def to_dict(options: Any) -> dict[str, Any]:
    """Options as plain dicts, lists, strings and numbers (what YAML and JSON can hold)."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        if isinstance(value, Mapping):
            return {str(k): plain(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    result: dict[str, Any] = plain(options)
    return result


def from_dict(cls: type[T], values: Mapping[str, Any], source: str) -> T:
    """Options from what :func:`to_dict` made; ``source`` names the origin in error messages.

    Raises UserError on unknown keys, missing keys and values of the wrong type or out of range.
    """
    try:
        return _CONVERTER.structure(values, cls)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    except Exception as error:  # cattrs collects the errors of all fields in an exception group
        for cause in _leaves(error):
            if isinstance(cause, UserError):
                raise UserError(f"{source}: {cause}") from None
        told = "; ".join(cattrs.transform_error(error, format_exception=_say))
        raise UserError(f"{source}: {' '.join(told.split())}") from None


def from_record(cls: type[T], values: Mapping[str, Any], source: str) -> T:
    """Options from a record that another version may have written: keys that ``cls`` does not have are left out.

    A note on standard error names them. Raises UserError as :func:`from_dict`.
    """
    known, unknown = _known(cls, values)
    if unknown:
        said = f"note: {source} has options that this version does not have: {', '.join(unknown)}"
        print(printable_lines(said), file=sys.stderr)
    return from_dict(cls, known, source)


def _known(cls: Any, values: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Any], list[str]]:
    """The part of ``values`` that the dataclass ``cls`` has fields for, and the dotted names of the rest."""
    hints = typing.get_type_hints(cls)
    known: dict[str, Any] = {}
    unknown: list[str] = []
    for name, value in values.items():
        if name not in hints:
            unknown.append(f"{prefix}{name}")
        elif dataclasses.is_dataclass(hints[name]) and isinstance(value, Mapping):
            known[name], inner = _known(hints[name], value, f"{prefix}{name}.")
            unknown += inner
        else:
            known[name] = value
    return known, unknown


def _say(error: BaseException, kind: type | None) -> str:
    return str(error) if isinstance(error, ValueError) else format_exception(error, kind)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def save_yaml(options: Any, path: Path) -> None:
    """Write options as YAML that :func:`load_yaml` and every script read back."""
    path.write_text(yaml.safe_dump(to_dict(options), sort_keys=False, allow_unicode=True))


def load_yaml(cls: type[T], path: Path) -> T:
    """Options from a YAML file. Raises UserError naming the file and the field that is wrong."""
    return from_dict(cls, read_yaml(path), str(path))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds. Raises UserError where it cannot be read or holds something else."""
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no text, or a date that is none
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold a mapping of option names to values, not {type(values).__name__}")
    return values


def parse(options: type[T], arguments: Sequence[str], presets: Mapping[str, T] | None = None, doc: str = "") -> T:
    """Options from ``arguments``; see the module's docstring. Exits like argparse on ``--help`` and on bad flags."""
    arguments, presets = list(arguments), presets or {}
    default: Any = tyro.MISSING
    if arguments and arguments[0].endswith((".yaml", ".yml")):
        default = load_yaml(options, Path(arguments.pop(0)))
    elif arguments and arguments[0] in presets:
        default = presets[arguments.pop(0)]
    known = (
        f" The first argument may be a YAML file or one of: {', '.join(presets)}."
        if presets
        else (" The first argument may be a YAML file.")
    )
    given = {} if default is tyro.MISSING else {"default": default}
    with _REGISTRY:
        return tyro.cli(options, args=arguments, description=doc + known, config=(tyro.conf.OmitArgPrefixes,), **given)


@dataclasses.dataclass(frozen=True)
class Command:
    """A function with its options and their presets."""

    function: Callable[[Any], Any]
    options: type[Any]
    presets: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def run(function: Callable[[T], Any], options: type[T], presets: Mapping[str, T] | None = None) -> NoReturn:
    """Parse the command line into ``options``, call ``function``, exit.

    Exit codes: what ``function`` returns if a whole number, else 0; 2 on a UserError (its message, one line, goes to
    standard error); 130 on Ctrl-C.
    """
    _execute(lambda _: Command(function, options, presets or {}))


def run_one_of(
    field: str, commands: Mapping[str, Command], default: str, switches: Mapping[str, Command] | None = None
) -> NoReturn:
    """Like :func:`run` for a script whose option ``field`` (on the command line or in the YAML file) picks a command.

    Every command's options have that field, with the values that lead to the command. ``switches``: commands that an
    option of their name picks before that: ``--end-to-end``, or ``end_to_end: true`` in the YAML file.
    """

    def choose(arguments: list[str]) -> Command:
        chosen, held = default, {}
        if arguments and arguments[0].endswith((".yaml", ".yml")):
            held = read_yaml(Path(arguments[0]))
            chosen = str(held.get(field, default))
        for name, command in (switches or {}).items():
            if f"--{name}" in arguments or held.get(name.replace("-", "_")) is True:
                return command
        for flag, value in itertools.pairwise([*arguments, ""]):
            name, equals, inline = flag.partition("=")
            if name == f"--{field}":
                chosen = inline if equals else value
        if chosen not in commands:
            raise UserError(f"--{field} must be one of {', '.join(commands)}, not {chosen!r}")
        return commands[chosen]

    _execute(choose)


def run_verb(commands: Mapping[str, Command]) -> NoReturn:
    """Like :func:`run` for a script whose first argument names the command: ``python -m bench.speed fit [options]``."""

    def choose(arguments: list[str]) -> Command:
        verb = arguments.pop(0) if arguments else "nothing"
        if verb in ("-h", "--help"):
            print(f"usage: {sys.argv[0]} {{{','.join(commands)}}} [options]; --help after one of them says more")
            sys.exit(0)
        if verb not in commands:
            raise UserError(f"the first argument must be one of {', '.join(commands)}, not {verb}")
        sys.argv[0] += f" {verb}"  # which help shows as the command
        return commands[verb]

    _execute(choose)


def run_chosen(choose: Callable[[list[str]], Command]) -> NoReturn:
    """Like :func:`run`, of the command that ``choose`` names by the arguments; it may take away what it has read."""
    _execute(choose)


def _execute(choose: Callable[[list[str]], Command]) -> NoReturn:
    arguments = sys.argv[1:]
    save = None
    if SAVE_FLAG in arguments:
        at = arguments.index(SAVE_FLAG)
        if at + 1 == len(arguments):
            print(f"error: {SAVE_FLAG} needs the name of a file to write", file=sys.stderr)
            sys.exit(2)
        save = Path(arguments[at + 1])
        del arguments[at : at + 2]
    try:
        command = choose(arguments)
        # Only the first paragraph: the rest of a docstring is for those who call the function.
        doc = inspect.cleandoc(command.function.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
        values = parse(command.options, arguments, command.presets, doc)
        if save is not None:
            save_yaml(values, save)
            sys.exit(0)
        result = command.function(values)
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


def _end_if_nobody_reads() -> None:
    """Exit like a program that SIGPIPE ends where it is standard output that is closed (``... | head``)."""
    look = select.poll()
    look.register(sys.stdout, 0)
    if look.poll(0):
        # What is left to be written goes nowhere, without another fault when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


__all__ = [
    "Command",
    "from_dict",
    "from_record",
    "load_yaml",
    "parse",
    "read_yaml",
    "run",
    "run_chosen",
    "run_one_of",
    "run_verb",
    "save_yaml",
    "to_dict",
]
