"""What the library offers is documented and typed: read from the sources, nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "ssn_feat"
MODULES = sorted(PACKAGE.rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def public(body: list[ast.stmt]) -> Iterator[Definition]:
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node


def untyped(node: Function) -> Iterator[str]:
    """Parameters (but self and cls) without a type, and ``return``."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    arguments += [a for a in (node.args.vararg, node.args.kwarg) if a is not None]
    yield from (a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls"))
    if node.returns is None:
        yield "return"


def test_modules_functions_and_classes_say_what_they_are() -> None:
    bare = []
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        bare += [] if ast.get_docstring(tree) else [name_of(path)]
        bare += [f"{name_of(path)}: {node.name}" for node in public(tree.body) if not ast.get_docstring(node)]
    assert bare == []


def test_public_functions_and_methods_are_typed() -> None:
    missing = []
    for path in MODULES:
        functions: list[Function] = []
        for node in public(ast.parse(path.read_text(encoding="utf-8")).body):
            if isinstance(node, ast.ClassDef):
                functions += [m for m in public(node.body) if isinstance(m, Function)]
            else:
                functions.append(node)
        missing += [
            f"{name_of(path)}: {node.name}: {', '.join(untyped(node))}" for node in functions if [*untyped(node)]
        ]
    assert missing == []


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=name_of)
def test_what_a_room_offers_is_listed_and_there(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        and node.module != "__future__"
        and (node.module or "").startswith("ssn_feat")
        for alias in node.names
    }
    listed = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and [t.id for t in node.targets if isinstance(t, ast.Name)] == ["__all__"]
    ]
    if imported:
        assert len(listed) == 1, "names that a room imports to offer them are listed in __all__"
        assert imported <= set(listed[0])
        assert len(listed[0]) == len(set(listed[0]))


def test_types_are_for_others_too() -> None:
    assert (PACKAGE / "py.typed").read_bytes() == b""
