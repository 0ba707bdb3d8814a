"""Options of a command from its arguments: a preset or a YAML file, then flags that override single values."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import difflib
import functools
import inspect
import io
import itertools
import shutil
import textwrap
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

from ssn_feat.cli.records import NESTED_TUPLE, from_file, read_yaml, removed_options
from ssn_feat.errors import UserError

if TYPE_CHECKING:
    from tyro.constructors import (
        PrimitiveConstructorSpec,
        PrimitiveTypeInfo,
        StructConstructorSpec,
        StructTypeInfo,
    )

T = TypeVar("T")

SAVE_FLAG = "--save-config"
HELP_ALL_FLAG = "--help-all"
HELP_FLAGS = ("-h", "--help", HELP_ALL_FLAG)
# Longer lines of prose are hard to read, however wide the terminal is.
_WIDEST_PARAGRAPH = 100


@dataclasses.dataclass(frozen=True)
class Command(Generic[T]):
    """A function of one options dataclass, and how its options are read from the command line."""

    function: Callable[[T], Any]
    """Called with the options; the first paragraph of its docstring is the description in ``--help``."""
    options: type[T]
    """The options, a frozen dataclass with a docstring under every field."""
    presets: Mapping[str, T] = dataclasses.field(default_factory=dict)
    """Options by name, which the first argument may choose."""
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields that the command itself sets: they are saved in configurations, but are not options."""
    common: tuple[str, ...] = ()
    """Names of the fields that ``--help`` shows beside those without a default; empty for all. The rest is shown by
    ``--help-all``."""


def parse(command: Command[T], arguments: Sequence[str], prog: str = "COMMAND") -> T:
    """Options of ``command`` from ``arguments``; ``prog`` is what a user types before them.

    The first argument may be the name of a preset or a YAML file. Prints help and exits with 0 on ``--help`` and
    ``--help-all``; says what is wrong and exits with 2 on bad flags. Raises UserError for an unknown preset and for a
    file that holds other options or those of another command.
    """
    import tyro

    arguments = list(arguments)
    default = _take_first(command, arguments, prog)
    wanted = set(arguments)
    if wanted.intersection(HELP_FLAGS):
        print(help_of(command, default, prog, HELP_ALL_FLAG in wanted))
        raise SystemExit(0)
    _require_known(command, arguments, prog)
    options: T = _tyro(command, arguments, default, prog, _Fields(command), (tyro.conf.OmitArgPrefixes,))
    return options


def _take_first(command: Command[T], arguments: list[str], prog: str) -> T | None:
    """The options that the first argument names, which is then taken away; None if it names none."""
    first = arguments[0] if arguments else ""
    if first.endswith((".yaml", ".yml")):
        values = read_yaml(Path(arguments.pop(0)))
        for name, value in command.fixed.items():
            if values.get(name, value) != value:
                raise UserError(f"{first} is a configuration with {name}: {values[name]}, {prog} needs {name}: {value}")
        return from_file(command.options, values, Path(first))
    if first in command.presets:
        return command.presets[arguments.pop(0)]
    if command.presets and first and not first.startswith("-"):
        similar = suggestion(first, command.presets)
        # Where the first argument may be a file, too, one that exists is not a mistyped preset.
        if not _takes_places(command.options) or (similar and not Path(first).exists()):
            raise UserError(f"there is no preset {first!r}{similar}; presets: {', '.join(command.presets)}")
    return None


def _takes_places(options: type[Any]) -> bool:
    """Whether some option is given by its place rather than by its name."""
    return any(map(_is_positional, map(_taken_apart, typing.get_type_hints(options, include_extras=True).values())))


def _taken_apart(hint: Any) -> tuple[Any, ...]:
    """A type and what ``Annotated`` says of it."""
    return typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)


def _is_positional(marks: Collection[Any]) -> bool:
    import tyro

    return tyro.conf.Positional in marks


