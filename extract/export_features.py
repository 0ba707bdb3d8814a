#!/usr/bin/env python
"""python extract/export_features.py STORE OUT --format actionformer|opentad|bmn --annotations FILE"""

from ssn_feat.cli import run
from ssn_feat.exchange import ExportOptions, export_main

if __name__ == "__main__":
    run(export_main, ExportOptions)
