"""Where an action may be: sliding windows, actionness grouping (TAG), lists of proposals, their match with truth."""

from ssn_feat.proposals.collection import Proposals

__all__ = ["Proposals"]
