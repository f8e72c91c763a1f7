"""Addresses without the secrets in them."""

from __future__ import annotations

import re

_SECRET_IN_QUERY = re.compile(
    r"([?&][^=&]*(?:pass|pw|secret|token|key|auth|cred)[^=&]*=)[^&]*", re.IGNORECASE
)
_CREDENTIALS = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")
_IS_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_SECRET_NAME = re.compile(
    r"(?<=[?&])((?:[^=&#]*[_-])?(?:password|passwd|pwd|secret|token|api_?key|access_?key|signature"
    r"|sig|credentials?)=)[^&#]*",
    re.IGNORECASE,
)


def masked(url: str) -> str:
    """Return the URL with credentials and secret-looking query values replaced by ``***``.

    For showing it: rather too much is hidden than too little.
    """
    scheme, colon, rest = url.partition(":")
    if "@" in rest and not rest.startswith("///"):
        slashes = "//" if rest.startswith("//") else ""
        rest = f"{slashes}***@{rest.rpartition('@')[2]}"
    return scheme + colon + _SECRET_IN_QUERY.sub(r"\1***", rest)


def without_credentials(location: str) -> str:
    """Return a location as it may be stored: in a URL, what lets one in is replaced by ``***``.

    That is a name and password before the host, and query values whose names say that they are
    secrets; all else tells one location from another and stays.
    """
    if not _IS_URL.match(location):
        return location
    return _SECRET_NAME.sub(r"\1***", _CREDENTIALS.sub(r"\1***@", location))
