"""One page of HTML of all results: python bench/report.py RUN ... --annotations TRUTH --out report.html."""

from ssn_feat.cli import run
from ssn_feat.commands import report

if __name__ == "__main__":
    run(report)
