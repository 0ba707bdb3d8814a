"""Detect actions in the videos of a store, or in one video file.

python train/detect.py store [PRESET | FILE.yaml] --store S --proposals P --checkpoint RUN [RUN ...] [--save-model DIR]
python train/detect.py video VIDEO --model DIR
"""

from ssn_feat.cli import run
from ssn_feat.commands import DETECT

if __name__ == "__main__":
    run(DETECT)
