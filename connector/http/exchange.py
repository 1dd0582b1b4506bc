"""One request and its complete answer: the client, its proxy, and the body, unpacked and as text."""

import codecs
import json
import logging
import os
import re
import ssl
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx

from connector.clock import timer
from connector.errors import ConfigurationError
from connector.http.bounds import Backend, Bounds, Interrupted, Late, Room, TooMuch, current

DEADLINE = 30.0
# Of a packed page, its headers, and everything before and after them.
MOST_BYTES = 16 * 1024 * 1024
SSL_TODO = "Set SSL_CERT_FILE to a file of certificates in PEM format, or SSL_CERT_DIR to a folder of them."

# httpx logs whole URLs at INFO.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.WARNING)


def open_client(url: str, *, certificates_of: Sequence[str] = (), **options: Any) -> httpx.Client:
    """Return a client for the host of a URL, with the environment's proxy and certificates.

    It follows no redirect and keeps no cookie. `certificates_of` are variables that name certificates to
    trust; they come before SSL_CERT_FILE. Raises ConfigurationError if proxy or certificates cannot work.
    """
    # Plain http goes to loopback only, without a proxy: otherwise keys would leave the machine unencrypted.
    encrypted = not url.lower().startswith("http:")
    variable = next((name for name in certificates_of if os.environ.get(name)), None)
    try:
        proxy = proxy_for(url) if encrypted else None
        if proxy and not httpx.URL(proxy).host:
            raise ValueError
        client = httpx.Client(
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            # Reading the certificates takes a tenth of a second, and plain http needs none.
            verify=_trusting(variable) if encrypted else False,
            proxy=proxy,
            trust_env=False,
            **options,
        )
    except ImportError:
        wrong = "A SOCKS proxy is set, but support for it is not installed."
        todo = "Set HTTPS_PROXY or ALL_PROXY to an HTTP proxy, or pip install 'httpx[socks]'."
    except (ValueError, httpx.InvalidURL):
        wrong = "The address of the proxy is not valid."
        todo = "Correct or unset HTTPS_PROXY, HTTP_PROXY or ALL_PROXY."
    except OSError:
        wrong = "The trusted certificates cannot be read."
        todo = f"Set {variable} to a file or folder of certificates in PEM format." if variable else SSL_TODO
    else:
        for transport in (client._transport, *client._mounts.values()):
            if isinstance(transport, httpx.HTTPTransport):
                # httpx offers no way to set it, but httpcore's pools ask it for each connection. tests/http/
                # notices if that changes.
                transport._pool._network_backend = Backend()
        return client
    # Raised here, because the library's errors quote addresses, which may contain a proxy's password.
    raise ConfigurationError(wrong, todo=todo)


def _trusting(variable: str | None) -> ssl.SSLContext:
    """Return a context that trusts the certificates in a variable's file or folder, or the usual ones."""
    path = os.environ.get(variable or "")
    if not path:
        return httpx.create_ssl_context()
    if Path(path).is_dir():
        return ssl.create_default_context(capath=path)
    return ssl.create_default_context(cafile=path)


# --- the proxy ---

# httpx makes a pattern of every entry of NO_PROXY, and fails on one that it cannot read, such as [::1]. Only
# one host matters here, so each entry is compared with it.
_WITH_PORT = re.compile(r"(\[.*\]|[^:]*):(\d+)")


