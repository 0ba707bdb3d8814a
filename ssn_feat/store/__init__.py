"""The feature store: what extraction writes and everything else reads. Needs neither torch nor OpenCV."""

from ssn_feat.store.feature_store import Failure, FeatureStore, StoredVideo
from ssn_feat.store.files import StoreWriteError
from ssn_feat.store.recipe import differences, fingerprint

__all__ = ["Failure", "FeatureStore", "StoreWriteError", "StoredVideo", "differences", "fingerprint"]
