"""Where Segment's API is."""

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from connector.errors import ConfigurationError

REGIONS = {"us": "https://api.segment.io", "eu": "https://events.eu1.segmentapis.com"}

_OWN_PATH = re.compile(r"(/v1(/batch)?)?/*$")
_SAFE = re.compile(r"[!-~]+")


def host_of(region: str, host: str | None) -> str:
    """The address that the library wants: the host if one is set, else the region's, without `/v1`."""
    if not host or not host.strip():
        return _of_region(region)
    host = host.strip()
    parts = _split(host if "://" in host else f"https://{host}")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise _wrong("is plain http, over which the key and people's words would travel readable")
    path = _OWN_PATH.sub("", parts.path.rstrip("/"))
    return f"{parts.scheme}://{parts.netloc}{path}"


def _of_region(region: str) -> str:
    if region.lower() not in REGIONS:
        raise ConfigurationError("SEGMENT_REGION is neither us nor eu.", todo="Set it to us or eu.")
    return REGIONS[region.lower()]


def _split(address: str) -> SplitResult:
    parts = _parsed(address)
    if parts is None or not parts.hostname or parts.scheme not in ("https", "http"):
        raise _wrong("is no address")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise _wrong("holds more than a host and a path")
    return parts


def _parsed(address: str) -> SplitResult | None:
    if not _SAFE.fullmatch(address) or "\\" in address:
        return None
    try:
        parts = urlsplit(address)
        _ = parts.port  # parsed, and found wrong, on access only
    except ValueError:
        return None
    return parts


def is_loopback(name: str) -> bool:
    """Whether a host name or address is this machine itself, where plain http shows nobody anything."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _wrong(how: str) -> ConfigurationError:
    # Without the value: somebody may have put a key into it.
    return ConfigurationError(
        f"SEGMENT_HOST {how}.", todo="Leave it out and set SEGMENT_REGION, or give an https:// address."
    )
