"""The feature store: what extraction writes and everything else reads. Needs neither torch nor OpenCV."""

from ssn_feat.store.arrays import Compression
from ssn_feat.store.backends import location
from ssn_feat.store.feature_store import FeatureStore
from ssn_feat.store.files import StoreReadError, StoreWriteError
from ssn_feat.store.inspect import StoreStatus, Verification, status, verify
from ssn_feat.store.packed import PackedStore, pack
from ssn_feat.store.recipe import differences, fingerprint
from ssn_feat.store.records import Failure, StoredVideo

__all__ = [
    "Compression",
    "Failure",
    "FeatureStore",
    "PackedStore",
    "StoreReadError",
    "StoreStatus",
    "StoreWriteError",
    "StoredVideo",
    "Verification",
    "differences",
    "fingerprint",
    "location",
    "pack",
    "status",
    "verify",
]