def proxy_for(url: str) -> str | None:
    """Return the proxy for a URL, from HTTPS_PROXY or ALL_PROXY; None if NO_PROXY excludes its host."""
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or _is_excluded(parts.hostname or "", parts.port or 443, proxies.get("no", "")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_excluded(host: str, port: int, no_proxy: str) -> bool:
    """Return whether NO_PROXY names a host; an entry that cannot be read names none.

    Entries are separated by commas or blanks: `*`, a domain with or without `.` or `*.` before it, an
    address with or without brackets, or a network (10.0.0.0/8); each may have a port.
    """
    host, entries = host.lower().rstrip("."), re.split(r"[\s,;]+", no_proxy.lower())
    return any(_names(entry, host, port) for entry in entries)


def _names(entry: str, host: str, port: int) -> bool:
    entry = entry.rpartition("://")[2]
    if with_port := _WITH_PORT.fullmatch(entry):
        entry = with_port[1]
        if with_port[2] != str(port):
            return False
    if entry == "*":
        return True
    # In a network, brackets are around the address only: [fd00::]/8.
    entry = entry.replace("[", "").replace("]", "")
    if address := _address(host):
        return _holds(entry, address)
    domain = entry.removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _holds(entry: str, address: IPv4Address | IPv6Address) -> bool:
    try:
        return address in ip_network(entry, strict=False)
    except ValueError:
        return False


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


# --- the call ---


@dataclass(frozen=True)
class Reply:
    """An answer as it came: the body is still packed."""

    status: int
    reason: str
    headers: httpx.Headers
    body: bytes = field(repr=False)


def exchange(
    client: httpx.Client,
    method: str,
    url: str,
    *,
    seconds: float = DEADLINE,
    most: int = MOST_BYTES,
    elapsed: Callable[[], float] | None = None,
    stopped: Callable[[], bool] = lambda: False,
    on_sent: Callable[[], None] = lambda: None,
    room: Room | None = None,
    **options: Any,
) -> Reply:
    """Send one request and read its complete answer; raise Failed, without a key, URL or body.

    A large answer waits for the `room`; the caller releases it when it no longer needs the body.
    """
    request = client.build_request(method, url, **options)
    bounds = Bounds(
        request.url,
        seconds=seconds,
        most=most,
        elapsed=elapsed or timer(),
        stopped=stopped,
        on_sent=on_sent,
        room=room,
    )
    request.extensions["trace"] = bounds.trace
    current.bounds = bounds
    try:
        return _exchange(client, request, bounds)
    except (httpx.TransportError, httpx.DecodingError, UnicodeError, Late, TooMuch, Interrupted) as error:
        failure = bounds.failed(error)
    finally:
        current.bounds = None
    # Raised here, because httpx's errors hold the request, which holds the key.
    raise failure


def _exchange(client: httpx.Client, request: httpx.Request, bounds: Bounds) -> Reply:
    response = client.send(request, stream=True)
    try:
        body = bytearray()
        # Read packed: if httpx unpacked it, a body without content would escape the bounds.
        for chunk in cast(Iterable[bytes], response.stream):
            body += chunk
            bounds.left()
            if len(body) > bounds.most:
                raise TooMuch
    finally:
        response.close()
    return Reply(response.status_code, response.reason_phrase, response.headers, bytes(body))


# --- the body: as lenient as costs nothing, and bounded in size ---

GZIP, ZLIB, RAW = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS
GZIP_BEGINS = b"\x1f\x8b"
GZIP_NAMES = ("gzip", "x-gzip")
# Right and wrong names of codings that change nothing; the name of a charset is another.
NO_CODINGS = frozenset(("", "identity", "none", "null", "binary", "text", "plain", "7bit", "8bit", "chunked"))
# In bytes, unpacked at a time: what follows a member of gzip is copied once for each.
WINDOW = 4096

_CHARSET = re.compile(r"""charset\s*=\s*["']?([^\s"';,]+)""", re.IGNORECASE)
# Servers declare these by default, also for UTF-8.
BY_DEFAULT = frozenset(("iso8859-1", "ascii", "cp1252"))
# Codecs that are not charsets.
NO_CHARSETS = frozenset(("idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "utf-7"))


class Larger(Exception):
    """A body is larger than permitted after unpacking."""


def unpacked(body: bytes, encoding: str, most: int) -> bytes | None:
    """Return a body without its coding, None if that is unknown or wrong; raise Larger above `most` bytes."""
    named = (coding.strip() for coding in encoding.lower().split(","))
    codings = [coding for coding in named if coding not in NO_CODINGS and not _charset(coding)]
    if not codings or _not_packed(body, codings[0]):
        if len(body) > most:
            raise Larger
        return body
    # No server packs twice.
    return _without(body, codings[0], most) if len(codings) == 1 else None


def _not_packed(body: bytes, coding: str) -> bool:
    """Return whether a body is not packed although its headers say so, as after a proxy has unpacked it.

    Gzip always begins with the same bytes. In other codings, no packed JSON begins like a list or an object,
    but for a few bodies in codings that cannot be read here anyway.
    """
    if coding in GZIP_NAMES:
        return not body.startswith(GZIP_BEGINS)
    return body.lstrip()[:1] in (b"[", b"{")


def _without(body: bytes, coding: str, most: int) -> bytes | None:
    if coding in GZIP_NAMES:
        return _inflated(body, GZIP, most)
    if coding != "deflate":
        return None
    # Some servers leave out zlib's header.
    plain = _inflated(body, ZLIB, most)
    return _inflated(body, RAW, most) if plain is None else plain


def _inflated(body: bytes, kind: int, most: int) -> bytes | None:
    """Return the content of one stream, or with gzip of several in a row; None if it is damaged."""
    plain, at = bytearray(), 0
    while True:
        stream = zlib.decompressobj(kind)
        while not stream.eof:
            piece = body[at : at + WINDOW]
            at += len(piece)
            try:
                plain += stream.decompress(piece, most + 1 - len(plain))
            except zlib.error:
                return None
            if len(plain) > most or stream.unconsumed_tail:
                raise Larger
            if not piece and not stream.eof:
                return None
        at -= len(stream.unused_data)
        # Anything but a further member is padding.
        if kind != GZIP or body[at : at + 2] != GZIP_BEGINS:
            return bytes(plain)


def text_of(body: bytes, content_type: str = "") -> str:
    """Return a JSON body as text; a wrong byte does not spoil the page.

    By its standard, JSON is UTF-8 whatever is declared. But a body is decoded as something else if its bytes
    show that, or if that is declared and the body is no UTF-8.
    """
    shown = json.detect_encoding(body)
    declared = _CHARSET.search(content_type)
    charset = _charset(declared[1]) if declared else None
    if charset is None or shown != "utf-8":
        return body.decode(shown, "replace")
    if charset in BY_DEFAULT:
        try:
            return body.decode()
        except UnicodeDecodeError:
            pass
    return body.decode(charset, "replace")


def _charset(name: str) -> str | None:
    """Return the codec of a charset's name; None if it is unknown."""
    try:
        codec = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    known = codec._is_text_encoding and codec.name.replace("_", "-") not in NO_CHARSETS
    return codec.name if known else None
