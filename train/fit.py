"""Learn a head from a feature store, a backbone from videos, or both together.

python train/fit.py [PRESET | FILE.yaml] [options]
python train/fit.py [PRESET | FILE.yaml] --end-to-end [options]
python train/fit.py --head clips [options]
python train/fit.py sweep [PRESET | FILE.yaml] --vary OPTION=VALUE,VALUE ... [options]
"""

from ssn_feat.commands import fit

if __name__ == "__main__":
    fit()
