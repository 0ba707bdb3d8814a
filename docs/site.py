"""What the site has that is no file in docs/: README, changes, a page of the API for every room, the navigation.

mkdocs calls the functions below by their names.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
# In the order in which data goes through them.
ROOMS = (
    *("video", "annotations", "backbones", "store", "exchange", "extraction", "heads", "runs", "proposals", "results"),
    *("drawing", "detection", "evaluation", "sampling", "training", "finetuning", "report"),
)
COPIED = {"index.md": "README.md", "changes.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):<code>~?([^<]*)</code>")


def on_config(config: Any) -> Any:
    """The navigation: the tour, the other guides in the order of their names, then the API."""
    guides = sorted((path.name for path in (ROOT / "docs").glob("*.md")), key=lambda name: (name != "tour.md", name))
    config.nav = [
        {"Start": "index.md"},
        {"Guides": guides},
        {"API": ["api/ssn_feat.md", *(f"api/{room}.md" for room in ROOMS)]},
        {"Project": ["changes.md", "contributing.md"]},
    ]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are made."""
    for name, source in COPIED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=re.sub(r"\]\(docs/", "](", text)))
    own = [p for p in sorted((ROOT / "ssn_feat").glob("*.py")) if p.stem not in ("__init__", "__main__")]
    files.append(File.generated(config, "api/ssn_feat.md", content=_page("ssn_feat", own)))
    for room in ROOMS:
        modules = [p for p in sorted((ROOT / "ssn_feat" / room).glob("*.py")) if not p.stem.startswith("__")]
        files.append(File.generated(config, f"api/{room}.md", content=_page(f"ssn_feat.{room}", modules)))
    return files


def _page(package: str, modules: list[Path]) -> str:
    parts = [f"# {package}", f"::: {package}\n    options: {{members: false, show_root_heading: false}}"]
    return "\n\n".join([*parts, *(f"::: {package}.{module.stem}" for module in modules)])


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """References of docstrings as plain names; the mark before a block of text is not shown."""
    html = _ROLE.sub(r"<code>\1</code>", html)
    return re.sub(r"<p>::</p>\n?", "", html).replace("::</p>", ":</p>")
