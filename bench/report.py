"""One page of HTML of all results: python bench/report.py RUN ... --annotations TRUTH --out report.html."""

from ssn_feat.cli import run
from ssn_feat.report.options import ReportOptions
from ssn_feat.report.page import report

if __name__ == "__main__":
    run(report, ReportOptions)
