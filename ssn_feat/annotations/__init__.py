"""Annotations of videos: data structures, readers and writers. All times are in seconds."""

from ssn_feat.annotations.activitynet import read_activitynet, write_activitynet
from ssn_feat.annotations.csv_tables import read_csv, write_csv
from ssn_feat.annotations.dataset import Dataset, Instance, Video
from ssn_feat.annotations.dialects import read_annotations
from ssn_feat.annotations.multithumos import read_multithumos
from ssn_feat.annotations.thumos14 import read_thumos14

__all__ = [
    "Dataset",
    "Instance",
    "Video",
    "read_activitynet",
    "read_annotations",
    "read_csv",
    "read_multithumos",
    "read_thumos14",
    "write_activitynet",
    "write_csv",
]
