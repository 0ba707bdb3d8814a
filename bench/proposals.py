"""Compare proposals with the truth: python bench/proposals.py FILE.npz ... --annotations FILE --subset NAME."""

from ssn_feat.cli import run
from ssn_feat.commands import proposals

if __name__ == "__main__":
    run(proposals)
