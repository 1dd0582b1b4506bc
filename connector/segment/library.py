"""The official library, imported when first needed (it costs a third of a second), and kept quiet."""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

LEAST = {
    "segment": logging.CRITICAL,
    "urllib3": logging.WARNING,
    "requests": logging.WARNING,
    "charset_normalizer": logging.WARNING,
}


def hush() -> None:
    """Keep the library and what it stands on from logging messages, keys and addresses.

    The library's own warnings and errors print values and answers; each of them comes back to us
    as an exception besides, so nothing is lost with them.
    """
    for name, least in LEAST.items():
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, least))


@cache
def tracker() -> Callable[..., tuple[bool, dict[str, Any]]]:
    """The `track` of a client that builds messages and sends none."""
    from segment.analytics.client import Client

    hush()
    track: Callable[..., tuple[bool, dict[str, Any]]] = Client("builds-only", send=False).track
    return track


@cache
def poster() -> Callable[..., Any]:
    """The library's `post`, whose session follows no redirect and takes no login from ~/.netrc.

    Plain http goes to loopback only, and by no proxy: the key would leave the machine unencrypted.
    """
    from requests.adapters import HTTPAdapter
    from segment.analytics import request

    class Direct(HTTPAdapter):
        def send(self, *given: Any, **options: Any) -> Any:
            return super().send(*given, **{**options, "proxies": None})

    hush()
    # A key and personal data must not travel to another host.
    request._session.max_redirects = 0
    request._session.mount("http://", Direct())
    # requests would let a netrc entry, even `default`, replace the write key in the header.
    request._session.auth = _unchanged
    post: Callable[..., Any] = request.post
    return post


def _unchanged(prepared: Any) -> Any:
    return prepared
