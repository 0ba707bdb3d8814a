"""File names for ids of videos, which may contain any character.

A key is the id, percent-encoded byte by byte except for ``a-z 0-9 - _``. Capital letters and dots are encoded as well,
so that ids that differ only in case stay apart on case-insensitive file systems, and names such as ``con``, ``..``,
hidden files and a dot at the end cannot occur. ``urllib.parse.unquote`` returns the id.
"""

from __future__ import annotations

import hashlib
from urllib.parse import unquote_to_bytes

from ssn_feat.errors import UserError

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")
# Names that Windows reserves for devices, in any case and with any extension.
_DEVICES = frozenset(["con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(10))])
# File systems allow 255 bytes; a longer key is shortened and ends in a hash. "~" does not occur in other keys.
_LONGEST = 160
_HEAD = 100
_MARK = "~"


def key_of(video_id: str) -> str:
    """The name under which a video is stored; different ids have different keys. Raises UserError for an empty id."""
    if not video_id:
        raise UserError("a video's id must not be empty")
    raw = video_id.encode("utf-8", "surrogatepass")
    encoded = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02x}" for byte in raw)
    # "__" at the start is reserved by Zarr.
    if encoded in _DEVICES or encoded.startswith("__"):
        encoded = f"%{raw[0]:02x}{encoded[1:]}"
    if len(encoded) <= _LONGEST:
        return encoded
    head = encoded[:_HEAD].rpartition("%")[0] if "%" in encoded[_HEAD - 2 : _HEAD] else encoded[:_HEAD]
    return f"{head}{_MARK}{hashlib.sha256(raw).hexdigest()[:40]}"


def id_of(key: str) -> str | None:
    """The id of a key; None for a shortened key, whose id is in the attributes of the video."""
    return None if _MARK in key else unquote_to_bytes(key).decode("utf-8", "surrogatepass")


__all__ = ["id_of", "key_of"]
