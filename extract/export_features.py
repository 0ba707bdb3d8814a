#!/usr/bin/env python
"""python extract/export_features.py STORE OUT --format actionformer|opentad|bmn --annotations FILE"""

from ssn_feat.cli import run
from ssn_feat.commands import export_features

if __name__ == "__main__":
    run(export_features)
