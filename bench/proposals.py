"""Compare proposals with the truth: python bench/proposals.py FILE.npz ... --annotations FILE --subset NAME."""

from ssn_feat.cli import run
from ssn_feat.evaluation.compare_proposals import CompareOptions, compare_proposals

if __name__ == "__main__":
    run(compare_proposals, CompareOptions)
