#!/usr/bin/env python
"""python extract/status.py STORE"""

from ssn_feat.cli import run
from ssn_feat.commands import status

if __name__ == "__main__":
    run(status)
