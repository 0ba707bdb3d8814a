#!/usr/bin/env python
"""python extract/status.py STORE"""

from ssn_feat.cli import run
from ssn_feat.extraction.maintenance import StatusOptions, print_status

if __name__ == "__main__":
    run(print_status, StatusOptions)
