"""Write the toy data set: python bench/toy.py OUT."""

from ssn_feat.cli import run
from ssn_feat.commands import toy

if __name__ == "__main__":
    run(toy)
