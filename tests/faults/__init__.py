"""Faults on purpose, at random: ``python -m tests.faults --help``, or ``make faults``. See docs/fault-tolerance.md."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
# Small videos, a backbone of no cost and small data sets of the other tests, in this process and in its children.
sys.path += [
    place for folder in (TESTS, TESTS / "extraction", TESTS / "video") if (place := str(folder)) not in sys.path
]
