"""The feature store: what extraction writes and everything else reads. Needs neither torch nor OpenCV."""

from ssn_feat.store.arrays import Compression
from ssn_feat.store.feature_store import Failure, FeatureStore, StoredVideo
from ssn_feat.store.files import StoreWriteError
from ssn_feat.store.inspect import StoreStatus, Verification, status, verify
from ssn_feat.store.packed import PackedStore, pack
from ssn_feat.store.recipe import differences, fingerprint

__all__ = [
    "Compression",
    "Failure",
    "FeatureStore",
    "PackedStore",
    "StoreStatus",
    "StoreWriteError",
    "StoredVideo",
    "Verification",
    "differences",
    "fingerprint",
    "pack",
    "status",
    "verify",
]
