"""Detect actions in the videos of a store, or in one video file.

python train/detect.py [PRESET | FILE.yaml] --store S --proposals P --checkpoint RUN [RUN ...] [--save-model DIR]
python train/detect.py VIDEO --model DIR
"""

from ssn_feat.commands import detect

if __name__ == "__main__":
    detect()
