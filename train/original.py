"""Checkpoints of the original SSN code: python train/original.py import FILE ... | export RUN --out FILE."""

from ssn_feat.cli import run
from ssn_feat.commands import ORIGINAL

if __name__ == "__main__":
    run(ORIGINAL)
