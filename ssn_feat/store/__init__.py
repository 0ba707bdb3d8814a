"""The feature store, which extraction writes and everything else reads. Needs neither torch nor OpenCV."""

from ssn_feat.store.arrays import Compression
from ssn_feat.store.feature_store import FeatureStore
from ssn_feat.store.inspection import StoreStatus, Verification, status, verify
from ssn_feat.store.location import location
from ssn_feat.store.opening import create_store, open_or_create_store, open_store, store_exists
from ssn_feat.store.packed import PackedStore, pack
from ssn_feat.store.recipe import differences, fingerprint
from ssn_feat.store.staging import StoreReadError, StoreWriteError
from ssn_feat.store.stored_video import FailedVideo, StoredVideo

__all__ = [
    "Compression",
    "FailedVideo",
    "FeatureStore",
    "PackedStore",
    "StoreReadError",
    "StoreStatus",
    "StoreWriteError",
    "StoredVideo",
    "Verification",
    "create_store",
    "differences",
    "fingerprint",
    "location",
    "open_or_create_store",
    "open_store",
    "pack",
    "status",
    "store_exists",
    "verify",
]
