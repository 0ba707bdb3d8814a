"""Detect actions in the videos of a store, or in one video file.

python train/detect.py [PRESET | FILE.yaml] --store S --proposals P --checkpoint RUN [RUN ...] [--save-model DIR]
python train/detect.py VIDEO --model DIR
"""

import sys

from ssn_feat.cli import run
from ssn_feat.detection.detect import PRESETS, DetectOptions, detect
from ssn_feat.detection.one_video import DetectVideoOptions, detect_video

if __name__ == "__main__":
    if any(argument.partition("=")[0] == "--model" for argument in sys.argv):
        run(detect_video, DetectVideoOptions)
    run(detect, DetectOptions, PRESETS)