def _require_known(command: Command[Any], arguments: Sequence[str], prog: str) -> None:
    """Raises UserError if an argument names an option that the command does not have."""
    known = flags_of(command.options, tuple(command.fixed))
    for argument in arguments:
        flag = argument.partition("=")[0].replace("_", "-")
        if argument.startswith("--") and argument != "--" and flag not in known:
            if flag.removeprefix("--").replace("-", "_") in command.fixed:
                raise UserError(f"{flag} is not an option of {prog}, which sets it: leave it out")
            if reason := removed_options(command.options).get(flag.removeprefix("--").replace("-", "_")):
                raise UserError(f"{prog} no longer has the option {flag} ({reason}): leave it out")
            raise UserError(f"{prog} has no option {flag}{suggestion(flag, known)}; {HELP_ALL_FLAG} lists its options")


def flags_of(options: type[Any], fixed: Collection[str] = ()) -> set[str]:
    """Every flag that the fields of ``options`` make, also those of options inside it, but for the ``fixed`` ones."""
    hints = typing.get_type_hints(options, include_extras=True)
    flags = set()
    for field in dataclasses.fields(options):
        kind, *marks = _taken_apart(hints[field.name])
        name = field.name.replace("_", "-")
        if dataclasses.is_dataclass(kind):
            flags |= flags_of(typing.cast(type, kind), fixed)
        elif field.init and field.name not in fixed and not _is_positional(marks):
            flags |= {f"--{name}", f"--no-{name}"} if kind is bool else {f"--{name}"}
    return flags


def suggestion(word: str, known: Iterable[str]) -> str:
    """``" (did you mean NAME?)"`` for the name most like ``word``, or nothing where none is."""
    similar = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {similar[0]}?)" if similar else ""


