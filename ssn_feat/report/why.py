"""What became of every instance, and what to try next, as a section of the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ssn_feat.drawing.html import explained, section, table
from ssn_feat.evaluation.explanation import Advice, Explanation
from ssn_feat.evaluation.explanation_output import COLUMNS, sentences, table_rows
from ssn_feat.report.glossary import TERMS
from ssn_feat.report.page_sections import PageSections


def add_explanations(content: PageSections, explanations: Sequence[Explanation]) -> None:
    """Add the section on the first file, with those on the others folded."""
    first, *others = explanations
    folded = [f"<details><summary>{escape(e.name)}</summary>\n{_explanation(e)}\n</details>" for e in others]
    content.add_html("Why", section("Why", [], {}, "\n".join([_explanation(first), *folded])))


def _explanation(explanation: Explanation) -> str:
    parts = [f"<p>{explained(line, TERMS)}</p>" for line in sentences(explanation, "a file of proposals to the inputs")]
    rows = {name: dict(zip(COLUMNS, cells, strict=True)) for name, cells in table_rows(explanation).items()}
    parts.append(table(f"{explanation.name}: instances by what became of them", rows, TERMS))
    if explanation.advice:
        advice = "\n".join(map(_advice, explanation.advice))
        parts.append(f'<h3>What to try next</h3>\n<ol class="advice">\n{advice}\n</ol>')
    return "\n".join(parts)


def _advice(advice: Advice) -> str:
    commands = "".join(f"<pre><code>{escape(command)}</code></pre>" for command in advice.commands)
    return f"<li>{explained(advice.sentence, TERMS)}{commands}</li>"


__all__ = ["add_explanations"]
