"""Write the toy data set: python bench/toy.py OUT."""

from ssn_feat.annotations.toy import ToyCommand, make_toy
from ssn_feat.cli import run

if __name__ == "__main__":
    run(make_toy, ToyCommand)
