"""Imports point one way: every room imports only those before it, and no files import each other in a circle.

The order of rooms is the one that CONTRIBUTING.md shows. Imports inside functions count; those under ``TYPE_CHECKING``,
which never run, do not.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT

PACKAGE = "ssn_feat"


class Import(NamedTuple):
    """One import of a module of the package."""

    module: str
    line: int
    target: str


def order_of_rooms(text: str) -> list[str]:
    """The rooms of the table in CONTRIBUTING.md, each of which imports only those before it."""
    table = text.partition("## Order of rooms")[2].partition("\n## ")[0]
    return [name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)/?`", row)]


def modules_of(root: Path) -> dict[str, str]:
    """The source of every module of the package by its dotted name; a package is named like its folder."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path.read_text("utf-8")
        for path in sorted((root / PACKAGE).rglob("*.py"))
    }


def imports_of(modules: Mapping[str, str]) -> list[Import]:
    """Every import of one module of the package by another."""
    return [
        Import(module, line, target)
        for module, source in modules.items()
        for line, target in _targets(ast.parse(source), modules)
        if target != module
    ]


def _targets(tree: ast.AST, modules: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    for node in _running(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports from {PACKAGE} on, not relative ones"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.partition(".")[0] == PACKAGE:
                yield node.lineno, name if name in modules else name.rpartition(".")[0]


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below ``node`` but the bodies of ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _running(child)


def room_of(module: str) -> str:
    """The folder of a module below the package, or the module itself; ``__init__`` for the package."""
    return [*module.split("."), "__init__"][1]


def imports_against_order(modules: Mapping[str, str], rooms: list[str]) -> list[str]:
    """Imports of rooms that come after the importing one in the order, each with its line."""
    return [
        f"{each.module}, line {each.line}: {own} may not import {other}, which comes after it"
        for each in imports_of(modules)
        for own, other in [(room_of(each.module), room_of(each.target))]
        if rooms.index(other) > rooms.index(own)
    ]


def circle(modules: Mapping[str, str]) -> list[str]:
    """The imports of one circle of files, each with its line; empty where there is none."""
    found = imports_of(modules)
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for each in found:
        graph[each.module].add(each.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        files = error.args[1]
        pairs = set(zip(files[1:], files, strict=False))
        return [f"{i.module}, line {i.line}: imports {i.target}" for i in found if (i.module, i.target) in pairs]
    return []


@pytest.fixture(scope="module")
def modules() -> dict[str, str]:
    return modules_of(ROOT)


@pytest.fixture(scope="module")
def rooms() -> list[str]:
    return order_of_rooms((ROOT / "CONTRIBUTING.md").read_text("utf-8"))


def test_every_room_has_its_place_in_the_order(modules: dict[str, str], rooms: list[str]) -> None:
    assert len(rooms) == len(set(rooms))
    assert set(rooms) == {room_of(module) for module in modules}


def test_no_room_imports_one_that_comes_after_it(modules: dict[str, str], rooms: list[str]) -> None:
    assert imports_against_order(modules, rooms) == []


def test_no_files_import_each_other_in_a_circle(modules: dict[str, str]) -> None:
    assert circle(modules) == []


def test_an_import_against_the_order_is_named_with_its_line(modules: dict[str, str], rooms: list[str]) -> None:
    source = modules["ssn_feat.store.keys"]
    changed = {
        **modules,
        "ssn_feat.store.keys": f"{source}\ndef f():\n    from ssn_feat.training.loop import run_epochs\n",
    }
    line = source.count("\n") + 3
    assert imports_against_order(changed, rooms) == [
        f"ssn_feat.store.keys, line {line}: store may not import training, which comes after it"
    ]


def test_a_circle_is_named_with_its_lines() -> None:
    made = {"ssn_feat.a": "import ssn_feat.b", "ssn_feat.b": "\ndef f():\n    from ssn_feat import a", "ssn_feat": ""}
    assert circle(made) == ["ssn_feat.a, line 1: imports ssn_feat.b", "ssn_feat.b, line 3: imports ssn_feat.a"]
    made["ssn_feat.b"] = "if TYPE_CHECKING:\n    from ssn_feat import a"
    assert circle(made) == []
