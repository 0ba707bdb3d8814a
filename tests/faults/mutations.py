"""What hypothesis makes of a valid file: other bytes, other lines, other values, other arrays."""

from __future__ import annotations

import copy
import io
import json
import math
from typing import Any

import numpy as np
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

_NUMBERS = (-1, 0, 1, 2, 0.5, 10**6, 2**31, 2**63, 10**30, 1e308, -0.0, math.nan, math.inf, -math.inf)
_WORDS = (
    "",
    "nan",
    "inf",
    "-1",
    "1e400",
    "0x10",
    "1_000",
    "\x00",
    "\ud800",
    "..",
    "/etc/passwd",
    "v_",
    "#",
    "9" * 5000,
)
_SCALARS = st.one_of(st.none(), st.booleans(), st.sampled_from(_NUMBERS), st.sampled_from(_WORDS), st.text(max_size=8))
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_TYPES = ("f2", "f4", "f8", "i8", "u1", "?", "c16", "U3", "S3", "M8[s]", "O", "f4,i4")
_SHAPES = ((), (0,), (1,), (3,), (3, 2), (0, 2), (2, 3, 4))


def examples(strategy: SearchStrategy[Any], count: int, number: int) -> list[Any]:
    """``count`` examples, the same for the same ``number``."""
    found: list[Any] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example: Any) -> None:
        found.append(example)

    collect()
    return found


@st.composite
def other_bytes(draw: DrawFn, whole: bytes) -> bytes:
    """One to three times: a byte changed, bytes cut out, put in, repeated, or the end missing."""
    data = whole
    for _ in range(draw(st.integers(1, 3))):
        at, length = draw(st.integers(0, len(data))), draw(st.sampled_from([1, 2, 16, 200]))
        change = draw(st.sampled_from(["change", "cut", "put", "repeat", "end"]))
        noise = draw(st.binary(min_size=1, max_size=4))
        middle = {"change": noise, "put": noise + data[at : at + length], "repeat": 2 * data[at : at + length]}
        data = data[:at] + middle.get(change, b"") + (b"" if change == "end" else data[at + length :])
    return data


@st.composite
def other_lines(draw: DrawFn, whole: str, between: str | None = None) -> bytes:
    """One to three times: a cell (``between`` parts them) is another word, or a line is gone, twice or elsewhere."""
    lines = whole.split("\n")
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        change = draw(st.sampled_from(["cell", "cell", "cell", "cells", "gone", "twice", "moved"]))
        if change.startswith("cell"):
            cells = lines[at].split(between) or [""]
            if change == "cells":
                cells += draw(st.lists(st.sampled_from(_WORDS), max_size=2))
            else:
                cells[draw(st.integers(0, len(cells) - 1))] = draw(st.sampled_from(_WORDS) | st.text(max_size=6))
            lines[at] = (between or " ").join(cells)
        elif change == "twice":
            lines.insert(at, lines[at])
        else:
            line = lines.pop(at)
            if change == "moved" or not lines:
                lines.insert(draw(st.integers(0, len(lines))), line)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


@st.composite
def other_tree(draw: DrawFn, whole: Any, values: SearchStrategy[Any] = _VALUES) -> Any:
    """One to three times: a value anywhere in dicts and lists is another one, gone, or under another name."""
    tree = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        if not isinstance(tree, dict | list) or not tree:
            return draw(values)
        holder = tree
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            key = draw(st.sampled_from(keys))
            if isinstance(holder[key], dict | list) and holder[key] and draw(st.integers(0, 9)):
                holder = holder[key]
                continue
            break
        change = draw(st.sampled_from(["value", "value", "gone", "named"]))
        if change == "value":
            holder[key] = draw(values)
        else:
            value = holder.pop(key)
            if change == "named" and isinstance(holder, dict):
                holder[draw(st.text(max_size=5))] = value
    return tree


def other_json(whole: Any) -> SearchStrategy[bytes]:
    """Other bytes of a JSON document, or a document of other values."""
    text = json.dumps(whole)
    return st.one_of(
        other_tree(whole).map(lambda tree: json.dumps(tree).encode()),
        other_bytes(text.encode()),
        st.sampled_from(
            [b"[" * 100000, b'{"a":' * 100000, b"", b"null", b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16")]
        ),
        st.just(text.replace("1", "1" * 5000, 1).encode()),  # more digits than Python turns into a number
    )


def other_yaml(whole: Any, command: str) -> SearchStrategy[bytes]:
    """Other bytes or values of a YAML document, or one that tries to run ``command``."""
    text = yaml.safe_dump(whole)
    hostile = [
        f"!!python/object/apply:os.system ['{command}']",
        f"store: !!python/object/apply:os.system ['{command}']",
    ]
    bomb = "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\n"
    odd = [
        "",
        "- 1",
        "{",
        "a: [" * 3000,
        "a: 2020-99-99",
        "a: " + "9" * 5000,
        "? [a]\n: b",
        "\t",
        "%YAML 9.9\n---\na: 1",
    ]
    return st.one_of(
        other_tree(whole).map(lambda tree: yaml.dump(tree, allow_unicode=False).encode("utf-8", "surrogatepass")),
        other_bytes(text.encode()),
        st.sampled_from([line.encode() for line in [*hostile, bomb, *odd]]),
    )


@st.composite
def _array(draw: DrawFn) -> np.ndarray:
    dtype, shape = np.dtype(draw(st.sampled_from(_TYPES))), draw(st.sampled_from(_SHAPES))
    array = np.zeros(shape, dtype)
    if dtype.kind in "fiu" and array.size and not dtype.names:
        number = draw(st.sampled_from([-1, 1, 3, 255] + ([math.nan, math.inf] if dtype.kind == "f" else [])))
        array.flat[draw(st.integers(0, array.size - 1))] = np.array(number).astype(dtype)
    return array


def other_npz(whole: dict[str, np.ndarray], evil: object, header: str = "") -> SearchStrategy[bytes]:
    """Other arrays, or other bytes, of an archive; ``header`` names the array that holds JSON."""

    @st.composite
    def arrays(draw: DrawFn) -> bytes:
        changed = dict(whole)
        for _ in range(draw(st.integers(1, 2))):
            name = draw(st.sampled_from(sorted(whole)))
            change = draw(st.sampled_from(["array", "array", "gone", "evil", "row", "header"]))
            if change == "gone":
                changed.pop(name, None)
            elif change == "evil":
                changed[name] = np.array([evil], dtype=object)
            elif change == "header" and header:
                tree = draw(other_tree(json.loads(bytes(whole[header]))))
                changed[header] = np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8)
            elif change == "row" and name in changed and changed[name].ndim:
                changed[name] = changed[name][:-1]
            else:
                changed[name] = draw(_array())
        return _npz(changed)

    return arrays() | other_bytes(_npz(whole))


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def other_checkpoint(whole: dict[str, Any], evil: object) -> SearchStrategy[bytes]:
    """Other values and tensors of a checkpoint, other bytes of it, or one that tries to run code."""
    tensors = st.sampled_from(
        [torch.zeros(0), torch.zeros(3), torch.full((2, 2), math.nan), torch.zeros(2, dtype=torch.int8)]
    )
    tree = other_tree(whole, _VALUES | tensors).map(_saved)
    hostile = [_saved(evil), _saved(whole | {"labels": evil}), _saved([whole])]
    return st.one_of(tree, other_bytes(_saved(whole)), st.sampled_from(hostile))


def _saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()
