#!/usr/bin/env python
"""python extract/remove.py STORE ID ... | --streams NAME | --failed"""

from ssn_feat.cli import run
from ssn_feat.commands import remove

if __name__ == "__main__":
    run(remove)