def help_of(command: Command[Any], default: Any, prog: str, everything: bool = True) -> str:
    """The help of ``command``: usage, description and options with their defaults, wrapped to the terminal.

    ``default``: options to show the values of, or None. ``everything``: all options, not only the common ones.
    """
    import tyro

    fields = _Fields(command, short=not everything)
    # Only in help: None may still be given, and every flag be switched on and off.
    markers = [] if everything else [tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        _tyro(command, ["--help"], default, prog, fields, (tyro.conf.OmitArgPrefixes, *markers))
    lines = [line.rstrip() for line in printed.getvalue().splitlines()]
    usage, _, options = "\n".join(lines).partition("\n\n")
    first = "[PRESET | FILE.yaml]" if command.presets else "[FILE.yaml]"
    about = inspect.cleandoc(command.function.__doc__ or "").partition("\n\n")[0]
    presets = f"PRESET is one of {', '.join(command.presets)}. " if command.presets else ""
    known = f"{presets}FILE.yaml holds options: {SAVE_FLAG} FILE.yaml writes them and stops."
    more = (
        f"{HELP_ALL_FLAG} also lists the {len(fields.hidden)} options that are set less often." if fields.hidden else ""
    )
    paragraphs = [usage.replace("[-h]", first, 1), about, known, options.strip("\n"), more]
    paragraphs[:3] = map(wrapped, paragraphs[:3])
    return "\n\n".join(filter(None, paragraphs))


def wrapped(paragraph: str) -> str:
    """``paragraph`` in lines of the terminal's width, wherever the source broke it."""
    width = min(shutil.get_terminal_size().columns, _WIDEST_PARAGRAPH)
    return textwrap.fill(" ".join(paragraph.split()), width, break_long_words=False, break_on_hyphens=False)


def _tyro(
    command: Command[Any], arguments: Sequence[str], default: Any, prog: str, fields: _Fields, markers: tuple[Any, ...]
) -> Any:
    import tyro

    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(_nested_tuple)
    registry.struct_rule(fields.rule)
    given = {} if default is None else {"default": default}
    with registry:
        return tyro.cli(command.options, prog=prog, description="", args=arguments, config=markers, **given)


class _Fields:
    """The rule by which the fields of a command's options become arguments of tyro.

    ``short``: only the common ones are shown, as one group. ``hidden`` then holds the names of the others.
    """

    def __init__(self, command: Command[Any], short: bool = False) -> None:
        self._fixed = command.fixed
        self._common: Collection[str] = command.common if short else ()
        self.hidden: set[str] = set()

    def rule(self, info: StructTypeInfo) -> StructConstructorSpec | None:
        """How tyro takes the dataclass ``info.type`` apart; None for any other type."""
        import tyro
        from tyro.constructors import StructConstructorSpec, StructFieldSpec

        if not dataclasses.is_dataclass(info.type):
            return None
        cls: Any = info.type
        hints = typing.get_type_hints(cls, include_extras=True)
        fixed = {field.name: self._fixed[field.name] for field in dataclasses.fields(cls) if field.name in self._fixed}
        fields = []
        # Options that commands share are keyword-only fields of a base class, which would come first.
        for field in sorted(dataclasses.fields(cls), key=lambda each: each.kw_only is True):
            if field.name in fixed or not field.init:
                continue
            default = _default_of(field, info.default)
            kind, *marks = _taken_apart(hints[field.name])
            if _is_positional(marks):
                marks.insert(0, tyro.conf.arg(metavar=field.name.upper()))
            if _is_positional(marks) or default in (None, (), ""):
                marks.append(tyro.conf.arg(help_behavior_hint=""))  # the docstring says what is done without a value
            if self._common and dataclasses.is_dataclass(kind):
                marks.append(tyro.conf.arg(name=""))
            elif self._hides(field.name, marks, default):
                self.hidden.add(field.name)
                marks.append(tyro.conf.Suppress)
            hint: Any = Annotated[(kind, *marks)] if marks else kind
            text = functools.partial(_doc_of, cls, field.name)
            fields.append(StructFieldSpec(field.name, hint, default, helptext=text))
        return StructConstructorSpec(functools.partial(cls, **fixed), tuple(fields))

    def _hides(self, name: str, marks: Collection[Any], default: Any) -> bool:
        import tyro

        required = default is tyro.MISSING or default is tyro.MISSING_NONPROP
        return bool(self._common) and name not in self._common and not required and not _is_positional(marks)


def _default_of(field: dataclasses.Field[Any], parent: Any) -> Any:
    """The default of a field: that of ``parent``, where it is given, or the field's own."""
    import tyro

    if dataclasses.is_dataclass(parent):
        return getattr(parent, field.name)
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return tyro.MISSING_NONPROP


def _doc_of(cls: type[Any], name: str) -> str | None:
    """The docstring under a field, as one paragraph."""
    return next((docs[name] for docs in map(_docs_of, cls.__mro__) if name in docs), None)


@functools.cache
def _docs_of(cls: type[Any]) -> dict[str, str]:
    """The docstrings under the fields that the class itself defines."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):  # no source, as of object
        return {}
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for field, text in itertools.pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            docs[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return docs


def _nested_tuple(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """How tyro reads nested tuples of whole numbers: as they are written in Python; None for any other type."""
    from tyro.constructors import PrimitiveConstructorSpec

    if info.type != NESTED_TUPLE:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="TUPLE",
        instance_from_str=_written_tuple,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [repr(value)],
    )


def _written_tuple(texts: Sequence[str]) -> tuple[Any, ...]:
    try:
        value = ast.literal_eval(texts[0])
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: endless nesting
        value = None
    if not isinstance(value, tuple):
        raise ValueError(f"{texts[0]!r} is not a tuple such as (1, (1, 2), 1)")
    return value


__all__ = [
    "HELP_ALL_FLAG",
    "HELP_FLAGS",
    "SAVE_FLAG",
    "Command",
    "flags_of",
    "help_of",
    "parse",
    "suggestion",
    "wrapped",
]
