"""The threat table in docs/security.md and the tests of this folder say the same; and what all of them rest on."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from conftest import ROOT

HERE = Path(__file__).resolve().parent


def test_every_row_of_the_table_has_its_test() -> None:
    table = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+)`", table)
    here, anywhere = names_of_tests(HERE), names_of_tests(HERE.parent)
    assert len(named) == len(set(named))
    assert here - {"test_every_row_of_the_table_has_its_test"} <= set(named) <= anywhere
    for row in [line for line in table.splitlines() if line.startswith("| ")][1:]:
        assert here & set(re.findall(r"`(test_\w+)`", row)), row


def names_of_tests(folder: Path) -> set[str]:
    texts = [path.read_text(encoding="utf-8") for path in folder.rglob("test_*.py")]
    return {name for text in texts for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]


def test_no_reader_trusts_a_file() -> None:
    """No call in the package reads a file in a way that could run what is in it, whoever wrote the call."""
    safe = {"torch.load": "weights_only=True", "np.lib.format.read_array": "allow_pickle=False"}
    never = {
        *("pickle.load", "pickle.loads", "joblib.load", "eval", "exec", "os.system", "os.popen", "marshal.loads"),
        *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all"),
        *("np.load", "numpy.load", "shelve.open", "__import__"),
    }
    seen, wrong = set(), []
    for path in sorted((ROOT / "ssn_feat").rglob("*.py")):
        for call in calls(path):
            name, words = ast.unparse(call.func), {ast.unparse(word) for word in call.keywords}
            seen.add(name)
            if name in never or (name in safe and safe[name] not in words) or "shell=True" in words:
                wrong.append(f"{path.relative_to(ROOT)}:{call.lineno}: {ast.unparse(call)}")
    assert wrong == []
    assert set(safe) <= seen
