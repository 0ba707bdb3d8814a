"""mkdocs hooks: the pages of the site that are not files in ``docs/``.

These are README, CHANGELOG and CONTRIBUTING, the help of every command, and one page of the Python API for each room of
the package. mkdocs calls the functions below by their names.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from unittest import mock

from mkdocs.structure.files import File, Files

from ssn_feat.cli import choose
from ssn_feat.cli.options import help_of
from ssn_feat.commands import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
# Files of the repository and their names on the site.
COPIED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "CITATION.cff": "CITATION.cff",
}
_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):<code>~?([^<]*)</code>")


def rooms() -> list[str]:
    """The packages of ``ssn_feat`` in the order of the table in CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("## Order of rooms")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)/` \|", table, re.MULTILINE)


def on_config(config: Any) -> Any:
    """Add the generated pages to the section "Reference" of the navigation."""
    (reference,) = (section["Reference"] for section in config.nav if "Reference" in section)
    reference += [{"Commands": "commands.md"}, {"Modules": [f"api/{name}.md" for name in ["ssn_feat", *rooms()]]}]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    for source, name in COPIED.items():
        files.append(File.generated(config, name, content=_with_links(source)))
    files.append(File.generated(config, "commands.md", content=_commands_page()))
    files.append(File.generated(config, "api/ssn_feat.md", content=_api_page("ssn_feat")))
    for room in rooms():
        files.append(File.generated(config, f"api/{room}.md", content=_api_page(f"ssn_feat.{room}")))
    return files


def _with_links(source: str) -> str:
    """The text of a copied file, with links that are valid on the site."""
    text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
    for other, name in COPIED.items():
        text = text.replace(f"]({other})", f"]({name})")
    return text


def _commands_page() -> str:
    parts = [
        "# Commands",
        "The full help of every command, as `--help-all` prints it. The scripts of the repository are the same "
        "commands: `python train/fit.py` is `ssn-feat fit`.",
    ]
    with mock.patch.dict(os.environ, COLUMNS="100"):
        for name, _ in COMMANDS.leaves():
            command, _, prog = choose(COMMANDS, name.split(), "ssn-feat")
            parts += [f"## {prog}", f"```text\n{help_of(command, None, prog)}\n```"]
    return "\n\n".join(parts)


def _api_page(package: str) -> str:
    modules = [path.stem for path in sorted(ROOT.joinpath(*package.split(".")).glob("*.py"))]
    parts = [f"# {package}", f"::: {package}\n    options: {{members: false, show_root_heading: false}}"]
    return "\n\n".join([*parts, *(f"::: {package}.{name}" for name in modules if not name.startswith("__"))])


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Show Sphinx roles in docstrings as code, and drop the ``::`` that introduces a literal block."""
    html = _ROLE.sub(r"<code>\1</code>", html)
    return re.sub(r"<p>::</p>\n?", "", html).replace("::</p>", ":</p>")
