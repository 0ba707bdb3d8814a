"""Checkpoints of the original SSN code: python train/original.py import FILE ... | export RUN --out FILE."""

from ssn_feat.commands import original

if __name__ == "__main__":
    original()
