"""Every file is written by ssn_feat/files.py, or below the temporary name that it gives."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from conftest import ROOT

# Writers with a protocol of their own: the store commits folders, the others hold what can be made again.
OTHERS = {
    "ssn_feat/files.py",
    "ssn_feat/store/local_backend.py",
    "ssn_feat/store/packed.py",
    "ssn_feat/store/staging.py",
    "ssn_feat/video/cache.py",
    "ssn_feat/annotations/toy.py",  # cv2 chooses the format of a video by the ending of its name
    "ssn_feat/extraction/worker_pools.py",  # empty files that count workers
    "ssn_feat/cli/dispatch.py",  # os.devnull
}
METHODS = {
    *("write_text", "write_bytes", "savefig", "tofile", "to_csv", "dump_stats", "touch"),
    *("copyfile", "copy", "copy2", "copytree", "move", "mkstemp", "NamedTemporaryFile"),
}
FUNCTIONS = {
    *("np.save", "np.savez", "np.savez_compressed", "np.savetxt", "np.lib.format.write_array", "torch.save"),
    *("json.dump", "yaml.dump", "pickle.dump", "joblib.dump", "cv2.imwrite", "cv2.VideoWriter", "os.open"),
    *("os.replace", "os.rename", "os.link"),
}
OWN = {"write_text", "write_bytes"}  # also names of functions of ssn_feat/files.py
NOT_FILES = {"copy.copy"}


def test_every_file_is_written_in_one_way() -> None:
    wrong = []
    for path in sorted((ROOT / "ssn_feat").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name not in OTHERS:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            wrong += [f"{name}:{call.lineno}: {ast.unparse(call)[:80]}" for call in writers(tree)]
    assert wrong == []


def writers(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that write a file, outside of ``with replacing(...)``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.With) and any("replacing(" in ast.unparse(item) for item in node.items):
            continue
        if isinstance(node, ast.Call) and writes(node):
            yield node
        yield from writers(node)


def writes(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    if name in FUNCTIONS:
        return True
    if last in METHODS:
        return name != last and name not in NOT_FILES and not name.endswith(".copy")
    words = [*call.args, *(word.value for word in call.keywords if word.arg == "mode")]
    modes = [word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)]
    return last in ("open", "ZipFile", "File", "fdopen") and any(
        set(mode) & set("wax+") for mode in modes if len(mode) < 4
    )


def test_writers_are_recognised() -> None:
    source = """
path.write_text("a")
with path.open("w") as file: pass
with open(path, mode="ab") as file: pass
np.savez(path, a=1)
torch.save(1, path)
figure.savefig(path)
zipfile.ZipFile(path, "w")
shutil.copyfile(a, b)
with replacing(path) as part:
    part.write_text("a")
path.read_text()
path.open("rb")
write_text(path, "a")
array.copy()
"""
    assert [call.lineno for call in writers(ast.parse(source))] == [2, 3, 4, 5, 6, 7, 8, 9]
