#!/usr/bin/env python
"""python extract/verify.py STORE [--repair]"""

from ssn_feat.cli import run
from ssn_feat.commands import verify

if __name__ == "__main__":
    run(verify)
