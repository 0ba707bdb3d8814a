"""Options and YAML: frozen dataclasses as plain dicts, and back with every value checked."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ssn_feat.errors import UserError
from ssn_feat.files import write_text
from ssn_feat.hashes import read_checked
from ssn_feat.terminal import printable, printable_lines

if TYPE_CHECKING:
    import cattrs

T = TypeVar("T")
# Values in a file of options, counting those that aliases repeat.
_MOST_VALUES = 1_000_000

# The type of options such as the pyramid (1, (1, 2), 1).
NESTED_TUPLE = tuple[int | tuple[int, ...], ...]


def _nested(value: Any) -> Any:
    return tuple(_nested(item) for item in value) if isinstance(value, list | tuple) else value


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


@cache
def _converter() -> cattrs.Converter:
    import cattrs  # takes longer to import than commands like status may take to start

    converter = cattrs.Converter(forbid_extra_keys=True)
    # cattrs would convert silently (3.7 to 3, "no" to True); a configuration file is checked instead.
    for kind, hook in ((int, _whole), (float, _real), (bool, _truth), (str, _text)):
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook(Path, lambda value, _: Path(value))
    converter.register_structure_hook_func(lambda t: t == NESTED_TUPLE, lambda value, _: _nested(value))
    converter.register_structure_hook_func(lambda t: t == tuple[str, ...], lambda value, _: _texts(value))
    return converter


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
    if unknown := _known(cls, values)[1]:
        reasons = removed_options(cls)
        why = {name: reasons.get(name.rpartition(".")[2], "") for name in unknown}
        # Names in a damaged file may hold line breaks.
        listed = ", ".join(printable(name) + (f" ({reason})" if reason else "") for name, reason in why.items())
        raise UserError(f"{source} has options that this version does not have: {listed}; remove them")
    try:
        return _converter().structure(values, cls)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    except Exception as error:  # cattrs collects the errors of all fields in an exception group
        for cause in _leaves(error):
            if isinstance(cause, UserError):
                raise UserError(f"{source}: {cause}") from None
        from cattrs import transform_error

        told = "; ".join(transform_error(error, format_exception=_say))
        raise UserError(f"{source}: {' '.join(told.split())}") from None


def from_record(cls: type[T], values: Mapping[str, Any], source: str) -> T:
    """Options from a record that another version may have written: keys that ``cls`` does not have are left out.

    A note on standard error names them. Raises UserError as :func:`from_dict`.
    """
    known, unknown = _known(cls, values)
    if unknown:
        said = f"note: {source} has options that this version does not have: {', '.join(map(printable, unknown))}"
        print(printable_lines(said), file=sys.stderr)
    return from_dict(cls, known, source)


def removed_options(cls: Any) -> dict[str, str]:
    """Options that ``cls``, or options inside it, had in an earlier version, and why they were removed.

    A class lists them in its attribute ``REMOVED``.
    """
    removed = dict(getattr(cls, "REMOVED", {}))
    for hint in typing.get_type_hints(cls).values():
        if dataclasses.is_dataclass(hint):
            removed |= removed_options(hint)
    return removed


def _known(cls: Any, values: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Any], list[str]]:
    """The part of ``values`` that the dataclass ``cls`` has fields for, and the dotted names of the rest."""
    hints = {field.name: typing.get_type_hints(cls)[field.name] for field in dataclasses.fields(cls)}
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
    from cattrs.v import format_exception

    return str(error) if isinstance(error, ValueError) else format_exception(error, kind)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def as_yaml(options: Any) -> str:
    """Options as YAML that :func:`load_yaml` and every script read back."""
    import yaml

    text: str = yaml.safe_dump(to_dict(options), sort_keys=False, allow_unicode=True)
    return text


def save_yaml(options: Any, path: Path) -> None:
    """Write options as by :func:`as_yaml`. Raises UserError if the file cannot be written."""
    write_text(path, as_yaml(options))


def load_yaml(cls: type[T], path: Path) -> T:
    """Options from a YAML file. Raises UserError naming the file and the field that is wrong."""
    return from_file(cls, read_yaml(path), path)


def from_file(cls: type[T], values: Mapping[str, Any], path: Path) -> T:
    """Options from ``values``, which were read from the YAML file ``path``.

    A run may have been written by another version: unknown options in its config.yaml are ignored with a note. In any
    other file they are errors. Raises UserError as :func:`from_dict`.
    """
    of_a_run = path.name == "config.yaml" and (path.parent / "environment.json").is_file()
    return (from_record if of_a_run else from_dict)(cls, values, str(path))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds. Raises UserError if it cannot be read or holds something else."""
    import yaml

    try:
        values = yaml.safe_load(read_checked(path).decode("utf-8-sig"))
        _require_small(values)
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no text, or a date that is none
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold a mapping of option names to values, not {type(values).__name__}")
    return values


def _require_small(values: Any) -> None:
    """Raise ValueError for values that aliases multiply, or that contain themselves."""
    waiting, count = [values], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if count > _MOST_VALUES:
            raise ValueError(f"its aliases stand for more than {_MOST_VALUES:,} values")
        if isinstance(value, Mapping | list):
            waiting.extend(value.values() if isinstance(value, Mapping) else value)


__all__ = [
    "as_yaml",
    "from_dict",
    "from_file",
    "from_record",
    "load_yaml",
    "read_yaml",
    "removed_options",
    "save_yaml",
    "to_dict",
]
