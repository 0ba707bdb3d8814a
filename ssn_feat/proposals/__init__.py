"""Temporal action proposals: sliding windows, actionness grouping (TAG), lists of proposals, their labels."""

from ssn_feat.proposals.actionness import action_probability, fuse_actionness, score_by_actionness
from ssn_feat.proposals.anchors import AnchorOptions, anchors
from ssn_feat.proposals.collection import Proposals
from ssn_feat.proposals.labelling import ProposalLabels, label_proposals
from ssn_feat.proposals.methods import Method, VideoData, load_method, propose_each
from ssn_feat.proposals.sliding import SlidingOptions, sliding_windows
from ssn_feat.proposals.ssn_lists import (
    ListedBlock,
    ListedVideo,
    list_blocks,
    listed_proposals,
    read_listed_videos,
    read_ssn_list,
    write_ssn_list,
)
from ssn_feat.proposals.tag import TagOptions, tag

__all__ = [
    "AnchorOptions",
    "ListedBlock",
    "ListedVideo",
    "Method",
    "ProposalLabels",
    "Proposals",
    "SlidingOptions",
    "TagOptions",
    "VideoData",
    "action_probability",
    "anchors",
    "fuse_actionness",
    "label_proposals",
    "list_blocks",
    "listed_proposals",
    "load_method",
    "propose_each",
    "read_listed_videos",
    "read_ssn_list",
    "score_by_actionness",
    "sliding_windows",
    "tag",
    "write_ssn_list",
]
