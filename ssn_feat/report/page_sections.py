"""What stands on a page: sections of text, tables and charts, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ssn_feat.drawing.html import Rows, section
from ssn_feat.report.charts import Chart


@dataclass
class PageSections:
    """Sections that are added one after the other."""

    titles: list[str] = field(default_factory=list)
    """Of the sections."""
    sections: list[str] = field(default_factory=list)
    """HTML of the sections, escaped."""
    charts: dict[str, Chart] = field(default_factory=dict)
    """By name; the sections hold places of these names."""

    def add(self, title: str, lines: Sequence[str], tables: Mapping[str, Rows], charts: Mapping[str, Chart]) -> None:
        """Add a section: lines of text, charts, tables by caption. Names of charts are of letters, digits and ``-``."""
        places = "".join(f'<div class="chart" data-chart="{name}"></div>' for name in charts)
        self.sections.append(section(title, lines, tables, f'<div class="charts">{places}</div>' if charts else ""))
        self.titles.append(title)
        self.charts.update(charts)


__all__ = ["PageSections"]
