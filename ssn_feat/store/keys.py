"""Names of files for ids of videos: ids are data and may hold anything, names of files may not.

A key is the id, percent-encoded byte by byte except for ``a-z 0-9 - _``. Encoding capital letters and dots as well
makes keys safe where case does not count (two ids that differ in case only stay two files), where names such as ``con``
or names that end in a dot are forbidden, and against ``..`` and hidden files. ``urllib.parse.unquote`` gives the id
back.
"""

from __future__ import annotations

import hashlib
from urllib.parse import unquote_to_bytes

from ssn_feat.errors import UserError

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")
# Names that Windows keeps for devices, in any case and with any extension.
_DEVICES = frozenset(["con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(10))])
# File systems allow 255 bytes; a longer key is cut and told apart by a hash. "~" occurs in no other key.
_LONGEST = 160
_HEAD = 100
_MARK = "~"


def key_of(video_id: str) -> str:
    """The name under which a video is stored; equal keys mean equal ids. Raises UserError for the empty id."""
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
    """The id that a key stands for; None for a key that was cut (its id is in the video's attributes)."""
    return None if _MARK in key else unquote_to_bytes(key).decode("utf-8", "surrogatepass")
