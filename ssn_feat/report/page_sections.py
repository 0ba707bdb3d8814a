"""Sections of a page: text, tables and charts, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ssn_feat.drawing.html import Rows, section
from ssn_feat.report.charts import Chart


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
        placeholders = "".join(f'<div class="chart" data-chart="{name}"></div>' for name in charts)
        self.sections.append(
            section(title, lines, tables, f'<div class="charts">{placeholders}</div>' if charts else "")
        )
        self.titles.append(title)
        self.charts.update(charts)


__all__ = ["PageSections"]
