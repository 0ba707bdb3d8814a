"""Sections of a page: text, tables and charts, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ssn_feat.drawing.html import Rows, section
from ssn_feat.report.charts import Chart
from ssn_feat.report.glossary import TERMS


@dataclass
class PageSections:
    """The sections of a page in order."""

    titles: list[str] = field(default_factory=list)
    """Titles of the sections."""
    sections: list[str] = field(default_factory=list)
    """HTML of the sections, escaped."""
    charts: dict[str, Chart] = field(default_factory=dict)
    """Charts by name; the sections hold placeholders with these names."""

    def add(self, title: str, lines: Sequence[str], tables: Mapping[str, Rows], charts: Mapping[str, Chart]) -> None:
        """Add a section of lines, charts and tables; names of charts consist of letters, digits and ``-``."""
        self.add_html(title, section(title, lines, tables, self.placeholders(charts), TERMS))

    def add_html(self, title: str, html: str) -> None:
        """Add a section that is already HTML."""
        self.sections.append(html)
        self.titles.append(title)

    def placeholders(self, charts: Mapping[str, Chart]) -> str:
        """Places for charts as HTML; the charts become part of the page."""
        self.charts.update(charts)
        places = "".join(f'<div class="chart" data-chart="{name}"></div>' for name in charts)
        return f'<div class="charts">{places}</div>' if charts else ""


__all__ = ["PageSections"]
