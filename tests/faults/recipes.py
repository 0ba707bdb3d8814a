"""Features of two recipes meant for one store."""

from __future__ import annotations

import copy
import io
import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from extraction import small

from ssn_feat.errors import UserError
from ssn_feat.extraction import extract
from ssn_feat.store import open_or_create_store, open_store
from ssn_feat.store.stream_recipes import conflicts

from .outcome import Outcome, unforeseen
from .processes import Process, Work

# An option of extraction with another value, and what of it the refusal has to name.
_CHANGES: tuple[tuple[dict[str, Any], str], ...] = (
    ({"stride": 5}, "snippets.stride"),
    ({"flow_method": "farneback"}, "snippets.flow_method"),
    ({"short_side": 40}, "snippets.short_side"),
    ({"crops": "ten"}, "snippets.crops"),
    ({"flow_bound": 10.0}, "snippets.flow_bound"),
    ({"fps": 10.0}, "fps_of_images"),
    ({"backbone": ("tiny:overflowing",)}, "streams."),
)


def rounds(generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """A store made by one recipe is given another: refused, naming each field that differs; nothing is changed."""
    films = small.videos(folder / "videos", count=1)
    store = folder / "s.zarr"
    with redirect_stdout(io.StringIO()):
        extract(small.options(films, store))
    before = _files(store)
    recipe = open_store(store).recipe
    while True:
        changes, field = _CHANGES[generator.integers(len(_CHANGES))]
        other = small.options(films, store, **changes)
        yield Outcome(f"extraction with {changes}", _refused(lambda o=other: extract(o), [field], store, before))
        for _ in range(5):
            changed, fields = _changed(recipe, generator)
            failing = _refused(lambda c=changed: open_or_create_store(store, c), fields, store, before)
            yield Outcome(f"a recipe with other {', '.join(fields)}", failing)
        yield Outcome("two recipes for a new store at once", _race(folder / "race", recipe, generator))


def _files(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def _refused(attempt: Any, fields: list[str], store: Path, before: dict[str, bytes]) -> str:
    try:
        with redirect_stdout(io.StringIO()):
            attempt()
        return "it is not refused"
    except UserError as error:
        unnamed = [field for field in fields if field not in str(error)]
        if unnamed:
            return f"the message does not name {', '.join(unnamed)}: {error}"
    except Exception as error:
        return unforeseen(error)
    return "" if _files(store) == before else "the store was changed"


def _changed(recipe: dict[str, Any], generator: np.random.Generator) -> tuple[dict[str, Any], list[str]]:
    """A copy with one to three changes that contradict the recipe, and the dotted names of the fields that differ."""
    changed = copy.deepcopy(recipe)
    for _ in range(int(generator.integers(1, 4))):
        inner = changed
        while True:
            name = list(inner)[generator.integers(len(inner))] if inner else ""
            if isinstance(inner.get(name), dict) and inner[name] and generator.random() < 0.9:
                inner = inner[name]
                continue
            break
        what = generator.integers(3)
        if what == 0 and name:
            del inner[name]
        elif what == 1:
            inner[f"new-{int(generator.integers(100))}"] = int(generator.integers(100))
        elif name:
            inner[name] = [inner[name], float(generator.normal())]
    found = [name for name, _, _ in conflicts(recipe, changed)]
    return (changed, found) if found else _changed(recipe, generator)


def _race(folder: Path, recipe: dict[str, Any], generator: np.random.Generator) -> str:
    """Two processes make one store, each with a recipe of its own: one wins, the other one is refused."""
    folder.mkdir()
    changed, fields = _changed(recipe, generator)
    try:
        works = [Work(_open_or_create, (folder / "s.zarr", each), folder) for each in (recipe, changed)]
        ended = [process.end() for process in [Process(work) for work in works]]
        codes = sorted(end.code if end.code is not None else -1 for end in ended)
        if codes != [0, 2]:
            return f"exit codes {codes}: {' '.join(end.said for end in ended)[-300:]}"
        refusal = next(end.said for end in ended if end.code == 2)
        return "" if all(field in refusal for field in fields) else f"not all of {fields} in: {refusal}"
    finally:
        shutil.rmtree(folder)


def _open_or_create(path: Path, recipe: dict[str, Any]) -> None:
    open_or_create_store(path, recipe)
