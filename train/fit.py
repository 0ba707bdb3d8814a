"""Train a head on the features of a store, the network of one stream on videos, or both together.

python train/fit.py head ssn|actionness [PRESET | FILE.yaml] [options]
python train/fit.py backbone [FILE.yaml] [options]
python train/fit.py end-to-end [PRESET | FILE.yaml] [options]
python train/fit.py sweep ssn|actionness [PRESET | FILE.yaml] --vary OPTION=VALUE,VALUE ... [options]
"""

from ssn_feat.cli import run
from ssn_feat.commands import FIT

if __name__ == "__main__":
    run(FIT)
