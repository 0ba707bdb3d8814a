"""The backend of a store, by its local path or URL."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from ssn_feat.errors import UserError
from ssn_feat.store.backends import StoreBackend
from ssn_feat.store.local_backend import LocalBackend
from ssn_feat.store.object_backend import ObjectBackend

# A scheme of one letter would be a Windows drive.
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)


def location(path: Path | str) -> Path | str:
    """Normalise the location of a store: a Path for a local path or ``file://`` URL, a string for any other URL.

    :class:`~pathlib.Path` turns the two slashes of a URL into one; this is undone. Raises UserError for a URL that
    holds credentials, which belong in the environment.
    """
    match = _URL.fullmatch(str(path))
    if match is None:
        return Path(path)
    scheme, rest = match.groups()
    if scheme in ("file", "local"):
        return Path("/" + rest)
    if "@" in urlsplit(f"{scheme}://{rest}").netloc:
        raise UserError(f"a {scheme} URL must not hold credentials: set them in the environment")
    return f"{scheme}://{rest.rstrip('/')}"


def open_backend(path: Path | str) -> StoreBackend:
    """The backend at a local path or URL. Packages for URLs are imported when the backend is first used."""
    normalised = location(path)
    return LocalBackend(normalised) if isinstance(normalised, Path) else ObjectBackend(normalised)


__all__ = ["location", "open_backend"]
