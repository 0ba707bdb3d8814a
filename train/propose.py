"""Propose where actions may be: python train/propose.py --store S --actionness RUN --out PROPOSALS.npz."""

from ssn_feat.cli import run
from ssn_feat.commands import propose

if __name__ == "__main__":
    run(propose)
