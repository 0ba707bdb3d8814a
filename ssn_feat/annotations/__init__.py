"""What is true of videos, read from and written to the formats of the field, in seconds."""

from ssn_feat.annotations.activitynet import read_activitynet, write_activitynet
from ssn_feat.annotations.dataset import Dataset, Instance, Video
from ssn_feat.annotations.sources import load

__all__ = ["Dataset", "Instance", "Video", "load", "read_activitynet", "write_activitynet"]
